package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// A client that has its token for a password is its workload, and nobody else
// is; the token is nowhere but in the daemon's memory.
func TestTokenInBand(t *testing.T) {
	server, serverLog := startPostgresWith(t, "-c log_connections=on -c log_statement=all")
	h := newHost(t, server)
	cgroup := redirecttest.Cgroup(t)
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	forger, key := oidctest.NewForger(t), oidctest.RSAKey(t, 2048)
	forger.Publish(oidctest.Public("k", "RS256", &key.PublicKey))
	h.covered = fmt.Sprintf(`, "%s"`, cgroup)
	h.trust = fmt.Sprintf(`}, {url: "%s", audience: sallyport, one_time: true, skew: 1s`, forger.URL)
	h.identity = "  recheck: 1s\n"
	h.catalog = fmt.Sprintf(`, accounts: [{workloads: [agent-a], user: postgres, password_file: "%s/p", auth: none}]`, h.dir)
	h.write(filepath.Join(h.dir, "p"), "unused\n")
	h.configure()
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.NewReplacer(`cgroup: "/sallyport.guarded/**", `, "", "subjects: [agent-a]", "subjects: [agent-a]\n      in_band: password").Replace(string(text)))
	h.serve()

	var sent []string
	psql := func(token, sql string) (string, error) {
		sent = append(sent, token)
		script := fmt.Sprintf("echo $$ > %s%s/cgroup.procs; exec setpriv --reuid %d --regid %d --clear-groups psql -w -X -A -t -h 127.0.0.1 -p %s -c \"$0\"", root, cgroup, agentUID, agentUID, port(server))
		cmd := exec.Command("bash", "-c", script, sql)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "PGUSER=whoever", "PGDATABASE=postgres", "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=20", "PGPASSWORD=" + token}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	good := h.issuer.Token("agent-a")
	if out, err := psql(good, "SELECT session_user"); err != nil || out != "postgres\n" {
		t.Fatalf("its own token: %q %v", out, err)
	}
	sign := func(change ...any) string {
		return oidctest.Sign(t, jose.RS256, key, map[jose.HeaderKey]any{"kid": "k"}, forger.Claims(change...))
	}
	// It can't know of those that were issued before it began.
	time.Sleep(3 * time.Second)
	once, now := sign("jti", "once"), time.Now().Unix()
	if out, err := psql(once, "SELECT 1"); err != nil || out != "1\n" {
		t.Errorf("one time: %q %v", out, err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, c := range []struct{ name, token, why string }{
		{"another workload's", h.issuer.Token("agent-b"), "may not present"},
		{"another subject", sign("jti", "2", "sub", "mallory"), "may not present"},
		{"replayed", once, "refused"},
		{"expired", sign("jti", "3", "exp", now-60), "expired"},
		{"another audience", sign("jti", "4", "aud", "elsewhere"), "audience"},
		{"alg none", encode([]byte(`{"alg":"none"}`)) + "." + encode(fmt.Appendf(nil, `{"iss":%q,"sub":"agent-a","aud":"sallyport","exp":%d}`, h.issuer.Issuer, now+300)) + ".", "alg"},
		{"huge", strings.Repeat("A", 64<<10), "refused"},
		{"no token", "swordfish-in-clear", "refused"},
	} {
		out, err := psql(c.token, "SELECT 'was in'")
		if err == nil || strings.Contains(out, "was in") || !has(out, "FATAL:  sallyport: refused", c.why, "HINT:") || strings.Contains(out, c.token) {
			t.Errorf("%s: %.400q %v", c.name, out, err)
		}
	}
	if out, err := psql("", "SELECT 1"); err == nil || !strings.Contains(out, "no password supplied") {
		t.Errorf("none: %q %v", out, err)
	}
	sent = sent[:len(sent)-1]
	// What root gave the process must name the same.
	t.Setenv("PGPASSWORD", good)
	if out, err := h.psql("agent-a", "-c", "SELECT 1"); err != nil || out != "1\n" {
		t.Errorf("both the same: %q %v", out, err)
	}
	if out, err := h.psql("agent-b", "-c", "SELECT 1"); err == nil || !strings.Contains(out, "two tokens disagree") {
		t.Errorf("two: %q %v", out, err)
	}
	// A session outlives a look, and no token.
	if out, err := psql(good, "SELECT pg_sleep(3)"); err != nil {
		t.Errorf("while it holds: %q %v", out, err)
	}
	began := time.Now()
	if out, err := psql(h.issuer.Token("agent-a", "--life", "6s"), "SELECT pg_sleep(120)"); err == nil || !strings.Contains(out, "FATAL") || time.Since(began) > 25*time.Second {
		t.Errorf("expired within: %q %v", out, err)
	}
	h.stop()
	all := h.record()
	in, out := 0, 0
	for _, e := range recorded(all, events.Login) {
		switch {
		case e.Verdict != events.Blocked.String():
			in++
			if e.Workload != "agent-a" || e.Actor != "agent-a" || e.Proof != "oidc" || !strings.Contains(strings.Join(e.OfActor.Bound, " "), "pidfd") {
				t.Errorf("%+v", e)
			}
		case e.Workload != "agent-a" || e.Actor != "" || e.Proof != "" || e.Rules[0] != "identity":
			t.Errorf("%+v", e)
		default:
			out++
		}
	}
	if in != 5 || out != 9 {
		t.Errorf("%d came in and %d did not", in, out)
	}
	ended := false
	for _, e := range recorded(all, events.Block) {
		ended = ended || has(e.Reason, "the session is ended", "token has expired")
	}
	if !ended {
		t.Error("the end of the session is not on the record")
	}
	h.holdsNo(sent...)
	log, err := os.ReadFile(serverLog)
	if err != nil || !strings.Contains(string(log), "session_user") {
		t.Errorf("the server's log: %v %s", err, log)
	}
	for _, s := range sent {
		if strings.Contains(string(log), s) {
			t.Errorf("the server's log holds %.40q", s)
		}
	}
}
