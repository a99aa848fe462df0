package redirect

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
)

// Guard is the loader's hold on the programs and maps. Its methods may be
// called from many goroutines.
type Guard struct {
	cfg      Config
	dir      string // of the pins
	root     string // of cgroup2
	maps     bpf.GuardMaps
	unix     *bpf.UnixMaps // nil before kernel 6.7
	veth     *ebpf.Program // at the host's ends of wires
	wires    *ebpf.Map
	daemonID uint64
	swept    []Bypass
	sweepErr error
}

// Close lets go of the guard. It stays pinned and in force.
func (g *Guard) Close() error {
	err := g.maps.Close()
	if g.unix != nil {
		err = errors.Join(err, g.unix.Close())
	}
	return errors.Join(err, g.veth.Close(), g.wires.Close())
}

// DaemonCgroup returns the cgroup that the daemon must run in, as a path
// below the cgroup2 root, and its id.
func (g *Guard) DaemonCgroup() (path string, id uint64) { return daemonCgroup, g.daemonID }

// GuardedCgroup returns the cgroup, below the cgroup2 root, that is covered
// in either mode with all its children.
func (g *Guard) GuardedCgroup() string { return guardedCgroup }

// Pins returns the folder of this layout's pins.
func (g *Guard) Pins() string { return g.dir }

// CgroupRoot returns where the cgroup2 hierarchy is mounted.
func (g *Guard) CgroupRoot() string { return g.root }

// Swept returns the connections that were older than the guard and were
// destroyed, and an error if some could not be: their packets are dropped.
func (g *Guard) Swept() ([]Bypass, error) { return g.swept, g.sweepErr }

// Exempt lets one process reach protected destinations: the one with this
// thread group id (initial pid namespace) and start time (StartBoottime),
// while it is in or below the cgroup. Dead ones are forgotten.
func (g *Guard) Exempt(tgid uint32, startBoottime uint64, cgroupID uint64) error {
	if startBoottime == 0 || cgroupID == 0 {
		return errors.New("exempt: a process is named by its start time and its cgroup too")
	}
	return g.trust(tgid, bpf.GuardRoleROLE_DAEMON, startBoottime, cgroupID)
}

func (g *Guard) trust(tgid uint32, role bpf.GuardRole, start, cgroup uint64) error {
	if err := g.forgetDead(); err != nil {
		return err
	}
	now, err := StartBoottime(tgid)
	if err != nil {
		return fmt.Errorf("trust process %d: %w", tgid, err)
	}
	if start == 0 {
		start = now
	}
	if !SameStart(start, now) {
		return fmt.Errorf("trust process %d: it is not the one that started then", tgid)
	}
	inode, err := PidInode(tgid)
	if err != nil {
		return fmt.Errorf("trust process %d: %w", tgid, err)
	}
	key := bpf.GuardProcessKey{Tgid: tgid, Role: uint32(role)}
	p := bpf.GuardProcess{Start: start, PidInode: inode, Cgroup: cgroup}
	if err := g.maps.Processes.Put(key, p); err != nil {
		return fmt.Errorf("trust process %d: %w", tgid, err)
	}
	return nil
}

func (g *Guard) forgetDead() error {
	all, err := content[bpf.GuardProcessKey, bpf.GuardProcess](g.maps.Processes)
	if err != nil {
		return fmt.Errorf("read trusted processes: %w", err)
	}
	for k, p := range all {
		if alive(k.Tgid, p.Start) {
			continue
		}
		if err := g.maps.Processes.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget process %d: %w", k.Tgid, err)
		}
	}
	return nil
}

// ReportsFD returns the ring buffer's descriptor, for the daemon's
// BypassReader. It belongs to the Guard; hand over a duplicate.
func (g *Guard) ReportsFD() int { return g.maps.Reports.FD() }

// Counters returns what the programs counted since the guard came up.
func (g *Guard) Counters() (Counters, error) { return readCounters(g.maps.Counters) }

// CountersFD returns the counters' descriptor, for the daemon's CounterReader.
// It belongs to the Guard; hand over a duplicate.
func (g *Guard) CountersFD() int { return g.maps.Counters.FD() }
