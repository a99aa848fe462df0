package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

const masked = allowAll + `  - name: hide
    effect: mask
    identity: "*"
    resource: clinic
    fields: {public.patients.ssn: {mask: partial, last: 2}}
`

const clinic = "create table patients (id int primary key, ssn text); insert into patients values (1, '123-45-6789');" +
	"create role watcher login; create role agent login; grant select on patients to agent"

// asAdmin runs SQL past the passage.
func asAdmin(t *testing.T, server, sql string) string {
	t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, "postgres://postgres@"+server+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	rs, err := c.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if last := rs[len(rs)-1]; len(last.Rows) == 1 {
		return string(last.Rows[0][0])
	}
	return ""
}

// A masking policy through the whole of it; the catalog's changes are seen, and
// what policy and catalog disagree about is told once.
func TestMasksAndDrift(t *testing.T) {
	h := newHost(t, startPostgres(t))
	asAdmin(t, h.server, clinic)
	h.catalog = ", catalog: {user: watcher, refresh: 100ms}"
	h.configure()
	h.write(h.policy, masked)
	h.serve()
	s := h.shell(h.token("agent-a"))
	if out, errs := s.run("select ssn from patients"); !strings.HasSuffix(out, "89\n") || has(out, "123") {
		t.Fatalf("%q %s", out, errs)
	}
	if h.metric("sallyport_catalogs") != "1" {
		t.Errorf("%s catalogs are watched", h.metric("sallyport_catalogs"))
	}
	// The column goes, and another relation of its name comes without it.
	asAdmin(t, h.server, "drop table patients; create table patients (id int primary key, social text); insert into patients values (1, '123-45-6789')")
	within(t, "the statement is refused", func() bool {
		before := len(s.errs.String())
		out, errs := s.run("select social from patients")
		return out == "" && has(errs[before:], "sallyport")
	})
	time.Sleep(500 * time.Millisecond)
	asAdmin(t, h.server, "create table other ()") // seen, and nothing new in it
	time.Sleep(500 * time.Millisecond)
	h.stop()
	drift := recorded(h.record(), events.Drift)
	h.alerts("drift")
	if len(drift) != 1 || !has(drift[0].Message, "clinic", "public.patients.ssn") || drift[0].Masked[0] != "public.patients.ssn" {
		t.Errorf("%+v", drift)
	}
}

// analyzersOf returns the analyzers of a resource whose catalog a user reads.
func analyzersOf(t *testing.T, server, user string, change func(*analyzers)) (*analyzers, *syncBuffer) {
	t.Helper()
	var log syncBuffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	var al alarms
	a := newAnalyzers(l, &al, func(*events.Event) {})
	if change != nil {
		change(a)
	}
	commitUser(t, a, server, user)
	t.Cleanup(a.close)
	return a, &log
}

func commitUser(t *testing.T, a *analyzers, server, user string) {
	t.Helper()
	cfg, err := config.Parse(fmt.Appendf(nil, `host: h
resources:
  - {name: clinic, protocol: postgres, addresses: ["%s"], catalog: {user: %s, refresh: 100ms}}
  - {name: plain, protocol: postgres, addresses: ["127.0.0.1:1"]}
identity: {issuers: [{url: "https://i.example", audience: a}]}
`, server, user), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.prepare(cfg); err != nil {
		t.Fatal(err)
	}
	// As a reload does: what is as it was is kept.
	was := map[string]*upstream{}
	for name, acc := range a.access {
		was[name] = acc.upstream
	}
	up, err := newUpstreams(cfg, nil, was)
	if err != nil {
		t.Fatal(err)
	}
	a.commit(&setting{cfg: cfg, upstreams: up})
}

func analyze(t *testing.T, q query.Analyzer, sql string) (*query.Analysis, error) {
	t.Helper()
	return q.Analyze(context.Background(), query.Input{SQL: sql, Simple: true, Scope: &policy.Scope{
		ID:    "s",
		Masks: map[policy.Relation]map[string]policy.Mask{{Schema: "public", Name: "patients"}: {"ssn": {Kind: "redact"}}},
	}})
}

func TestAnalyzersAreShared(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic)
	const watching = "select count(*) from pg_stat_activity where usename = 'watcher'"
	a, _ := analyzersOf(t, server, "watcher", func(a *analyzers) { a.idle = 300 * time.Millisecond })
	ctx := context.Background()
	got := make([]query.Analyzer, 20)
	release := make([]func(), len(got))
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], release[i], err = a.get(ctx, "clinic", "postgres"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := asAdmin(t, server, watching); n != "1" {
		t.Errorf("%s side connections", n)
	}
	for i, q := range got {
		if q != got[0] {
			t.Error("two analyzers of one database")
		}
		if i > 0 {
			release[i]()
			release[i]() // once is enough, twice does no harm
		}
	}
	if an, err := analyze(t, got[0], "select ssn from patients"); err != nil || an.SQL == "" {
		t.Errorf("%+v %v", an, err)
	}
	time.Sleep(time.Second)
	if a.count() != 1 || asAdmin(t, server, watching) != "1" {
		t.Error("closed under its session")
	}
	release[0]()
	again, releaseAgain, err := a.get(ctx, "clinic", "postgres")
	if err != nil || again != got[0] {
		t.Errorf("opened anew at once: %v", err)
	}
	time.Sleep(time.Second)
	if a.count() != 1 {
		t.Error("closed under its second session")
	}
	releaseAgain()
	within(t, "it closes", func() bool { return a.count() == 0 && asAdmin(t, server, watching) == "0" })
}

func TestAnalyzersRefuse(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic)
	a, _ := analyzersOf(t, server, "watcher", nil)
	ctx := context.Background()
	for want, c := range map[string][2]string{
		"resource plain has no catalog": {"plain", "postgres"},
		"does not exist":                {"clinic", "no_such_db"},
	} {
		if _, _, err := a.get(ctx, c[0], c[1]); err == nil || !has(err.Error(), want) {
			t.Errorf("%v: %v", c, err)
		}
	}
	within(t, "nothing is kept of a failure", func() bool { return a.count() == 0 })
	// A database that is there later is found later.
	asAdmin(t, server, "create database no_such_db")
	_, release, err := a.get(ctx, "clinic", "no_such_db")
	if err != nil {
		t.Fatal(err)
	}
	release()
	// Nobody waits for longer than they want to.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := a.get(gone, "clinic", "template1"); err == nil {
		// Opened before it was looked at: fine, but then it must be usable.
		t.Log("opened at once")
	}
	a.close()
	if _, _, err := a.get(ctx, "clinic", "postgres"); err == nil || !has(err.Error(), "stopping") {
		t.Error(err)
	}
}

func TestAnalyzersAreBounded(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic)
	a, _ := analyzersOf(t, server, "watcher", nil)
	a.mu.Lock()
	// As if so many databases were in use.
	for i := range maxCatalogs {
		key := catalogKey{a.access["clinic"], fmt.Sprint("db", i)}
		a.open[key] = &analyzer{all: a, key: key, refs: 1, stop: make(chan struct{})}
	}
	a.mu.Unlock()
	if _, _, err := a.get(context.Background(), "clinic", "postgres"); err == nil || !has(err.Error(), "64 databases are in use") {
		t.Error(err)
	}
	a.mu.Lock()
	a.open[catalogKey{a.access["clinic"], "db7"}].refs = 0
	a.mu.Unlock()
	_, release, err := a.get(context.Background(), "clinic", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// Another account for the catalog holds for new sessions; old ones go on.
func TestAnalyzersChange(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic+"; create role other login")
	a, _ := analyzersOf(t, server, "watcher", nil)
	old, releaseOld, err := a.get(context.Background(), "clinic", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	commitUser(t, a, server, "other")
	now, releaseNow, err := a.get(context.Background(), "clinic", "postgres")
	if err != nil || now == old {
		t.Fatalf("the old one: %v", err)
	}
	if _, err := analyze(t, old, "select 1 from patients"); err != nil {
		t.Error(err)
	}
	releaseOld()
	within(t, "the old one closes at once", func() bool {
		return asAdmin(t, server, "select count(*) from pg_stat_activity where usename = 'watcher'") == "0"
	})
	releaseNow()
}

// A catalog that can't be looked at for too long is no longer believed.
func TestAnalyzersGrowStale(t *testing.T) {
	server := startPostgres(t)
	asAdmin(t, server, clinic)
	a, log := analyzersOf(t, server, "watcher", func(a *analyzers) { a.stale = time.Second })
	q, release, err := a.get(context.Background(), "clinic", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	version := q.Version()
	time.Sleep(1500 * time.Millisecond)
	if _, err := analyze(t, q, "select 1 from patients"); err != nil || q.Version() != version {
		t.Errorf("stale while it is looked at: %v", err)
	}
	asAdmin(t, server, "alter role watcher nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename = 'watcher'")
	within(t, "statements are refused", func() bool {
		_, err := analyze(t, q, "select 1 from patients")
		return err != nil && has(err.Error(), "could not be read for 1s")
	})
	if q.Version() == version {
		t.Error("analyses that were kept would still be used")
	}
	if !has(log.String(), "can't be read") {
		t.Error("nothing in the log")
	}
	asAdmin(t, server, "alter role watcher login")
	within(t, "it recovers", func() bool {
		_, err := analyze(t, q, "select 1 from patients")
		return err == nil && q.Version() == version
	})
}
