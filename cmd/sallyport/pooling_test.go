package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
)

// poolingExample returns a block of docs/pooling.md.
func poolingExample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/pooling.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```[a-z]*\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("no example %q", name)
	}
	return string(m[1])
}

// The page's example works as it says: with psql, pgx and psycopg each statement
// is for whom it is said to be, and the tokens are found nowhere.
func TestPoolingPage(t *testing.T) {
	server, serverLog := startPostgresWith(t, "-c log_statement=all -c log_min_messages=debug1")
	h := newHost(t, server)
	here := func(s string) string {
		return strings.NewReplacer("https://login.example.com", h.issuer.Issuer, "1201", strconv.Itoa(agentUID)).Replace(s)
	}
	h.catalog = ", catalog: {user: postgres}"
	h.configure()
	cfg, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	with := func(identity string) {
		h.write(h.config, regexp.MustCompile(`(?s)identity:\n.*evidence:\n`).ReplaceAllLiteralString(string(cfg), here(identity)+"evidence:\n"))
	}
	configuration := strings.Replace(poolingExample(t, "configuration"), "audience: sallyport\n", "audience: sallyport\n      skew: 1s\n", 1)
	with(configuration)
	h.write(h.policy, here(poolingExample(t, "policy")))
	asAdmin(t, server, "create table patients (id int primary key, ssn text); insert into patients values (1, '911-47-0001')")
	h.serve()

	alice, other := h.issuer.Token("alice"), h.issuer.Token("agent-b")
	short := h.issuer.Token("agent-b", "--life", "3s")
	acts := h.issuer.Token("agent-b", "--for", "alice:secret-alice")
	self := h.token("agent-a")
	const read = "select ssn from patients where id = 1"
	s := h.shell(self)
	say := func(sql, want, why string) {
		t.Helper()
		before := len(s.errs.String())
		out, _ := s.run(sql)
		if why != "" {
			within(t, sql[:min(len(sql), 12)]+": "+why, func() bool { return has(s.errs.String()[before:], why) })
		}
		if errs := s.errs.String()[before:]; out != want || (errs != "") != (why != "") {
			t.Errorf("%.30s: %q %q, want %q %q", sql, out, errs, want, why)
		}
	}
	say(read, "", "reads for people only")
	say("set sallyport.principal = '"+alice+"'", "", "")
	say(read, "911-47-0001\n", "")
	say("set sallyport.principal = '"+other+"'", "", "")
	say(read, "***-**-0001\n", "")
	say("set sallyport.principal = '"+alice[:strings.LastIndex(alice, ".")]+other[strings.LastIndex(other, "."):]+"'", "", "is not proved")
	say(read, "", "reads for people only")
	say("set sallyport.principal = '"+acts+"'", "", "of somebody who acts for them")
	say("begin", "", "")
	say("set local sallyport.principal = '"+alice+"'", "", "")
	say(read, "911-47-0001\n", "")
	say("commit", "", "")
	say(read, "", "reads for people only")
	say("set sallyport.principal = '"+short+"'", "", "")
	say(read, "***-**-0001\n", "")
	within(t, "its token expires", func() bool { s.run(read); return has(s.errs.String(), "for has expired") })
	say("set sallyport.principal = '"+alice+"'", "", "")
	say(read, "911-47-0001\n", "")

	// Drivers, as the page has them.
	src, err := os.ReadFile("pooling_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(src), poolingExample(t, "pgx")) {
		t.Error("the page shows another function than the one that is tried")
	}
	want := "911-47-0001\n***-**-0001\n911-47-0001\n"
	dsn := fmt.Sprintf("host=127.0.0.1 port=%s sslmode=disable", port(server))
	pgx := h.agent(self, h.binary(), portalCommand)
	pgx.Env = append(pgx.Env, "PORTAL_TOKENS="+alice+" "+other+" "+alice, "PORTAL_DSN="+dsn+" default_query_exec_mode=exec")
	if out, err := pgx.CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("pgx: %v %s", err, out)
	}
	py := h.agent(self, "/usr/bin/python3", "-c", poolingExample(t, "psycopg")+`
import os, psycopg
conn = psycopg.connect(os.environ["PORTAL_DSN"], autocommit=True, prepare_threshold=None)
for token in os.environ["PORTAL_TOKENS"].split():
    with acting_for(conn, token), conn.transaction():
        print(conn.execute("SELECT ssn FROM patients WHERE id = %s", [1]).fetchone()[0])
`)
	py.Env = append(py.Env, "PORTAL_TOKENS="+alice+" "+other+" "+alice, "PORTAL_DSN="+dsn)
	if out, err := py.CombinedOutput(); err != nil || string(out) != want {
		t.Errorf("psycopg: %v %s", err, out)
	}

	// The same token, of a workload that may not speak for anybody.
	with(strings.Replace(configuration, "speaks_for: true", "speaks_for: false", 1))
	h.reload("msg=reloaded process=loader")
	if out, err := h.psqlWith(self, "-c", "set sallyport.principal = '"+alice+"'"); err == nil || !has(out, "speaks_for") {
		t.Errorf("replayed by another workload: %q %v", out, err)
	}
	log := h.log
	h.stop()

	seen := map[string]int{}
	for _, e := range recorded(h.record(), events.Statement) {
		if e.Command == "select" {
			seen[e.Principal+" "+e.Verdict+" "+e.OfPrincipal.By+" "+strings.TrimPrefix(e.Vouches, h.issuer.Issuer)]++
		}
		if e.Pooled != (e.Principal == "") || e.Workload != "portal" || e.Actor != "agent-a" {
			t.Errorf("%+v", e)
		}
	}
	for _, who := range []string{"alice allow token-bearer ", "agent-b mask token-bearer "} {
		if seen[who] < 4 || len(seen) != 2 {
			t.Errorf("recorded: %v", seen)
		}
	}
	secrets := []string{alice, other, short, acts}
	nowhere := func(where, text string) {
		for i, s := range secrets {
			if parts := strings.Split(s, "."); strings.Contains(text, parts[1]) || strings.Contains(text, parts[2]) {
				t.Errorf("token %d is in %s", i, where)
			}
		}
	}
	nowhere("the log", log.String())
	b, err := os.ReadFile(serverLog)
	if err != nil {
		t.Fatal(err)
	}
	if !has(string(b), "sallyport.principal = 'proved'") {
		t.Error("the server's log tells of no statement")
	}
	nowhere("the server's log", string(b))
	err = filepath.WalkDir(filepath.Join(h.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		nowhere(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
