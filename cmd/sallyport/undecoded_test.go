package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

const unreadAll = `rules:
  - {name: unread, effect: allow, identity: {workload: agent-a}, resource: clinic, commands: ["*", function_call, replication, undecoded], relations: "*"}
`

// An agent that takes the server's own certificate only is refused, then let have
// it, for as long as the policy, its identity and sallyport last; the record tells
// of all of it.
func TestUndecodedThroughThePassage(t *testing.T) {
	options, ca := serverTLS(t)
	server, _ := startPostgresWith(t, options)
	h := newHost(t, server)
	h.identity = "  recheck: 1s\n"
	h.catalog = ", catalog: {user: postgres}, tls: {server: verify-full, ca: " + ca + ", name: db, names: [db], undecoded: fallback}"
	h.more = "authority: {enabled: true}\n"
	h.configure()
	h.write(h.policy, unreadAll)
	h.serve()
	roots := filepath.Join(h.dir, "roots.pem")
	b, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(roots, b, 0o644); err != nil {
		t.Fatal(err)
	}
	pinned := "host=db hostaddr=127.0.0.1 port=" + port(server) + " sslmode=verify-full sslrootcert=" + roots
	token := h.give("token", "agent-a")
	ask := func(settings string) string {
		out, _ := h.agent(token, "psql", "-X", "-A", "-t", settings, "-c", "SELECT 'in', ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").CombinedOutput()
		return string(out)
	}
	refused := func(step string) {
		t.Helper()
		if out := ask(pinned); !strings.Contains(out, "certificate verify failed") {
			t.Errorf("%s: %q", step, out)
		}
	}
	open := func() *shell {
		t.Helper()
		s := h.shell(token, pinned)
		if out, errs := s.run("select 1"); out != "1\n" {
			t.Fatalf("%q %q", out, errs)
		}
		return s
	}
	lost := func(s *shell) { // nobody can tell its client why
		t.Helper()
		within(t, "the session ends", func() bool {
			s.run("select 1")
			return strings.Contains(s.errs.String(), "connection to server was lost")
		})
	}
	refused("at first")
	if out := ask(pinned); out != "in|t\n" {
		t.Errorf("then: %q", out)
	}
	// In clear it is read, and what is read has its record.
	if out := ask("host=127.0.0.1 sslmode=disable port=" + port(server)); out != "in|t\n" {
		t.Errorf("in clear: %q", out)
	}

	if n := h.metric(`sallyport_undecoded_total{resource="clinic"}`); n != "1" {
		t.Errorf("%q are counted", n)
	}

	// Revoked.
	s := open()
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	lost(s)
	token = h.give("token", "agent-a")

	// The policy masks something, of whomever.
	s = open()
	h.write(h.policy, unreadAll+`  - {name: mask, effect: mask, identity: "*", resource: "*", condition: session.user == "nobody", fields: {public.t.a: "null"}}
`)
	h.reload("reloaded")
	lost(s)
	refused("with a mask")

	// The resource has no such way any more.
	h.write(h.policy, unreadAll)
	h.reload("reloaded")
	s = open()
	h.catalog = strings.Replace(h.catalog, "undecoded: fallback", "undecoded: never", 1)
	h.configure()
	h.reload("reloaded")
	lost(s)
	refused("without the way")

	// sallyport ends: what is in flight can't be seen, and is not waited for.
	h.catalog = strings.Replace(h.catalog, "undecoded: never", "undecoded: always", 1)
	h.configure()
	h.reload("reloaded")
	s = open()
	go s.run("select pg_sleep(60)")
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	h.stop()
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("it took %v to end", d)
	}

	var marks, logins, ends, changed, tls, statements int
	record := h.record()
	h.alerts("undecoded")
	for _, e := range record {
		switch {
		case e.Undecoded && e.ClientTLS.Name != "db", e.Undecoded && e.Kind == events.Statement.String():
			t.Errorf("%+v", e)
		case e.Undecoded:
			marks++
		}
		switch {
		case e.Undecoded && e.Kind == events.Login.String() && e.Verdict == "allow" && e.Rules[0] == "unread":
			logins++
		case e.Undecoded && e.Kind == events.SessionClose.String() && e.Bytes > 1000 && e.BytesIn > 300:
			ends++
		case e.Undecoded && e.Kind == events.Block.String() && e.Rules[0] == "changed":
			changed++
		case e.Kind == events.Login.String() && e.Verdict == "block" && e.Rules[0] == "tls":
			tls++
		case e.Kind == events.Statement.String():
			statements++
		}
	}
	// Each of five has its login, its begin and its end; two were ended by a
	// change, one by its identity.
	if logins != 5 || ends != 5 || changed != 2 || marks != 5*3+3 || tls != 3 || statements != 1 {
		t.Errorf("%d logins, %d ends, %d by a change, %d marks, %d refused, %d statements", logins, ends, changed, marks, tls, statements)
	}
}

// What is remembered of workloads has an end, in time and in number.
func TestUnsecured(t *testing.T) {
	var u unsecured
	now := time.Now()
	k := unsecuredKey{"w", "r"}
	u.note(k, now)
	for _, c := range []struct {
		k    unsecuredKey
		at   time.Duration
		want bool
	}{{k, 0, true}, {k, unsecuredFor - 1, true}, {k, unsecuredFor, false}, {unsecuredKey{"w", "other"}, 0, false}, {unsecuredKey{"other", "r"}, 0, false}} {
		if got := u.lately(c.k, now.Add(c.at)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for i := range 2 * maxUnsecured {
		u.note(unsecuredKey{fmt.Sprint(i), "r"}, now)
	}
	if len(u.until) != maxUnsecured || !u.lately(k, now) {
		t.Errorf("%d are remembered", len(u.until))
	}
	late := unsecuredKey{"late", "r"}
	if u.note(late, now); u.lately(late, now) {
		t.Error("one too many is remembered")
	}
	now = now.Add(unsecuredFor)
	if u.note(late, now); !u.lately(late, now) || len(u.until) != 1 {
		t.Errorf("%d are remembered after their time", len(u.until))
	}
}

// Only a resource at which clients log in themselves has the way.
func TestUndecodedHasNoAccount(t *testing.T) {
	d := &daemon{}
	for _, c := range []struct {
		r    config.Resource
		path string
		want bool
	}{
		{config.Resource{Login: config.LoginPass, TLS: config.TLS{Undecoded: config.Always}}, "", true},
		{config.Resource{Login: config.LoginPass, TLS: config.TLS{Undecoded: config.Always}}, "/run/s", false},
		{config.Resource{Login: config.LoginPass, TLS: config.TLS{Undecoded: config.Never}}, "", false},
		{config.Resource{Login: config.LoginPass}, "", false},
		{config.Resource{Login: config.LoginBroker, TLS: config.TLS{Undecoded: config.Always}}, "", false},
	} {
		p := &passage{flow: &intercept.Flow{Path: c.path}, resource: &c.r}
		if got := d.undecoded(p, nil) != nil; got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
