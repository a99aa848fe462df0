package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
)

// TestFullDisk: somebody else fills the disk that the journal is on. Nothing
// runs unrecorded, in running sessions and new ones; when there is room again
// all goes on, and the record is whole.
func TestFullDisk(t *testing.T) {
	h := newHost(t, startPostgres(t))
	state := filepath.Join(h.dir, "state")
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=48m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.kill()
		if err := unix.Unmount(state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.serve()
	token := h.token("agent-a")
	s := h.shell(token)
	if got, _ := s.run("select 'before'"); got != "before\n" {
		t.Fatalf("%q", got)
	}
	filler := filepath.Join(state, "filler")
	fill(t, filler)
	refused := false
	for range 20000 { // what was made ahead still has room
		if _, errs := s.run("select repeat('y', 500)"); has(errs, "audit record") {
			refused = true
			break
		}
	}
	if !refused {
		t.Fatal("a running session was never refused")
	}
	if got, err := h.psqlWith(token, "-c", "select 'unrecorded'"); err == nil || !has(got, "audit record") || has(got, "unrecorded\n") {
		t.Errorf("a new session: %q, %v", got, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	var got string
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got, err = h.psqlWith(token, "-c", "select 'after'"); err == nil {
			break
		}
	}
	if got != "after\n" {
		t.Fatalf("%q, %v", got, err)
	}
	h.stop()
	all := h.record()
	if open, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose); len(open) != len(closed) {
		t.Errorf("%d opened, %d closed", len(open), len(closed))
	}
	outcomes := len(recorded(all, events.Response))
	for _, s := range recorded(all, events.Statement) {
		if s.Status != "" { // it tells its own
			outcomes++
		}
	}
	if n := len(recorded(all, events.Statement)); n != outcomes {
		t.Errorf("%d statements, %d outcomes", n, outcomes)
	}
}

// fill writes until there is no room.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}
