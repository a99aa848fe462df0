package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept/redirect"
)

// root runs one of root's commands.
func (h *host) root(args ...string) (string, error) {
	h.t.Helper()
	cmd := h.command(append(args, "-c", h.config)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// byHand returns the events about changes of the guard by hand.
func byHand(all []ocsf.View) (out []ocsf.View) {
	for _, v := range recorded(all, events.Lifecycle) {
		if v.Status == "up" || v.Status == "down" {
			out = append(out, v)
		}
	}
	return out
}

func (h *host) guardIsUp() bool {
	h.t.Helper()
	s, err := redirect.GetStatus(h.pins)
	return err == nil && s.Up
}

// A running sallyport records that the guard is taken down, and does it itself.
func TestGuardDownOfARunningOne(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	s := h.shell(h.token("agent-a"))
	if out, errs := s.run("select 1"); out != "1\n" {
		t.Fatalf("%q %s", out, errs)
	}
	s.in.Close()
	_ = s.cmd.Wait()
	within(t, "the agent's cgroup is gone", func() bool {
		root, err := redirect.Host{}.CgroupRoot()
		left, _ := filepath.Glob(root + "/sallyport.guarded/exec-*")
		return err == nil && len(left) == 0
	})
	if out, err := h.root("guard", "down"); err != nil || out != "the guard is down\n" {
		t.Errorf("%v %s", err, out)
	}
	if code := h.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, h.log)
	}
	if _, err := redirect.GetStatus(h.pins); err == nil {
		t.Error("the guard is up")
	}
	all := h.record()
	life := recorded(all, events.Lifecycle)
	down := byHand(all)
	if len(down) != 1 || down[0].Status != "down" || down[0].Process.PID == 0 || !has(down[0].Message, "taken down", "user 0") {
		t.Errorf("%+v", down)
	}
	h.alerts("guard_down")
	if last := life[len(life)-1]; last.Status != "stop" || !has(last.Message, "takes the guard down") {
		t.Errorf("%+v", last)
	}
	if _, err := os.Stat(h.run + "/control.sock"); err == nil {
		t.Error("the control socket is left behind")
	}
}

// What is done without a running one is recorded by the next, once.
func TestNotesAreRecorded(t *testing.T) {
	h := newHost(t, "")
	for _, what := range []string{"up", "down", "up"} {
		if out, err := h.root("guard", what); err != nil {
			t.Fatalf("guard %s: %v %s", what, err, out)
		}
	}
	notes := filepath.Join(h.dir, "state.guard")
	if fi, err := os.Stat(notes); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	h.serve()
	// While it runs, guard up is recorded too.
	if out, err := h.root("guard", "up"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	within(t, "the notes are gone", func() bool {
		left, err := os.ReadDir(notes)
		return err == nil && len(left) == 0
	})
	h.stop()
	h.serve()
	h.stop()
	var did []string
	for _, v := range byHand(h.record()) {
		did = append(did, v.Status)
		if v.Process.PID == 0 || !has(v.Message, "of user 0") {
			t.Errorf("%+v", v)
		}
	}
	if strings.Join(did, ", ") != "up, down, up, up" {
		t.Errorf("%v", did)
	}
}

// Nobody takes the guard down where it can't be told, unless he says so.
func TestGuardDownNeedsARecord(t *testing.T) {
	h := newHost(t, "")
	notes := filepath.Join(h.dir, "state.guard")
	if err := os.Mkdir(notes, 0o755); err != nil { // everybody could look into it
		t.Fatal(err)
	}
	// Up it comes all the same: it is the safe side.
	if out, err := h.root("guard", "up"); err == nil || !has(out, "the guard is up", "can't be left for the record") || !h.guardIsUp() {
		t.Errorf("up: %v %s", err, out)
	}
	if out, err := h.root("guard", "down"); err == nil || !has(out, "can't be left for the record", "--force") || !h.guardIsUp() {
		t.Errorf("down: %v %s", err, out)
	}
	if out, err := h.root("guard", "down", "--force"); err != nil || !has(out, "without a record", "the guard is down") || h.guardIsUp() {
		t.Errorf("down --force: %v %s", err, out)
	}
	if out, err := h.root("guard", "up", "--force"); err != nil || !has(out, "warning", "the guard is up") || !h.guardIsUp() {
		t.Errorf("up --force: %v %s", err, out)
	}
}

// A daemon that does not answer has recorded nothing.
func TestGuardDownOfAStuckDaemon(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	pid := h.daemon()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	out, err := h.root("guard", "down")
	if cerr := syscall.Kill(pid, syscall.SIGCONT); cerr != nil {
		t.Fatal(cerr)
	}
	if err == nil || !has(out, "can't be recorded", "--force") || !h.guardIsUp() {
		t.Errorf("%v %s", err, out)
	}
	if h.daemon() != pid {
		t.Error("the daemon is another one")
	}
	if out, err := h.root("guard", "down", "--force"); err != nil || h.guardIsUp() {
		t.Errorf("%v %s", err, out)
	}
	if code := h.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, h.log)
	}
}
