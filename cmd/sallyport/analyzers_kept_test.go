package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

const naming = `
rules:
  - {name: all, effect: allow, identity: "*", resource: "*", commands: ["*"], relations: "*"}
  - {name: stays, effect: block, identity: "*", resource: "*", commands: [delete], relations: public.visits}
  - {name: logs, effect: block, identity: "*", resource: "*", commands: [delete], relations: "public.log_*"}
  - {name: hides, effect: mask, identity: "*", resource: "*", fields: {public.patients.ssn: redact}}
  - {name: nowhere, effect: block, identity: "*", resource: "*", commands: [delete], relations: [public.never_there, "gone.*"]}
`

// namingScope is what the rules come to for an agent.
func namingScope(t *testing.T) *policy.Scope {
	t.Helper()
	p, err := rules.Parse(rules.File{Name: "policy.yaml", Data: []byte(naming)})
	if err != nil {
		t.Fatal(err)
	}
	id := intercept.Identity{Workload: "agent", Issuer: "i", Subject: "s", Expires: time.Now().Add(time.Hour)}
	return p.Scope(&policy.Session{Identity: id, Resource: "clinic", Database: "postgres"}, time.Now())
}

// drifts collects drift events.
type drifts struct {
	mu  sync.Mutex
	all []*events.Event
}

func (d *drifts) take(e *events.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, e)
}

// about returns the messages that have all of some words.
func (d *drifts) about(words ...string) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.all {
		if has(e.Message, words...) {
			out = append(out, e.Message)
		}
	}
	return out
}

// watching is the analyzer of a database whose names are kept in a folder.
func watching(t *testing.T, server, state string) (*analyzers, *drifts, query.Analyzer) {
	t.Helper()
	var d drifts
	a, _ := analyzersOf(t, server, "watcher", func(a *analyzers) { a.kept.state, a.drift = state, d.take })
	q, release, err := a.get(context.Background(), "clinic", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return a, &d, q
}

// What is renamed while the daemon is down is known when it is there again; so is what
// was renamed while it ran, and both are told of.
func TestNamesOutliveTheDaemon(t *testing.T) {
	server, state := startPostgres(t), t.TempDir()
	asAdmin(t, server, clinic+"; create table visits (id int); create table log_1 (id int); create table log_2 (id int); create table plain (id int)")
	sc := namingScope(t)
	look := func(q query.Analyzer, sql string) *query.Analysis {
		t.Helper()
		an, err := q.Analyze(context.Background(), query.Input{SQL: sql, Simple: true, Scope: sc})
		if err != nil {
			t.Fatal(err)
		}
		return an
	}
	is := func(q query.Analyzer, sql, was string) {
		t.Helper()
		if an := look(q, sql); !slices.Contains(an.Kin, policy.Object{Schema: "public", Name: was, Access: policy.Delete}) {
			t.Errorf("%s: it was %s once: %+v", sql, was, an)
		}
	}
	a, d, q := watching(t, server, state)
	look(q, "select ssn from patients")
	if told := d.about(""); len(told) != 2 || len(d.about("never_there", "nowhere", `database "postgres"`)) != 1 || len(d.about("gone.*", "nowhere")) != 1 {
		t.Errorf("%q", told)
	}
	asAdmin(t, server, "alter table visits rename to stays; alter table log_1 rename to log_3; alter table plain rename to plainer")
	if err := q.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	is(q, "delete from stays", "visits")
	if told := d.about("renamed"); len(told) != 1 || len(d.about(`rule "stays"`, "public.visits", "public.stays")) != 1 {
		t.Errorf("told: %q", told)
	}
	if _, err := q.Analyze(context.Background(), query.Input{SQL: "select 1", Simple: true, Scope: sc}); err != nil {
		t.Fatal(err)
	}
	a.close()
	files, err := filepath.Glob(filepath.Join(state, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	if fi, err := os.Stat(files[0]); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}

	asAdmin(t, server, "alter table stays rename to days; alter table log_2 rename to entries; alter table patients rename ssn to number; alter table patients rename to ill; create table patients (id int, ssn text)")
	a, d, q = watching(t, server, state)
	is(q, "delete from days", "visits")
	is(q, "delete from entries", "log_2")
	for _, sql := range []string{"select number from ill", "select id from ill", "delete from ill"} {
		if an := look(q, sql); an.Opaque == "" {
			t.Errorf("%s: %+v", sql, an)
		}
	}
	for _, told := range [][]string{
		{`rule "stays"`, "public.visits", "public.days"},
		{`rule "logs"`, "public.log_2", "public.entries"},
		{`rule "hides"`, "public.patients", "public.ill"},
		{"policy masks", "public.patients.ssn"},
		{"never_there"},
		{"gone.*"},
	} {
		if n := len(d.about(told...)); n != 1 {
			t.Errorf("%q is told %d times: %q", told, n, d.about(""))
		}
	}
	if n := len(d.about("")); n != 6 {
		t.Errorf("%d events: %q", n, d.about(""))
	}
	// Put right, it may drift again.
	asAdmin(t, server, "alter table days rename to visits")
	for range 2 {
		if err := q.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	asAdmin(t, server, "alter table visits rename to days")
	if err := q.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(d.about(`rule "stays"`)); n != 2 {
		t.Errorf("told %d times", n)
	}
	a.close()

	// What has its name by now is another database.
	asAdmin(t, server, "drop table days, entries, log_3, plainer, ill, patients")
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	of := b[strings.Index(string(b), `"of":"`)+6:]
	for name, broken := range map[string]string{
		"empty": "", "half": string(b[:len(b)/2]), "not JSON": "names", "of another version": strings.Replace(string(b), `"version":1`, `"version":2`, 1),
		"of another database": strings.Replace(string(b), `"database":"postgres"`, `"database":"other"`, 1), "without names": `{"version":1,"resource":"clinic","database":"postgres","of":"1/2","pins":[]}`,
		"null": `{"version":1,"resource":"clinic","database":"postgres","of":"1/2","names":null,"pins":null}`,
	} {
		if err := os.WriteFile(files[0], []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		a, _ := analyzersOf(t, server, "watcher", func(a *analyzers) { a.kept.state = state })
		if _, _, err := a.get(context.Background(), "clinic", "postgres"); err == nil || !has(err.Error(), files[0], "remove it") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(files[0]); err != nil || string(got) != broken {
			t.Errorf("%s: it was changed: %v", name, err)
		}
		a.close()
	}
	replaced := strings.Replace(string(b), `"of":"`+string(of[:strings.IndexByte(string(of), '"')]), `"of":"1/2`, 1)
	if err := os.WriteFile(files[0], []byte(replaced), 0o600); err != nil {
		t.Fatal(err)
	}
	_, d, q = watching(t, server, state)
	if told := d.about("is another one"); len(told) != 1 {
		t.Errorf("%q", told)
	}
	look(q, "select 1")
}

// The daemon keeps them over its own restart.
func TestNamesOverARestart(t *testing.T) {
	h := newHost(t, startPostgres(t))
	asAdmin(t, h.server, clinic+"; create table visits (id int)")
	h.catalog = ", catalog: {user: watcher, refresh: 100ms}"
	h.configure()
	h.write(h.policy, naming)
	h.serve()
	s := h.shell(h.token("agent-a"))
	if out, errs := s.run("select count(*) from visits"); !strings.HasSuffix(out, "0\n") {
		t.Fatalf("%q %s", out, errs)
	}
	h.stop()
	asAdmin(t, h.server, "alter table visits rename to stays")
	h.serve()
	s = h.shell(h.token("agent-a"))
	if out, errs := s.run("delete from stays"); !has(errs, `rule "stays" blocks delete on public.visits`) {
		t.Errorf("%q %s", out, errs)
	}
	h.stop()
	told := 0
	for _, e := range recorded(h.record(), events.Drift) {
		if has(e.Message, `rule "stays"`, "public.visits", "public.stays") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}
