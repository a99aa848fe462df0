package discover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"sallyport.dev/sallyport/bpf"
)

// Options of an inventory.
type Options struct {
	CgroupRoot string // where cgroup2 is mounted
	// Every is the time between two looks at the sockets of the host; 0 is ten
	// seconds. Connections over unix sockets are seen only by such a look.
	Every time.Duration
	// Describe, when set, names the workload of a container's cgroup, as its
	// runtime knows it; "" where it can't.
	Describe func(cgroup string) string
	// Progress, when set, is called after each look.
	Progress func(contacts, forwarders int)
}

// row is what makes two connections one Contact.
type row struct {
	who    Process
	target string
}

// collector gathers an inventory. It belongs to one goroutine.
type collector struct {
	inv      Inventory
	rows     map[row]*Contact
	known    map[bpf.DiscoverReach]Process // looked at while they lived
	reaches  map[uint32]map[string]Service // targets by process id
	open     map[[2]uint64]bool            // connections over unix sockets that were seen: process, inode
	problems map[string]bool
	cgroups  map[uint64]string
	describe func(cgroup string) string
	names    map[string]string // workloads by cgroup, of containers
	tried    map[string]bool   // cgroups that were asked for since the latest look
	root     string
	home     uint32              // this process's network namespace
	local    map[netip.Addr]bool // its addresses

	// Of the latest look.
	listeners []Listener
	serves    map[uint32]map[uint16]Service // by namespace and port
}

// Take takes an inventory until ctx ends. The programs are in place before
// the first look at what exists, so that nothing falls between.
func Take(ctx context.Context, o Options) (*Inventory, error) {
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	wall, err := clock()
	if err != nil {
		return nil, err
	}
	p, err := attach(o.CgroupRoot)
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := newCollector(o.CgroupRoot)
	c.describe = o.Describe
	c.inv.Since = time.Now()
	arrivals, stopped := make(chan bpf.DiscoverFresh, 256), make(chan error, 1)
	go func() {
		for {
			f, err := p.arrival()
			if err != nil {
				stopped <- err
				close(arrivals)
				return
			}
			arrivals <- f
		}
	}()
	look := func(first bool) error {
		if err := c.look(first); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(len(c.rows)+len(c.known), len(c.forwarders()))
		}
		return nil
	}
	// Arrivals are looked at beside: a process may not live long.
	every := time.NewTicker(o.Every)
	defer every.Stop()
	err = look(true)
	for err == nil && ctx.Err() == nil {
		select {
		case f := <-arrivals:
			c.arrived(&f)
		case <-every.C:
			err = look(false)
		case <-ctx.Done():
		}
	}
	p.detach()
	p.ring.Close()
	for f := range arrivals {
		c.arrived(&f)
	}
	if rerr := <-stopped; !errors.Is(rerr, ringbuf.ErrClosed) {
		err = errors.Join(err, rerr)
	}
	if err == nil {
		err = look(false)
	}
	if err != nil {
		return nil, err
	}
	return c.finish(p, wall)
}

// arrived looks at the process of a kind that was not seen before.
func (c *collector) arrived(f *bpf.DiscoverFresh) {
	who, alive := look(f.Tgid)
	if !alive || born(f.Tgid) != f.Start/ticks || who.Exe == "" {
		who = Process{Comm: text(f.Comm[:])} // gone, or its number is another's
	} else {
		c.reach(f.Tgid, destination(&f.Key).String(), byPort(f.Key.Port))
	}
	c.name(&who)
	who.UID, who.NetNS = f.Key.Uid, f.Key.Netns
	c.known[f.Key] = who
}

func text(b []byte) string {
	for i, ch := range b {
		if ch == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// name finds out, while it is there, what a container is called. A cgroup has
// no other container later: the name has the container's id in it.
func (c *collector) name(p *Process) {
	if c.describe == nil || p.Container == "" || c.names[p.Cgroup] != "" || c.tried[p.Cgroup] {
		return
	}
	c.tried[p.Cgroup] = true
	if name := c.describe(p.Cgroup); name != "" {
		c.names[p.Cgroup] = name
	}
}

// nameAgain asks once more for those that had no name, as long as they are
// there: a runtime writes its state around the time when the container begins.
func (c *collector) nameAgain() {
	before := c.tried
	c.tried = map[string]bool{}
	for cgroup := range before {
		if _, err := os.Stat(filepath.Join(c.root, cgroup)); err == nil {
			c.name(&Process{Container: cgroup, Cgroup: cgroup})
		}
	}
}

// mostTargets is how many of one process are kept, and four times as many where
// there are databases among them: what it reaches besides
// says no more of it, and it may go on for ever.
const mostTargets = 1024

func (c *collector) reach(pid uint32, target string, s Service) {
	if c.reaches[pid] == nil {
		c.reaches[pid] = map[string]Service{}
	}
	if _, known := c.reaches[pid][target]; known || len(c.reaches[pid]) < mostTargets || s.Database() && len(c.reaches[pid]) < 4*mostTargets {
		c.reaches[pid][target] = s
	}
}

// forget lets go of processes that have ended: their numbers get other owners.
func (c *collector) forget(live []uint32) {
	alive := map[uint32]bool{}
	for _, pid := range live {
		alive[pid] = true
	}
	maps.DeleteFunc(c.reaches, func(pid uint32, _ map[string]Service) bool { return !alive[pid] })
	maps.DeleteFunc(c.open, func(k [2]uint64, _ bool) bool { return !alive[uint32(k[0])] })
}

// look lists the sockets of all namespaces. Connections found by the first
// look are older than the programs; later ones were counted by them.
func (c *collector) look(first bool) error {
	all, err := pids()
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	c.forget(all)
	c.nameAgain()
	by := holders(all)
	now := time.Now()
	c.listeners, c.serves = nil, map[uint32]map[uint16]Service{}
	found := map[uint32][]socket{}
	for ns, pid := range namespaces(all) {
		socks, err := socketsIn(pid)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.problem(fmt.Sprintf("network namespace %d: %v", ns, err))
		}
		found[ns] = socks
		c.serves[ns] = map[uint16]Service{}
		for i := range socks {
			c.listens(ns, &socks[i], by)
		}
	}
	paths := map[uint32]string{} // of servers' ends of unix sockets, by the client's inode
	for _, socks := range found {
		for i := range socks {
			if s := &socks[i]; !s.listens && s.peer != 0 && byPath(s.path).Protocol != "" {
				paths[s.peer] = s.path
			}
		}
	}
	for ns, socks := range found {
		for i := range socks {
			c.connected(ns, &socks[i], by, first, now)
		}
	}
	for inode, path := range paths {
		c.connectedPath(inode, path, by, first, now)
	}
	return nil
}

// mostProblems are told: namespaces may come and go for as long as it takes.
const mostProblems = 100

func (c *collector) problem(text string) {
	if !c.problems[text] && len(c.problems) < mostProblems {
		c.problems[text] = true
		c.inv.Problems = append(c.inv.Problems, text)
	}
}

// listens notes a listening socket. Of unix sockets only those of databases.
func (c *collector) listens(ns uint32, s *socket, by holding) {
	if !s.listens || s.path != "" && byPath(s.path).Protocol == "" {
		return
	}
	pid := by.first(s.inode)
	who, _ := look(pid)
	c.name(&who)
	l := Listener{Process: who, PID: pid, Path: s.path, holders: by[s.inode]}
	l.NetNS = ns
	if s.path != "" {
		l.Service = byPath(s.path)
		if strong := byServer(who.Exe, 0); strong.Protocol != "" {
			l.Service = strong
		}
	} else {
		l.Address = s.local
		l.Service = byServer(who.Exe, s.local.Port())
		c.serves[ns][s.local.Port()] = l.Service
	}
	c.listeners = append(c.listeners, l)
}

// connected notes a TCP connection's client.
func (c *collector) connected(ns uint32, s *socket, by holding, first bool, now time.Time) {
	if s.listens || s.path != "" || !s.remote.IsValid() {
		return
	}
	if _, served := c.serves[ns][s.local.Port()]; served {
		return // the server's end
	}
	pid := by.first(s.inode)
	if pid == 0 {
		return // nobody's: it is on its way out
	}
	service := c.service(ns, s.remote)
	c.reach(pid, s.remote.String(), service)
	if !first {
		return
	}
	who, alive := look(pid)
	if !alive {
		return
	}
	c.name(&who)
	who.NetNS = ns
	c.add(Contact{Process: who, Service: service, Destination: s.remote, Connections: 1, Existing: 1, First: now, Last: now})
}

func (c *collector) connectedPath(inode uint32, path string, by holding, first bool, now time.Time) {
	pid := by.first(inode)
	if pid == 0 {
		return
	}
	service := byPath(path)
	c.reach(pid, path, service)
	key := [2]uint64{uint64(pid), uint64(inode)}
	if c.open[key] {
		return
	}
	c.open[key] = true
	who, alive := look(pid)
	if !alive {
		return
	}
	c.name(&who)
	n := uint64(0)
	if first {
		n = 1
	}
	c.add(Contact{Process: who, Service: service, Path: path, Connections: 1, Existing: n, First: now, Last: now})
}

// service names what is served at an address, as seen from a namespace.
func (c *collector) service(ns uint32, a netip.AddrPort) Service {
	if !a.Addr().IsLoopback() {
		if !c.local[a.Addr()] {
			return byPort(a.Port())
		}
		ns = c.home
	}
	if s, ok := c.serves[ns][a.Port()]; ok && s.Protocol != "" {
		return s
	}
	return byPort(a.Port())
}

// addresses returns those of this network namespace, loopback apart.
func addresses() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			all[p.Addr().Unmap()] = true
		}
	}
	return all
}

// add counts a connection with others of its kind.
func (c *collector) add(n Contact) {
	key := row{n.Process, n.Target()}
	have := c.rows[key]
	if have == nil {
		c.rows[key] = &n
		return
	}
	have.Connections += n.Connections
	have.Existing += n.Existing
	if n.First.Before(have.First) {
		have.First = n.First
	}
	if n.Last.After(have.Last) {
		have.Last = n.Last
	}
}

// finish puts what the programs counted to the rest.
func (c *collector) finish(p *programs, wall func(uint64) time.Time) (*Inventory, error) {
	counts, err := p.counts()
	if err != nil {
		return nil, fmt.Errorf("read what was counted: %w", err)
	}
	var ferr, rerr error
	c.inv.Missed, ferr = p.unseen(bpf.DiscoverUnseenUNSEEN_FULL)
	c.inv.Untold, rerr = p.unseen(bpf.DiscoverUnseenUNSEEN_RING)
	if err := errors.Join(ferr, rerr); err != nil {
		return nil, fmt.Errorf("read what was not counted: %w", err)
	}
	for k, v := range counts {
		who, ok := c.known[k]
		if !ok {
			who = Process{UID: k.Uid, NetNS: k.Netns}
		}
		if who.Cgroup == "" {
			who.place(c.cgroup(k.Cgroup))
		}
		dst := destination(&k)
		c.add(Contact{
			Process: who, Service: c.service(k.Netns, dst), Destination: dst,
			Connections: v.Count, First: wall(v.First), Last: wall(v.Last),
		})
	}
	return c.done(), nil
}

// cgroup returns the path of a cgroup by its id, "" when it is gone.
func (c *collector) cgroup(id uint64) string {
	if c.cgroups == nil {
		c.cgroups = map[uint64]string{}
		_ = filepath.WalkDir(c.root, func(p string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // gone meanwhile
			}
			if fi, err := d.Info(); err == nil {
				rel, _ := filepath.Rel(c.root, p)
				c.cgroups[fi.Sys().(*syscall.Stat_t).Ino] = filepath.Clean("/" + rel)
			}
			return nil
		})
	}
	return c.cgroups[id]
}
