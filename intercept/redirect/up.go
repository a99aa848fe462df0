package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// Config says what is guarded. The zero Config is refused.
type Config struct {
	Mode         string   // "host" or "cgroup"
	Port         uint16   // the passage's, on loopback
	Pins         string   // folder on bpffs; "" is DefaultPins
	Covered      []string // cgroups covered in cgroup mode, below the cgroup2 root
	Exempt       []string // cgroups not covered in host mode
	CoveredIDs   []uint64 // more of them, by their cgroup2 ids
	ExemptIDs    []uint64
	Destinations []intercept.Destination
	Unix         Unix
	// Observe lets through what would be refused or dropped, reports it all
	// the same, and ends no older connection. Without a daemon connections are
	// not turned. Only the passage's own port stays closed.
	Observe bool
	Host    Host // the machine's own unless a test says otherwise
}

var modes = map[string]uint32{
	"host":   uint32(bpf.GuardModeMODE_HOST),
	"cgroup": uint32(bpf.GuardModeMODE_CGROUP),
}

func (c *Config) check() error {
	if modes[c.Mode] == 0 {
		return fmt.Errorf("mode %q: use host or cgroup", c.Mode)
	}
	if c.Port == 0 {
		return errors.New("port 0: the passage needs a fixed port outside net.ipv4.ip_local_port_range")
	}
	for _, d := range c.Destinations {
		if err := d.Check(); err != nil {
			return err
		}
		for _, a := range loopbacks {
			if d.Contains(netip.AddrPortFrom(a, c.Port)) {
				return fmt.Errorf("destination %s is the passage itself: choose another interception.port", d)
			}
		}
	}
	if err := c.Unix.check(); err != nil {
		return err
	}
	if c.Pins == "" {
		c.Pins = DefaultPins
	}
	c.Pins = filepath.Clean(c.Pins)
	return nil
}

// Up brings the guard up, or brings a pinned one to this version and
// configuration without a moment in which it is not there. When it returns an
// error after attaching began, what is attached stays and refuses.
//
// Covered connections that are older than the guard are destroyed; see
// Guard.Swept.
func Up(cfg Config) (*Guard, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := cfg.Host.Check(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if err := cfg.Host.CheckPort(cfg.Port); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	g, err := up(cfg)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	return g, nil
}

func up(cfg Config) (_ *Guard, err error) {
	_ = rlimit.RemoveMemlock() // kernels from 5.11 charge the cgroup instead
	root, err := cfg.Host.CgroupRoot()
	if err != nil {
		return nil, err
	}
	rootID, err := cgroupID(root, "/")
	if err != nil {
		return nil, err
	}
	dir, err := makePins(cfg.Pins)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	g := &Guard{cfg: cfg, dir: dir, root: root}
	spec, err := bpf.LoadGuard()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}}
	var progs bpf.GuardPrograms
	if err := spec.LoadAndAssign(&struct {
		*bpf.GuardPrograms
		*bpf.GuardMaps
	}{&progs, &g.maps}, opts); err != nil {
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return nil, fmt.Errorf("%w (%v)", ErrLayout, err)
		}
		return nil, fmt.Errorf("load programs: %w", err)
	}
	defer progs.Close()
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	var local bpf.UnixPrograms
	if err := g.loadUnix(&local, opts); err != nil {
		return nil, err
	}
	defer local.Close()
	var stream bpf.StreamPrograms
	if err := g.loadStream(&stream, opts); err != nil {
		return nil, err
	}
	defer stream.Close()
	if err := g.loadVeth(opts); err != nil {
		return nil, err
	}
	if err := g.fill(); err != nil {
		return nil, err
	}
	byName := programs(&progs, &local, &stream)
	for _, h := range haveHooks() {
		if err := h.install(dir, root, rootID, byName[h.name]); err != nil {
			return nil, err
		}
	}
	// An older layout's programs stand until ours do: nobody slips through, and
	// what is under way between them is refused.
	older, err := checkLayout(cfg.Pins)
	if err != nil {
		return nil, err
	}
	if err := g.rewire(older); err != nil {
		return nil, err
	}
	for _, old := range older {
		if err := unpin(old); err != nil {
			return nil, fmt.Errorf("remove the pins of an older version: %w", err)
		}
	}
	g.swept, g.sweepErr = g.sweep()
	return g, nil
}

// fill gives the maps their content before a program reads them.
func (g *Guard) fill() error {
	var err error
	if g.daemonID, err = makeCgroup(g.root, daemonCgroup); err != nil {
		return err
	}
	guarded, err := makeCgroup(g.root, guardedCgroup)
	if err != nil {
		return err
	}
	// The daemon's neighbours in its cgroup are nobody special.
	covered := map[uint64]uint32{guarded: 1, g.daemonID: 1}
	if g.cfg.Mode == "cgroup" {
		for _, path := range g.cfg.Covered {
			id, err := makeCgroup(g.root, path)
			if err != nil {
				return fmt.Errorf("covered %w", err)
			}
			covered[id] = 1
		}
	}
	for _, id := range g.cfg.CoveredIDs {
		covered[id] = 1
	}
	exempt := map[uint64]uint32{}
	if g.cfg.Mode == "host" {
		for _, id := range g.cfg.ExemptIDs {
			exempt[id] = 1
		}
		for _, path := range g.cfg.Exempt {
			id, err := cgroupID(g.root, path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // exempts nobody until the next Up
			} else if err != nil {
				return fmt.Errorf("exempt %w", err)
			}
			exempt[id] = 1
		}
	}
	own, err := ownAddresses()
	if err != nil {
		return err
	}
	keys, err := destinationKeys(g.cfg.Destinations, own)
	if err != nil {
		return err
	}
	if err := g.fillUnix(); err != nil {
		return err
	}
	around, err := g.listCovered(covered)
	if err := errors.Join(err, replaceDestinations(g.maps.Destinations, keys), replace(g.maps.Exempt, exempt)); err != nil {
		return err
	}
	// A passage on another port would no longer be kept from squatters.
	var old bpf.GuardSettings
	if err := g.maps.Config.Lookup(uint32(0), &old); err == nil && old.Port != g.cfg.Port {
		if err := g.Withdraw(); err != nil {
			return err
		}
	}
	settings := bpf.GuardSettings{Layout: layout, Mode: modes[g.cfg.Mode], DaemonCgroup: g.daemonID, Port: g.cfg.Port, UnixList: g.cfg.Unix.list(), Around: around}
	if g.cfg.Observe {
		settings.Observes = 1
	}
	if err := g.maps.Config.Put(uint32(0), settings); err != nil {
		return fmt.Errorf("fill settings: %w", err)
	}
	return g.trust(uint32(os.Getpid()), bpf.GuardRoleROLE_LOADER, 0, 0)
}

func programs(p *bpf.GuardPrograms, u *bpf.UnixPrograms, s *bpf.StreamPrograms) map[string]*ebpf.Program {
	return map[string]*ebpf.Program{
		bpf.GuardProgBind4: p.Bind4, bpf.GuardProgBind6: p.Bind6,
		bpf.GuardProgSockOps: p.SockOps, bpf.GuardProgFacts: p.Facts,
		bpf.GuardProgGetpeername4: p.Getpeername4, bpf.GuardProgGetpeername6: p.Getpeername6,
		bpf.GuardProgSockCreate: p.SockCreate,
		bpf.GuardProgSendmsg4:   p.Sendmsg4, bpf.GuardProgSendmsg6: p.Sendmsg6,
		bpf.GuardProgAsked4: p.Asked4, bpf.GuardProgAsked6: p.Asked6,
		bpf.GuardProgConnect4: p.Connect4, bpf.GuardProgConnect6: p.Connect6,
		bpf.GuardProgEgress:         p.Egress,
		bpf.UnixProgFactsUnix:       u.FactsUnix,
		bpf.UnixProgGetpeernameUnix: u.GetpeernameUnix,
		bpf.UnixProgGetsocknameUnix: u.GetsocknameUnix,
		bpf.UnixProgConnectUnix:     u.ConnectUnix,
		bpf.UnixProgSendmsgUnix:     u.SendmsgUnix,
		bpf.StreamProgStream:        s.Stream,
	}
}

// lock keeps two loaders from changing one set of pins at a time.
func lock(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
