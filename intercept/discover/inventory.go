package discover

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Process is who connects or listens, by facts of the kernel and of /proc.
type Process struct {
	Exe       string `json:"exe"`                 // path as /proc has it; "" if it ended before it could be looked at
	Comm      string `json:"comm,omitempty"`      // task name; chosen by the process
	UID       uint32 `json:"uid"`                 // in the initial user namespace
	Cgroup    string `json:"cgroup"`              // path below the cgroup2 root
	Unit      string `json:"unit,omitempty"`      // systemd's, by the cgroup
	Container string `json:"container,omitempty"` // id, where the cgroup tells it
	Workload  string `json:"workload,omitempty"`  // what its container's runtime calls it
	NetNS     uint32 `json:"netns"`               // inode number of the network namespace
}

// Basis is what a protocol's name was taken from, the weakest first.
type Basis string

// Bases of a protocol's name.
const (
	ByPort   Basis = "port"   // the usual one of the protocol
	ByServer Basis = "server" // the executable that listens there, on this host
)

// Service is what is served at an address.
type Service struct {
	Protocol string `json:"protocol,omitempty"` // "postgres", "https", ...; "" if it is not known
	Basis    Basis  `json:"basis,omitempty"`
}

// Database reports whether a database is served.
func (s Service) Database() bool { return databases[s.Protocol] }

// Contact is one kind of connection: who, and whither.
type Contact struct {
	Process
	Service
	Destination netip.AddrPort `json:"destination,omitzero"` // as asked for; zero for a unix socket
	Path        string         `json:"path,omitempty"`       // of the unix socket
	Connections uint64         `json:"connections"`          // made, and found at the start
	Existing    uint64         `json:"existing,omitempty"`   // those of them that were found at the start
	First       time.Time      `json:"first_seen"`
	Last        time.Time      `json:"last_seen"`
}

// Target is the destination or the path.
func (c *Contact) Target() string {
	if c.Path != "" {
		return c.Path
	}
	return c.Destination.String()
}

// Listener is a listening socket and who holds it.
type Listener struct {
	Process
	Service
	PID     uint32         `json:"pid"`
	Address netip.AddrPort `json:"address,omitzero"`
	Path    string         `json:"path,omitempty"`

	holders []uint32 // all processes that hold it: workers have it of their parent
}

// Target is the address or the path.
func (l *Listener) Target() string {
	if l.Path != "" {
		return l.Path
	}
	return l.Address.String()
}

// Forwarder is a process that carries the connections of others.
type Forwarder struct {
	Process
	PID     uint32     `json:"pid"`
	Known   bool       `json:"known"`   // by its executable; else it listens, and reaches a database
	Listens []string   `json:"listens"` // addresses and paths
	Reaches []Upstream `json:"reaches"`
}

// Upstream is a forwarder's other side.
type Upstream struct {
	Service
	Target string `json:"target"` // address or path
}

// Inventory is what was found.
type Inventory struct {
	Since      time.Time   `json:"since"`
	Until      time.Time   `json:"until"`
	Contacts   []Contact   `json:"contacts"`
	Listeners  []Listener  `json:"listeners"`
	Forwarders []Forwarder `json:"forwarders"`
	// Missed counts connections of kinds that found no room, Untold kinds that
	// were counted and whose processes could not be looked at.
	Missed   uint64   `json:"missed"`
	Untold   uint64   `json:"untold"`
	Problems []string `json:"problems,omitempty"` // what could not be looked at
}

// sort puts databases first, and then what is reached most.
func (inv *Inventory) sort() {
	rank := func(s Service) int {
		switch {
		case s.Database():
			return 0
		case s.Protocol != "":
			return 1
		}
		return 2
	}
	slices.SortFunc(inv.Contacts, func(a, b Contact) int {
		return cmp.Or(cmp.Compare(rank(a.Service), rank(b.Service)), cmp.Compare(b.Connections, a.Connections),
			cmp.Compare(a.Target(), b.Target()), cmp.Compare(a.Exe, b.Exe), cmp.Compare(a.UID, b.UID), cmp.Compare(a.Cgroup, b.Cgroup))
	})
	slices.SortFunc(inv.Listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(rank(a.Service), rank(b.Service)), cmp.Compare(a.NetNS, b.NetNS), cmp.Compare(a.Target(), b.Target()), cmp.Compare(a.PID, b.PID))
	})
	slices.SortFunc(inv.Forwarders, func(a, b Forwarder) int {
		return cmp.Or(cmp.Compare(a.Exe, b.Exe), cmp.Compare(a.PID, b.PID))
	})
}
