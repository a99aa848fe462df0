package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// example returns a block of docs/identity-oidc.md.
func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/identity-oidc.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```[a-z]*\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("no example %q", name)
	}
	return string(m[1])
}

// The page's example works as it says, with this host's issuer and user.
func TestIdentityPage(t *testing.T) {
	h := newHost(t, startPostgres(t))
	here := func(s string) string {
		return strings.NewReplacer("https://login.example.com", h.issuer.Issuer, "1201", strconv.Itoa(agentUID)).Replace(s)
	}
	cfg, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, regexp.MustCompile(`(?s)identity:\n.*evidence:\n`).ReplaceAllLiteralString(string(cfg), here(example(t, "configuration"))+"evidence:\n"))
	h.write(h.policy, here(example(t, "policy")))
	h.serve()
	acting := h.give("acting", "agent-a", "--for", "alice:secret-alice")
	if out, err := h.psqlWith(acting, "-c", "select 1"); err != nil || out != "1\n" {
		t.Errorf("for alice: %q %v", out, err)
	}
	if out, err := h.psqlWith(h.give("alone", "agent-a"), "-c", "select 1"); err == nil || !has(out, "FATAL", "sallyport") {
		t.Errorf("for nobody: %q %v", out, err)
	}
	if out, err := h.psqlWith(h.give("other", "agent-b", "--for", "alice:secret-alice"), "-c", "select 1"); err == nil || !has(out, `may not present a token of "agent-b"`) {
		t.Errorf("another: %q %v", out, err)
	}
	bin := h.binary()
	out, err := h.agent(acting, bin, "whoami").CombinedOutput()
	// What differs from run to run and from host to host is left out.
	plain := func(s string) string {
		s = regexp.MustCompile(`(?m)^(process|cgroup|until) .*$`).ReplaceAllString(s, "$1")
		return regexp.MustCompile(`(?m)^audience .*$`).ReplaceAllString(s, "audience")
	}
	if want := plain(here(example(t, "whoami"))); err != nil || plain(string(out)) != want {
		t.Errorf("%v\n%s\nthe page says\n%s", err, out, want)
	}
	h.stop()
}

// binary is sallyport where the agent's user can run it.
func (h *host) binary() string {
	h.t.Helper()
	bin := filepath.Join(h.dir, "sallyport")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(bin, b, 0o755)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return bin
}
