package identity

import (
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept"
)

const (
	// proofTime is how long a proof is good for further connections that the same
	// process makes in the same state: what it takes to be proved is then paid once
	// a second, and a token that was taken away holds on no longer.
	proofTime = time.Second
	maxProofs = 4096
)

// proofs are those of the last second.
type proofs struct {
	mu   sync.Mutex
	kept map[intercept.Peer]kept // by their origin
}

type kept struct {
	proof intercept.Proof
	until time.Time // on the monotonic clock
}

func (p *proofs) get(peer *intercept.Peer) (intercept.Proof, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.kept[peer.Origin()]
	return k.proof, ok && time.Now().Before(k.until)
}

func (p *proofs) put(peer *intercept.Peer, pr intercept.Proof, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) >= maxProofs || p.kept == nil {
		p.kept = map[intercept.Peer]kept{}
	}
	p.kept[peer.Origin()] = kept{pr, at.Add(proofTime)}
}
