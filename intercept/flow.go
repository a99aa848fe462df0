package intercept

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// Peer holds the kernel's facts about the process that connected, recorded in
// its own connect(2). Nothing in it was chosen by the process except Comm.
type Peer struct {
	TGID        uint32 // process id in the initial pid namespace
	PID         uint32 // thread id in the initial pid namespace
	Start       uint64 // task->start_boottime of the thread group leader, ns since boot
	PidInode    uint64 // struct pid's inode number = st_ino of a pidfd (kernel 6.9+), else 0
	UID, GID    uint32 // in the initial user namespace
	CgroupID    uint64 // cgroup2 id of the current task
	SockCgroup  uint64 // cgroup2 id that the socket was made in
	ExeDev      uint64 // device and inode of the executable
	ExeInode    uint64
	PidNS       uint32 // inode number of the pid namespace
	NetnsCookie uint64
	Comm        string // task name; proves nothing

	// Socket is the accepted one that the record came with: whoever proves the
	// peer reads the record there himself. nil: nothing is proved.
	Socket syscall.Conn `json:"-"`

	// Filled by the loader once the process is proved, else "".
	Exe    string // path of the executable
	Cgroup string // path below the cgroup2 root, leading slash
}

// Origin returns what the kernel's record says of the process alone, to tell
// processes apart by ==. One that has changed its user, its cgroup or its program
// since, or whose number is another's now, has another.
func (p *Peer) Origin() Peer {
	o := *p
	o.PID, o.Comm, o.Socket, o.Exe, o.Cgroup = 0, "", nil, "", ""
	return o
}

// Flow is one connection that was turned into the passage.
type Flow struct {
	Conn        net.Conn       // the client's door
	Destination netip.AddrPort // that the client asked for; zero for a unix socket
	// Reached is where its connection would have gone without the passage: another
	// address where a socket load balancer rewrites the one asked for.
	Reached netip.AddrPort
	Path    string // of the unix socket that the client asked for, else ""
	Peer    Peer
}

// Listener hands out the flows of the passage. Connections without the
// kernel's record (somebody dialled the port) never come out of Accept.
type Listener interface {
	// Accept waits for the next flow. It fails only when the listener is
	// closed or ctx ends.
	Accept(ctx context.Context) (*Flow, error)
	Close() error
}

// Binder binds a peer to an identity by proof. An error refuses the
// connection; its text says why and what to do, and holds no secret.
type Binder interface {
	Bind(ctx context.Context, peer *Peer) (Identity, error)
	// Again proves the peer of a session once more; was is who it was bound
	// to. Who it is now may be somebody else: see Identity.Same.
	Again(ctx context.Context, peer *Peer, was *Identity) (Identity, error)
	// Look tells who a peer is now, for nothing that it could do by that: a
	// one-time token is not used up.
	Look(ctx context.Context, peer *Peer) (Identity, error)
}
