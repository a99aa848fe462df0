package privsep

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// A workload whose token files hang holds up nobody else.
func TestHangingWorkloadHoldsUpItselfOnly(t *testing.T) {
	path := t.TempDir() + "/token"
	if err := os.WriteFile(path, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := new(Prover)
	m := Match{Cgroup: "/x"}
	if err := p.SetWorkloads([]Workload{{Name: "hangs", Match: m, TokenFile: path}, {Name: "works", Match: m, TokenFile: path}}); err != nil {
		t.Fatal(err)
	}
	ws := *p.workloads.Load()
	for range running {
		ws[0].slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := p.token(ctx, ws[0], new(process), facts{}); err == nil || !strings.Contains(err.Error(), "do not answer") {
		t.Fatal(err)
	}
	ws[0].queued.Store(waiting)
	if _, _, err := p.token(context.Background(), ws[0], new(process), facts{}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Fatal(err)
	}
	b, _, err := p.token(context.Background(), ws[1], new(process), facts{})
	if err != nil || string(b) != "token" {
		t.Fatal(string(b), err)
	}
}
