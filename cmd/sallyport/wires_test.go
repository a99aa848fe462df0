package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect"
)

// A wire between the host and the namespace of an agent is guarded as soon as
// it is there, put back when somebody takes the guard off it, and let go when
// the agent has ended.
func TestWiresAreGuarded(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	name := fmt.Sprintf("spt%d", os.Getpid()%100000)
	cmd := h.agent(h.token("agent-a"), "unshare", "-rn", "sh", "-c", "echo $$; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		_ = exec.Command("ip", "link", "del", name).Run() // gone with the namespace, most often
	})
	wires := func(want int) (s redirect.Status) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			var err error
			if s, err = redirect.GetStatus(h.pins); err == nil && s.Up && len(s.Wires) == want {
				return s
			}
			if time.Now().After(end) {
				t.Fatalf("%+v, %v; want %d guarded\n%s", s.Wires, err, want, h.log)
			}
		}
	}
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(out.String(), "\n"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the agent says nothing: %s", out.String())
		}
	}
	pid := strings.TrimSpace(out.String())
	if b, err := exec.Command("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if s := wires(1); s.Wires[0].Name != name || s.Wires[0].Netns == 0 || !s.Wires[0].Attached {
		t.Errorf("%+v", s.Wires)
	}
	if b, err := command("guard", "status", "-c", h.config); err != nil || !strings.Contains(b, "wire      "+name) {
		t.Errorf("guard status: %v: %s", err, b)
	}
	pins, err := filepath.Glob(filepath.Join(h.pins, "v*", "tcx_*"))
	if err != nil || len(pins) != 1 {
		t.Fatalf("%q, %v", pins, err)
	}
	if err := os.Remove(pins[0]); err != nil {
		t.Fatal(err)
	}
	if b, err := command("guard", "status", "-c", h.config); err == nil || !strings.Contains(b, "MISSING   program of wire "+name) {
		t.Errorf("guard status: %v: %s", err, b)
	}
	wires(1)
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(h.log.String(), "the guard was not whole"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no alarm\n%s", h.log)
		}
	}
	in.Close() // the agent ends, and its namespace with it
	wires(0)
}
