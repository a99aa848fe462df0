package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// Who a guarded process is, it hears from the passage; root can ask from
// outside, and both say the same.
func TestWhoamiAndExplainIdentity(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	bin := h.binary()
	asks := func(token string, args ...string) (string, error) {
		out, err := h.agent(token, append([]string{bin, "whoami"}, args...)...).CombinedOutput()
		return string(out), err
	}
	acting := h.give("acting", "agent-a", "--for", "alice:secret-alice")
	out, err := asks(acting)
	if err != nil || !has(out, "workload   agent-a\n", "actor      agent-a, says "+h.issuer.Issuer, "for        alice", "by oidc+pidfd: subjects", "proof      oidc+pidfd, strength 40") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(out, "claims") {
		t.Errorf("claims are told:\n%s", out)
	}
	out, err = asks(h.give("b", "agent-b"))
	if err == nil || !has(out, "refused", `may not present a token of "agent-b"`, "it is nobody") {
		t.Errorf("%v\n%s", err, out)
	}
	var b believed
	out, err = asks(acting, "--json")
	if jerr := json.Unmarshal([]byte(out), &b); err != nil || jerr != nil || b.Principal != "alice" || b.UID != agentUID || b.Claims != nil || b.Strength != 40 {
		t.Errorf("%v %v\n%s", err, jerr, out)
	}

	sleeper := h.agent(acting, "sleep", "60")
	if err := stand.Launch(sleeper); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	explain := func(args ...string) (string, error) {
		c := h.command(append([]string{"-c", h.config, "explain-identity"}, args...)...)
		c.Env = append(os.Environ(), "SALLYPORT_TEST=1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	pid := strconv.Itoa(sleeper.Process.Pid)
	within(t, "it has become sleep", func() bool {
		b, _ := os.ReadFile("/proc/" + pid + "/comm")
		return string(b) == "sleep\n"
	})
	out, err = explain(pid)
	if err != nil || !has(out, "process    "+pid+" ", "sleep", "workload   agent-a", "for        alice") {
		t.Errorf("%v\n%s", err, out)
	}
	b = believed{}
	out, err = explain(pid, "--json")
	if jerr := json.Unmarshal([]byte(out), &b); err != nil || jerr != nil || b.Claims["sub"] != "alice" || b.Actor != "agent-a" || b.ActorProof.By != "oidc+pidfd" {
		t.Errorf("%v %v\n%s", err, jerr, out)
	}
	if out, err = explain(strconv.Itoa(os.Getpid())); err == nil || !has(out, "refused", "no workload matches") {
		t.Errorf("a stranger: %v\n%s", err, out)
	}
	if out, err = explain("none"); err == nil || !has(out, "no process id") {
		t.Errorf("%v\n%s", err, out)
	}
	// Outside of every guard nobody answers.
	c := exec.Command(bin, "whoami")
	c.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	if out, err := c.CombinedOutput(); err == nil || !has(string(out), "not turned into a passage") {
		t.Errorf("unguarded: %v\n%s", err, out)
	}
	h.stop()
}
