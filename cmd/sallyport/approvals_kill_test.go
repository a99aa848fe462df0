package main

import (
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// A client that is held when the daemon is killed sees its connection end, and nothing
// of it ran. What it asked for waits on, and what was approved before is used once,
// however often the daemon is killed.
func TestApprovalHeldWhileTheDaemonIsKilled(t *testing.T) {
	h := newApprovingHost(t, "5m")
	token := h.token("agent-a")
	hold := func(sql string) chan string {
		cmd, said, done := h.agent(token, "psql", "-X", "-h", "127.0.0.1", "-p", port(h.server), "-c", sql), &syncBuffer{}, make(chan string, 1)
		cmd.Stdout, cmd.Stderr = said, said
		if err := stand.Launch(cmd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		go func() {
			_ = cmd.Wait()
			done <- said.String()
		}()
		return done
	}
	kill := func(held chan string) {
		t.Helper()
		if err := syscall.Kill(h.daemon(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.wait()
		if out := <-held; !has(out, "closed the connection") && !has(out, "connection to server was lost") || has(out, "DELETE 1") {
			t.Errorf("its client sees no end: %s", out)
		}
		h.serve()
	}

	held := hold("DELETE FROM visits WHERE id = 2")
	id := h.pendingID()
	kill(held)
	if got := h.pendingID(); got != id || h.rows() != "1,2,3" {
		t.Errorf("%s, not %s; rows %s", got, id, h.rows())
	}
	if out, err := h.decide("approve", id, "dr-lee", "leads"); err != nil || !has(out, id+" is approved") {
		t.Fatalf("%v: %s", err, out)
	}

	held = hold("DELETE FROM visits WHERE id = 3")
	other := h.pendingID()
	kill(held)
	if out := <-hold("DELETE FROM visits WHERE id = 2"); !has(out, "DELETE 1") || h.rows() != "1,3" {
		t.Errorf("what was approved is lost: %s", out)
	}
	held = hold("DELETE FROM visits WHERE id = 2")
	within(t, "the same again is asked for again", func() bool {
		out, err := h.approvals("ls")
		return err == nil && strings.Count(out, " pending ") == 2 && has(out, other) && !has(out, id)
	})
	h.stop()
	if out := <-held; has(out, "DELETE 1") {
		t.Errorf("it ran twice: %s", out)
	}
	steps := ""
	for _, e := range h.record() {
		if e.Approval != nil && e.Approval.ID == id && e.Approval.Step != "seen" {
			steps += e.Approval.Step + " "
		}
	}
	if steps != "requested approved consumed " {
		t.Errorf("on the record: %s", steps)
	}
}
