package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

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
	if err := cmd.Start(); err != nil {
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
