package identity_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/privsep"
)

// proving counts what reaches the real prover.
type proving struct {
	intercept.Prover
	n atomic.Int32
}

func (p *proving) Prove(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	p.n.Add(1)
	return p.Prover.Prove(ctx, peer)
}

// Of one process that connects again and again, a second has one proof; of
// another, or of one in another state, each has its own; and one that has ended
// gets in nowhere.
func TestProofIsGoodForASecond(t *testing.T) {
	w := newWorld(t)
	uid := uint32(uidA)
	real, err := privsep.NewProver(cgroupRoot(t), "", []privsep.Workload{{Name: "a", Match: privsep.Match{UID: &uid}, TokenFile: w.dir + "/{uid}.jwt"}})
	if err != nil {
		t.Fatal(err)
	}
	p := &proving{Prover: real}
	b, err := identity.NewBinder(p, &w.verifier, []identity.Workload{{Name: "a", Subjects: []string{"agent-a", "agent-b"}}}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	b.Lives = privsep.Lives
	w.put(uidA, w.provider.Token("agent-a"))
	first := agent(t, uidA)
	peer := peerOf(t, first.Process.Pid)
	bind := func(peer intercept.Peer) (intercept.Identity, error) { return b.Bind(t.Context(), &peer) }

	if _, err := bind(peer); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if id, err := bind(peer); err != nil || id.Actor() != "agent-a" {
					t.Errorf("%+v, %v", id, err)
				}
			}
		})
	}
	all.Wait()
	if n := p.n.Load(); n > 3 {
		t.Errorf("%d proofs for 401 connections", n)
	}
	// What the kernel says of another connection is another process's, or the
	// same one's that has changed.
	for name, change := range map[string]func(*intercept.Peer){
		"user":    func(p *intercept.Peer) { p.UID++ },
		"group":   func(p *intercept.Peer) { p.GID++ },
		"start":   func(p *intercept.Peer) { p.Start += 1e9 },
		"inode":   func(p *intercept.Peer) { p.PidInode++ },
		"cgroup":  func(p *intercept.Peer) { p.CgroupID++ },
		"program": func(p *intercept.Peer) { p.ExeInode++ },
		"device":  func(p *intercept.Peer) { p.ExeDev++ },
		"number":  func(p *intercept.Peer) { p.TGID++ },
	} {
		before, other := p.n.Load(), peer
		change(&other)
		if _, _ = bind(other); p.n.Load() == before {
			t.Errorf("another %s: not proved", name)
		}
	}
	// A second later it is proved again, and another token counts.
	w.put(uidA, w.provider.Token("agent-b"))
	time.Sleep(1100 * time.Millisecond)
	if id, err := bind(peer); err != nil || id.Actor() != "agent-b" {
		t.Errorf("%+v, %v", id, err)
	}
	// What comes to nothing is proved anew: its token may be another by now.
	w.put(uidA, w.provider.Token("agent-a"))
	w.offset.Store(int64(time.Hour))
	before := p.n.Load()
	if _, err := bind(peer); err == nil || p.n.Load() == before {
		t.Errorf("%v, after %d proofs", err, p.n.Load()-before)
	}
	w.offset.Store(0)
	if _, err := bind(peer); err != nil {
		t.Fatal(err)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	if _, err := bind(peer); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a process that has ended: %v", err)
	}
}
