package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

func TestRunStartsAndStops(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	pid := h.daemon()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t", daemonUID), "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Groups:\t \n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in %s", want, status)
		}
	}
	if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); !strings.Contains(string(b), fmt.Sprintf("0::/sallyport.daemon/%d-", h.loader.Process.Pid)) {
		t.Errorf("cgroup %s", b)
	}
	fi, err := os.Stat(filepath.Join(h.dir, "state"))
	if err != nil || fi.Mode().Perm() != 0o700 || fi.Sys().(*syscall.Stat_t).Uid != daemonUID {
		t.Errorf("state: %v, %v", fi, err)
	}
	h.stop()
	dead(t, pid)
	all := h.record()
	if l := recorded(all, events.Lifecycle); len(l) != 2 || l[0].Status != "start" || l[1].Status != "stop" || !strings.Contains(l[0].Message, "policy ") {
		t.Errorf("%+v", l)
	}
	if s, err := redirect.GetStatus(h.pins); err != nil || !s.Up || s.Daemon {
		t.Errorf("the guard after the stop: %+v, %v", s, err)
	}
	// It comes back over what it left.
	h.serve()
	h.stop()
	if n := len(recorded(h.record(), events.Lifecycle)); n != 4 {
		t.Errorf("%d lifecycle events", n)
	}
}

func TestSessionsAndRefusals(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	if out, err := h.psql("agent-a", "-c", "select 6*7"); err != nil || out != "42\n" {
		t.Errorf("%q, %v", out, err)
	}
	// A valid token, but not one that this workload may present.
	out, err := h.psql("agent-b", "-c", "select 1")
	if err == nil || !has(out, "FATAL", "sallyport: refused", `may not present a token of "agent-b"`, "HINT") {
		t.Errorf("%q, %v", out, err)
	}
	h.stop()
	all := h.record()
	logins := recorded(all, events.Login)
	if len(logins) != 2 {
		t.Fatalf("%d logins", len(logins))
	}
	a, b := logins[0], logins[1]
	if a.Verdict != "allow" || a.Workload != "agent-a" || a.Actor != "agent-a" || a.Issuer != h.issuer.Issuer || a.Proof != "oidc+pidfd" ||
		a.Resource != "clinic" || a.Destination.String() != h.server || a.Process.UID != agentUID || !has(a.Process.Exe, "psql") || a.User != "postgres" {
		t.Errorf("allowed %+v", a)
	}
	if b.Verdict != "block" || b.Workload != "" || b.Rules[0] != "identity" || !has(b.Reason, "agent-b") || b.Session == "" || b.Process.UID != agentUID {
		t.Errorf("refused %+v", b)
	}
	open, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose)
	if len(open) != 1 || len(closed) != 1 || open[0].Session != a.Session || closed[0].Session != a.Session || closed[0].Status != "ok" {
		t.Errorf("%+v %+v", open, closed)
	}
}

// What is wrong at the start is said with its place, by the exit code too; the
// guard is up all the same, unless the configuration itself can't be read.
func TestStartRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h := newHost(t, "")
	good, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, now string) func() {
		return func() {
			if !strings.Contains(string(good), old) {
				t.Fatalf("%q is not in the configuration", old)
			}
			h.write(h.config, strings.Replace(string(good), old, now, 1))
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		code int
		want []string
	}{
		{"configuration", with("host: test", "host: a b"), 2, []string{h.config + ":1: host"}},
		{"policy", func() { h.write(h.policy, "rules:\n  - name: x\n") }, 2, []string{h.policy + ":2: ", "effect"}},
		{"no policy", func() { os.Remove(h.policy) }, 2, []string{h.config + ":1: policy: ", "no such file"}},
		{"account", with(fmt.Sprintf(`"%d:%d"`, daemonUID, daemonUID), "no-such-account"), 2, []string{h.config + `:4: user "no-such-account"`, "useradd"}},
		{"password", with(`"]}`, `"], catalog: {user: u, password_file: /nonexistent}}`), 2, []string{h.config + ":8: ", "/nonexistent"}},
		{"recorder key", with("  nats:", "  recorder_key: x\n  nats:"), 2, []string{h.config + ":17: recorder key"}},
		{"glob", with("/sallyport.guarded/**", "agents/**"), 2, []string{h.config + ":12: ", "workload agent-a"}},
		{"template", with("subjects:", "token_file: /run/{who}\n      subjects:"), 2, []string{h.config + ":12: ", "{pid} and {uid}"}},
		{"NATS", with(`"127.0.0.1:0"`, `"`+taken.Addr().String()+`"`), 1, []string{"evidence.nats.listen"}},
		{"metrics", with(h.metrics, taken.Addr().String()), 1, []string{"metrics", "in use"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.write(h.policy, allowAll)
			h.write(h.config, string(good))
			c.do()
			h.start()
			if code := h.wait(); code != c.code || !has(h.log.String(), c.want...) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, c.code, c.want, h.log)
			}
			if _, err := redirect.GetStatus(h.pins); c.name != "configuration" && err != nil {
				t.Errorf("the guard: %v", err)
			}
			if _, err := os.Stat(filepath.Join(h.run, "control.sock")); c.code == 1 && err == nil {
				t.Error("the control socket is left behind")
			}
		})
	}
	// Nothing of it is in the way of a good start.
	h.write(h.policy, allowAll)
	h.write(h.config, string(good))
	h.serve()
	h.stop()
}

func TestRunNeedsRoot(t *testing.T) {
	h := newHost(t, "")
	if err := os.Chmod(h.config, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "run", "-c", h.config)
	cmd.Env = []string{"SALLYPORT_TEST=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: agentUID, Gid: agentUID}}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !has(string(out), "run needs root", "hint: ") {
		t.Errorf("%v %s", err, out)
	}
}
