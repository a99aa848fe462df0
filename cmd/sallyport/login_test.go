package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

// logIn starts a log-in and returns it when it waits for a person, with the
// code that it shows.
func (h *host) logIn(home string, args ...string) (cmd *exec.Cmd, said *syncBuffer, code string) {
	h.t.Helper()
	args = append([]string{"login", "--issuer", h.issuer.Issuer, "--client", "people", "--scope", "audience:sallyport"}, args...)
	cmd, said = exec.Command("/proc/self/exe", args...), &syncBuffer{}
	cmd.Env = []string{"SALLYPORT_TEST=1", "HOME=" + home, "PATH=/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	shows := regexp.MustCompile(`that it shows ([A-Z-]+)\n`)
	within(h.t, "a code is shown", func() bool {
		m := shows.FindStringSubmatch(said.String())
		if m != nil {
			code = m[1]
		}
		return m != nil
	})
	return cmd, said, code
}

// A person logs in, and what they start is theirs.
func TestLogin(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.issuer = oidctest.Start(t, "--device", "people")
	h.subject = "agent-a, alice"
	h.configure()
	h.serve()
	home := filepath.Join(h.dir, "home")
	cmd, said, code := h.logIn(home)
	h.issuer.Approve(code, "alice")
	if err := cmd.Wait(); err != nil || !has(said.String(), "alice is logged in until") {
		t.Fatalf("%v\n%s", err, said)
	}
	file := filepath.Join(home, ".local/state/sallyport/token")
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", fi, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || strings.Contains(said.String(), strings.TrimSpace(string(raw))) {
		t.Fatalf("the token is shown, or not there: %v", err)
	}
	if out, err := h.psqlWith(file, "-c", "select 1"); err != nil || out != "1\n" {
		t.Errorf("%q %v", out, err)
	}
	// Somebody who denies is nobody, and what was there stays.
	cmd, said, code = h.logIn(home)
	h.issuer.Approve(code, "")
	if err := cmd.Wait(); err == nil || !has(said.String(), "denied") {
		t.Errorf("%v\n%s", err, said)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(raw) {
		t.Errorf("the token of before is gone: %v", err)
	}
	// A token that the passage would refuse is not kept.
	cmd, said, code = h.logIn(home, "--audience", "elsewhere")
	h.issuer.Approve(code, "alice")
	if err := cmd.Wait(); err == nil || !has(said.String(), `not for the audience "elsewhere"`) {
		t.Errorf("%v\n%s", err, said)
	}
	h.stop()
	l := recorded(h.record(), events.Login)
	if len(l) != 1 || l[0].Actor != "alice" || l[0].Principal != "" || l[0].Proof != "oidc+pidfd" || has(strings.Join(l[0].OfActor.Bound, " "), "audience") {
		t.Errorf("%+v", l)
	}
	left, err := filepath.Glob(filepath.Join(home, ".local/state/sallyport/*"))
	if hidden, _ := filepath.Glob(filepath.Join(home, ".local/state/sallyport/.*")); err != nil || len(left) != 1 || len(hidden) > 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
}

// What an agent does for a person is recorded as theirs, and proved by their own
// token; it ends with that, and a token that says otherwise is refused.
func TestExecFor(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.identity = "  recheck: 1s\n"
	h.configure()
	h.write(h.policy, `rules:
  - name: doctors
    identity: {workload: agent-a, principal: alice, proof: "oidc+exec"}
    resource: clinic
    commands: "*"
    relations: "*"
    condition: identity.principal_proof == 'oidc+exec' && identity.principal_claims.sub == "alice" && identity.claims.sub == "agent-a"
    effect: allow
`)
	h.serve()
	own, alice := h.token("agent-a"), h.give("alice", "alice")
	if err := os.Chown(alice, 64109, 64109); err != nil { // a person is neither root nor the agent
		t.Fatal(err)
	}
	psql := []string{"psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", port(h.server), "-c"}
	as := func(own, person string, sql string) (string, error) {
		cmd := h.agent(own, append(append([]string{}, psql...), sql)...)
		if person != "" {
			cmd.Args = slices.Insert(cmd.Args, slices.Index(cmd.Args, "--user"), "--for", person)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := as(own, alice, "select 1"); err != nil || out != "1\n" {
		t.Fatalf("for alice: %q %v", out, err)
	}
	for name, c := range map[string]struct{ own, person, why string }{
		"for nobody":         {own, "", "FATAL"},
		"for two":            {h.give("bob", "agent-a", "--for", "agent-b:secret-b"), alice, "acts for"},
		"by another's token": {own, h.give("acting", "agent-a", "--for", "alice:secret-alice"), "acts for them"},
	} {
		if out, err := as(c.own, c.person, "select 1"); err == nil || !has(out, c.why) {
			t.Errorf("%s: %q %v", name, out, err)
		}
	}
	// Logged out: it ends.
	began := time.Now()
	ended := make(chan string, 1)
	go func() {
		out, _ := as(own, alice, "select pg_sleep(120)")
		ended <- out
	}()
	within(t, "it runs", func() bool {
		out, _ := as(own, alice, "select count(*) from pg_stat_activity where query = 'select pg_sleep(120)'")
		return out == "1\n"
	})
	if err := os.Remove(alice); err != nil {
		t.Fatal(err)
	}
	if out := <-ended; !has(out, "terminat") || time.Since(began) > 25*time.Second {
		t.Errorf("after %v: %q", time.Since(began), out)
	}
	h.stop()
	for _, l := range recorded(h.record(), events.Login) {
		if l.Verdict == "allow" && (l.Actor != "agent-a" || l.Principal != "alice" || l.Vouches != h.issuer.Issuer || l.Proof != "oidc+exec" ||
			l.OfPrincipal.By != "oidc+exec" || l.OfActor.By != "oidc+pidfd" || l.User != "postgres") {
			t.Errorf("%+v", l)
		}
	}
}
