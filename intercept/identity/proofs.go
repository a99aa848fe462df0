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

// origin is all that the kernel's record of a connection says of who made it. A
// process that has changed its user, its cgroup or its program since, or whose
// number is another's now, has another one.
type origin struct {
	tgid, uid, gid, pidNS            uint32
	start, inode, cgroup, sockCgroup uint64
	exeDev, exeInode, netns          uint64
}

func originOf(p *intercept.Peer) origin {
	return origin{
		tgid: p.TGID, uid: p.UID, gid: p.GID, pidNS: p.PidNS,
		start: p.Start, inode: p.PidInode, cgroup: p.CgroupID, sockCgroup: p.SockCgroup,
		exeDev: p.ExeDev, exeInode: p.ExeInode, netns: p.NetnsCookie,
	}
}

// proofs are those of the last second.
type proofs struct {
	mu   sync.Mutex
	kept map[origin]kept
}

type kept struct {
	proof intercept.Proof
	until time.Time // on the monotonic clock
}

func (p *proofs) get(peer *intercept.Peer) (intercept.Proof, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.kept[originOf(peer)]
	return k.proof, ok && time.Now().Before(k.until)
}

func (p *proofs) put(peer *intercept.Peer, pr intercept.Proof, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) >= maxProofs || p.kept == nil {
		p.kept = map[origin]kept{}
	}
	p.kept[originOf(peer)] = kept{pr, at.Add(proofTime)}
}
