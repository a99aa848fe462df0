package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/broker/baotest"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const (
	firstSecret  = "FIRST-UPSTREAM-SECRET"
	secondSecret = "SECOND-UPSTREAM-SECRET"
)

// guardedAccounts is a host before a server that lets nobody in without a
// password.
func guardedAccounts(t *testing.T) (*host, *postgrestest.Server) {
	t.Helper()
	s, err := postgrestest.Start("SET password_encryption = 'scram-sha-256'; CREATE ROLE billing LOGIN PASSWORD '" + firstSecret + "';" +
		"CREATE ROLE gateway LOGIN NOINHERIT PASSWORD '" + firstSecret + "'; CREATE ROLE \"agent-a\"; GRANT \"agent-a\" TO gateway;" +
		"CREATE ROLE vault SUPERUSER LOGIN PASSWORD 'vault-secret'; CREATE ROLE reports LOGIN PASSWORD 'x'")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	if _, err := s.Authenticate("host all all 127.0.0.1/32 scram-sha-256\n"); err != nil {
		t.Fatal(err)
	}
	return newHost(t, s.Addr.String()), s
}

// example has a configuration as docs/credentials.md shows it: the nth of its
// blocks of YAML, at this host.
func (h *host) example(n int, more ...string) {
	h.t.Helper()
	doc, err := os.ReadFile("../../docs/credentials.md")
	if err != nil {
		h.t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)[n][1]
	block = strings.NewReplacer(append(more, "192.0.2.7:5432", h.server, "/etc/sallyport", h.dir)...).Replace(block)
	h.configure()
	text, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(h.config, regexp.MustCompile(`(?m)^resources:\n  - .*\n`).ReplaceAllLiteralString(string(text), block))
}

// holdsNo fails where a secret is found in what sallyport wrote.
func (h *host) holdsNo(secrets ...string) {
	h.t.Helper()
	look := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				h.t.Errorf("%s holds %s", where, s)
			}
		}
	}
	look("the log", h.log.String())
	err := filepath.WalkDir(filepath.Join(h.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, string(b))
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
}

// The example with a file, at work: the agent has no password, the account's
// is changed without a reload and without harm to an open session, and is
// nowhere but in the daemon's memory.
func TestAccountFromFile(t *testing.T) {
	h, s := guardedAccounts(t)
	file := filepath.Join(h.dir, "billing.password")
	h.write(file, firstSecret+"\n")
	h.example(0)
	h.serve()
	if out, err := h.psql("agent-a", "-c", "SELECT session_user"); err != nil || out != "billing\n" {
		t.Fatalf("%v: %q; log:\n%s", err, out, h.log)
	}
	open := h.shell(h.token("agent-a"))
	open.run("SELECT 1")
	if err := s.Exec(context.Background(), "SET password_encryption = 'scram-sha-256'; ALTER ROLE billing PASSWORD '"+secondSecret+"'"); err != nil {
		t.Fatal(err)
	}
	if out, err := h.psql("agent-a", "-c", "SELECT 1"); err == nil || !has(out, "FATAL:  sallyport: the server refuses the account", "HINT:") {
		t.Errorf("with the old password: %v, %q", err, out)
	}
	h.write(file, secondSecret+"\n")
	within(t, "the new password is used", func() bool {
		out, err := h.psql("agent-a", "-c", "SELECT session_user")
		return err == nil && out == "billing\n"
	})
	if out, errs := open.run("SELECT session_user"); out != "billing\n" {
		t.Errorf("the open session: %q %q", out, errs)
	}
	for _, f := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", h.daemon(), f))
		if err != nil || strings.Contains(string(b), "SECRET") {
			t.Errorf("/proc: %s: %v %q", f, err, b)
		}
	}
	// Nobody else has an account.
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.Replace(string(text), "workloads: [agent-a]", "workloads: [agent-b]", 1))
	h.signal(syscall.SIGHUP)
	within(t, "the reload is in force", func() bool { return strings.Contains(h.log.String(), "reloaded") })
	if out, err := h.psql("agent-a", "-c", "SELECT 1"); err == nil || !has(out, "sallyport: refused: no account of this resource is for this identity", "resources[].accounts") {
		t.Errorf("without an account: %v, %q", err, out)
	}
	if out, _ := open.run("SELECT session_user"); out != "billing\n" {
		t.Errorf("the open session after the reload: %q", out)
	}
	// A secret that can't be read is a reload that is refused.
	h.write(file, "\n")
	h.signal(syscall.SIGHUP)
	within(t, "the reload is refused", func() bool { return has(h.log.String(), "reload refused", "it is empty") })
	h.stop()
	h.holdsNo(firstSecret, secondSecret)
	all := h.record()
	logins := recorded(all, events.Login)
	if len(logins) < 4 {
		t.Fatalf("%d logins are on the record", len(logins))
	}
	for _, e := range logins {
		if refused := e.Verdict == events.Blocked.String(); refused != (e.Account == "") || !refused && (e.Account != "billing" || e.User != "postgres") {
			t.Errorf("%+v", e)
		}
	}
	if last := logins[len(logins)-1]; last.Verdict != events.Blocked.String() || last.Rules[0] != "account" {
		t.Errorf("%+v", last)
	}
}

// The example with Vault, at work: each session has an account of its own, which
// is gone behind it.
func TestAccountFromVault(t *testing.T) {
	h, s := guardedAccounts(t)
	bao := baotest.Start(t)
	bao.Database(t, fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/postgres?sslmode=disable", s.Addr), "vault", "vault-secret", 60)
	bao.Write(t, "sys/auth/approle", map[string]any{"type": "approle"})
	doc, err := os.ReadFile("../../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.Join(regexp.MustCompile(`(?m)^    path ".*\}$`).FindAllString(string(doc), -1), "\n")
	bao.Write(t, "sys/policies/acl/sallyport", map[string]any{"policy": rules})
	bao.Write(t, "auth/approle/role/sallyport", map[string]any{"token_policies": "sallyport"})
	role := bao.Read(t, "auth/approle/role/sallyport/role-id")["role_id"].(string)
	h.write(filepath.Join(h.dir, "secret-id"), bao.Write(t, "auth/approle/role/sallyport/secret-id", nil)["secret_id"].(string))
	h.example(1, "https://vault.example.com:8200", bao.Address, "5f1c7a5e-6a52-4b0e-9a3e-1f6b3f0f2a11", role, "  ca: /etc/sallyport/vault-ca.pem\n", "")
	h.serve()
	token := h.token("agent-a")
	first, second := h.shell(token), h.shell(token)
	a, errs := first.run("SELECT session_user")
	b, _ := second.run("SELECT session_user")
	if !strings.HasPrefix(a, "v-") || !strings.HasPrefix(b, "v-") || a == b {
		t.Fatalf("%q and %q (%s); log:\n%s", a, b, errs, h.log)
	}
	if n := len(bao.List(t, "sys/leases/lookup/database/creds/billing")); n != 2 {
		t.Errorf("%d leases for two sessions", n)
	}
	first.in.Close()
	within(t, "the account is given back", func() bool { return len(bao.List(t, "sys/leases/lookup/database/creds/billing")) == 1 })
	if out, _ := second.run("SELECT session_user"); out != b {
		t.Errorf("the other session: %q", out)
	}
	// Another way to have accounts: what was lent stays with who has it.
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.Replace(string(text), ", per_session: true", "", 1))
	h.signal(syscall.SIGHUP)
	within(t, "the reload is in force", func() bool { return strings.Contains(h.log.String(), "reloaded") })
	third, fourth := h.shell(token), h.shell(token)
	c, _ := third.run("SELECT session_user")
	if d, _ := fourth.run("SELECT session_user"); c != d || c == b || !strings.HasPrefix(c, "v-") {
		t.Errorf("shared: %q and %q", c, d)
	}
	if out, _ := second.run("SELECT session_user"); out != b {
		t.Errorf("the session from before: %q", out)
	}
	third.in.Close()
	fourth.in.Close()
	second.in.Close()
	within(t, "the session's own account is given back", func() bool { return len(bao.List(t, "sys/leases/lookup/database/creds/billing")) == 1 })
	h.stop()
	within(t, "the shared account is given back", func() bool { return len(bao.List(t, "sys/leases/lookup/database/creds/billing")) == 0 })
	all := h.record()
	var named []string
	for _, e := range recorded(all, events.Lifecycle) {
		if e.Status == "login" || strings.Contains(e.Message, "has logged in") {
			named = append(named, e.Message)
		}
	}
	if len(named) != 4 || !strings.HasSuffix(named[0]+"\n"+named[1]+"\n", a) && !strings.HasSuffix(named[0]+"\n"+named[1]+"\n", b) {
		t.Errorf("%q", named)
	}
	for _, e := range recorded(all, events.Statement) {
		if e.Account != "vault:database/creds/billing" {
			t.Errorf("%+v", e)
		}
	}
}

// The example with agents that have passwords of their own.
func TestAccountWithAgents(t *testing.T) {
	h, s := guardedAccounts(t)
	const own = "AGENTS-OWN-SECRET"
	db, err := pgconn.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	rs, err := db.Exec(t.Context(), "SET password_encryption = 'scram-sha-256'; CREATE ROLE like_it PASSWORD '"+own+"'; SELECT rolpassword FROM pg_authid WHERE rolname = 'like_it'").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	h.write(filepath.Join(h.dir, "billing.password"), firstSecret)
	shown := "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	h.example(3, shown, string(rs[2].Rows[0][0]))
	h.serve()
	token := h.token("agent-a")
	ask := func(user, password string) (string, error) {
		cmd := h.agent(token, "psql", "-XAt", fmt.Sprintf("host=127.0.0.1 port=%s user=%s password=%s dbname=postgres", port(h.server), user, password), "-c", "SELECT session_user")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := ask("reporting", own); err != nil || out != "billing\n" {
		t.Errorf("%v: %q; log:\n%s", err, out, h.log)
	}
	for user, password := range map[string]string{"reporting": firstSecret, "billing": firstSecret, "agent-a": own} {
		if out, err := ask(user, password); err == nil || !has(out, "password authentication failed") {
			t.Errorf("%s: %v: %q", user, err, out)
		}
	}
	h.stop()
	h.holdsNo(own, firstSecret)
	refused := 0
	for _, e := range recorded(h.record(), events.Login) {
		if e.Verdict == events.Blocked.String() && e.Rules[0] == "agent" {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("%d refusals are on the record", refused)
	}
}

// The example with a role that is made of the identity.
func TestAccountWithRole(t *testing.T) {
	h, _ := guardedAccounts(t)
	// As systemd hands it over (LoadCredential=).
	h.env = append(h.env, "CREDENTIALS_DIRECTORY="+h.dir)
	h.write(filepath.Join(h.dir, "gateway.password"), firstSecret)
	h.example(2, "/etc/sallyport/gateway.password", "$CREDENTIALS_DIRECTORY/gateway.password", "{principal}", "{workload}", "        principal_issuers: [https://login.example.com]\n        principals: [\"*@example.com\"]\n", "")
	h.serve()
	if out, err := h.psql("agent-a", "-c", "SELECT session_user, current_user", "-c", "RESET ROLE", "-c", "SELECT current_user"); err != nil || !has(out, "gateway|agent-a\n", "RESET\nagent-a\n") {
		t.Errorf("%v: %q; log:\n%s", err, out, h.log)
	}
	h.stop()
}
