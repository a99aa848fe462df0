package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/identity/samltest"
)

// samlExample returns a block of docs/identity-saml.md.
func samlExample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/identity-saml.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```[a-z]*\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("no example %q", name)
	}
	return string(m[1])
}

// The page's example works as it says, with this host's provider and user.
func TestSAMLPage(t *testing.T) {
	h := newSAMLHost(t)
	here := func(s string) string {
		return strings.NewReplacer(
			"https://idp.example.com/metadata", h.idp.EntityID, "https://login.example.com", h.issuer.Issuer, "https://sallyport.example.com", samlService,
			"http://127.0.0.1:7080/acs", h.acs, "1201", strconv.Itoa(agentUID)).Replace(s)
	}
	cfg, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, regexp.MustCompile(`(?s)identity:\n.*evidence:\n`).ReplaceAllLiteralString(string(cfg), here(samlExample(t, "configuration"))+"evidence:\n"))
	h.write(h.policy, here(samlExample(t, "policy")))
	h.serve()
	alice, _ := h.logIn(samltest.People[0])
	if out, err := h.ask(alice, "select 1"); err != nil || out != "1\n" {
		t.Errorf("for a doctor: %q %v", out, err)
	}
	mallory, _ := h.logIn(samltest.People[1])
	if out, err := h.ask(mallory, "select 1"); err == nil {
		t.Errorf("for a visitor: %q", out)
	}
	cmd := h.agent(h.token("agent-a"), h.binary(), "whoami")
	cmd.Args = slices.Insert(cmd.Args, slices.Index(cmd.Args, "--user"), "--for", alice)
	out, err := cmd.CombinedOutput()
	// What differs from run to run and from host to host is left out.
	plain := func(s string) string {
		return regexp.MustCompile(`(?m)^(process|cgroup|until|audience) .*$`).ReplaceAllString(s, "$1")
	}
	want := plain(here(samlExample(t, "whoami")))
	if err != nil || plain(string(out)) != want {
		t.Errorf("%v\n%s\nthe page says\n%s", err, out, want)
	}
	h.stop()
}
