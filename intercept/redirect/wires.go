package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// Space is a network namespace with covered processes, by names that hold as
// long as it lives; no file of it is kept open.
type Space struct {
	Cookie uint64 // SO_NETNS_COOKIE
	id     int32  // in the caller's network namespace
}

// SpaceOf names the network namespace of a file.
func SpaceOf(ns *os.File) (s Space, err error) {
	if s.Cookie, err = NetnsCookie(ns); err == nil {
		s.id, err = namespaceID(ns)
	}
	return s, err
}

// Wire is this network namespace's end of a veth pair that leads to covered
// processes. What they send there by packet sockets passes no hook of theirs.
type Wire struct {
	Index int    `json:"index"` // of the interface
	Name  string `json:"name"`
	Netns uint64 `json:"netns"` // cookie of the namespace at the other end
}

// WireStatus is what the kernel says of one that was guarded.
type WireStatus struct {
	Wire
	Attached bool   `json:"attached"`
	Problem  string `json:"problem,omitempty"`
}

// Wire guards the veth pairs that lead from the caller's network namespace to
// those, and returns the ones that were not guarded before. Wires of others
// stay as they are. It is done again for interfaces that come later.
func (g *Guard) Wire(spaces ...Space) (fresh []Wire, err error) {
	unlock, err := lock(g.dir)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer unlock()
	wires, err := wiresTo(spaces)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	var errs []error
	for _, w := range wires {
		is, err := g.wire(w)
		if err != nil {
			errs = append(errs, fmt.Errorf("guard: interface %s (%d): %w", w.Name, w.Index, err))
		} else if is {
			fresh = append(fresh, w)
		}
	}
	return fresh, errors.Join(errs...)
}

// Unwire takes the guard off every wire that leads to none of those.
func (g *Guard) Unwire(keep ...Space) error {
	unlock, err := lock(g.dir)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	defer unlock()
	kept := map[int]bool{}
	wires, err := wiresTo(keep)
	for _, w := range wires {
		kept[w.Index] = true
	}
	was, werr := wiresIn(g.dir)
	if err := errors.Join(err, werr); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	var errs []error
	for index := range was {
		if !kept[index] {
			errs = append(errs, g.unwire(index))
		}
	}
	return errors.Join(errs...)
}

// wiresTo lists those that lead to some namespaces.
func wiresTo(spaces []Space) (wires []Wire, err error) {
	if len(spaces) == 0 {
		return nil, nil
	}
	cookies := map[int32]uint64{}
	for _, s := range spaces {
		cookies[s.id] = s.Cookie
	}
	c, err := route()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := interfaces(c, "veth")
	for _, i := range all {
		if cookie, ok := cookies[i.in]; ok && i.in != unnumbered {
			wires = append(wires, Wire{Index: i.index, Name: i.name, Netns: cookie})
		}
	}
	return wires, err
}

// Exit is an interface by which frames leave a network namespace.
type Exit struct {
	Name string
	Kind string // "veth", "macvlan", ...; "device" for one that was moved there
	Wire int    // index of its other end in the caller's namespace; 0 where frames of it can't be guarded
}

// Exits lists those of a network namespace.
func Exits(ns *os.File) (exits []Exit, err error) {
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer own.Close()
	err = inNetns(ns, func() error {
		c, err := route()
		if err != nil {
			return err
		}
		defer c.Close()
		all, err := interfaces(c, "")
		if err != nil {
			return err
		}
		here, err := numberOf(c, own)
		for _, i := range all {
			e := Exit{Name: i.name, Kind: i.kind}
			switch {
			case i.kind == "" && !i.loopback:
				e.Kind = "device"
			case i.in == unnumbered:
				continue // it leads nowhere else by itself
			case i.kind == "veth" && i.in == here:
				e.Wire = i.link
			}
			exits = append(exits, e)
		}
		return err
	})
	return exits, err
}

// loadVeth loads the program of wires.
func (g *Guard) loadVeth(opts *ebpf.CollectionOptions) error {
	spec, err := bpf.LoadVeth()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	var progs bpf.VethPrograms
	var maps bpf.VethMaps
	if err := spec.LoadAndAssign(&struct {
		*bpf.VethPrograms
		*bpf.VethMaps
	}{&progs, &maps}, opts); err != nil {
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return fmt.Errorf("%w (%v)", ErrLayout, err)
		}
		return fmt.Errorf("load the program of wires: %w", err)
	}
	g.veth, g.wires = progs.Veth, maps.Wires
	maps.Wires = nil
	return maps.Close() // the others are the guard's too
}

// rewire brings the wires that were guarded to this guard's program, those of
// older layouts included, and forgets the ones that have gone.
func (g *Guard) rewire(older []string) error {
	was := map[int]uint64{}
	for _, dir := range append(older, g.dir) {
		in, err := wiresIn(dir)
		if err != nil {
			return err
		}
		for index, cookie := range in {
			was[index] = cookie
		}
	}
	var errs []error
	for index, cookie := range was {
		i, err := net.InterfaceByIndex(index)
		if err != nil {
			if !tcxAlive(g.dir, index) { // else it is of another network namespace
				errs = append(errs, g.unwire(index))
			}
			continue
		}
		if _, err := g.wire(Wire{Index: index, Name: i.Name, Netns: cookie}); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", i.Name, err))
		}
	}
	return errors.Join(errs...)
}

// wire guards one; true if it was not.
func (g *Guard) wire(w Wire) (fresh bool, err error) {
	if err := g.wires.Put(uint32(w.Index), bpf.VethWire{Netns: w.Netns}); err != nil {
		return false, err
	}
	if haveTCX() {
		fresh, err = installTCX(g.dir, w.Index, g.veth)
	} else {
		fresh, err = installFilter(w.Index, g.veth)
	}
	if errors.Is(err, unix.ENODEV) {
		return false, g.unwire(w.Index) // it has gone meanwhile
	}
	return fresh, err
}

func (g *Guard) unwire(index int) error {
	if err := detachWire(g.dir, index); err != nil {
		return err
	}
	if err := g.wires.Delete(uint32(index)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("interface %d: %w", index, err)
	}
	return nil
}

// detachWire takes the program off an interface, whichever way it is there.
func detachWire(dir string, index int) error {
	err := removeTCX(dir, index)
	if !haveTCX() {
		err = errors.Join(err, removeFilter(index))
	}
	if err != nil {
		return fmt.Errorf("interface %d: %w", index, err)
	}
	return nil
}

// unpinWires does that for all wires that a folder of pins names.
func unpinWires(dir string) error {
	all, err := wiresIn(dir)
	errs := []error{err}
	for index := range all {
		errs = append(errs, detachWire(dir, index))
	}
	spares, err := filepath.Glob(filepath.Join(dir, tcxSparePrefix+"*"))
	errs = append(errs, err)
	for _, pin := range spares {
		errs = append(errs, os.Remove(pin))
	}
	return errors.Join(errs...)
}

// wiresIn returns the wires that a folder of pins names, by their interfaces,
// with the cookies at their other ends.
func wiresIn(dir string) (map[int]uint64, error) {
	all := map[int]uint64{}
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, bpf.VethMapWires), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pinned map %s: %w", bpf.VethMapWires, err)
	}
	defer m.Close()
	in, err := content[uint32, bpf.VethWire](m)
	if err != nil {
		return nil, fmt.Errorf("wires: %w", err)
	}
	for index, w := range in {
		all[int(index)] = w.Netns
	}
	// What is pinned without an entry is not forgotten.
	pins, err := filepath.Glob(filepath.Join(dir, tcxPinPrefix+"*"))
	for _, pin := range pins {
		index, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(pin), tcxPinPrefix))
		if _, ok := all[index]; err == nil && !ok {
			all[index] = 0
		}
	}
	return all, err
}

// wireStatus asks the kernel about every wire that was guarded and is there.
func wireStatus(dir string) (list []WireStatus, err error) {
	all, err := wiresIn(dir)
	if err != nil {
		return nil, err
	}
	for index, cookie := range all {
		i, err := net.InterfaceByIndex(index)
		if err != nil {
			continue // gone, and its program with it
		}
		s := WireStatus{Wire: Wire{index, i.Name, cookie}, Attached: true}
		check := tcxAttached
		if !haveTCX() {
			check = func(_ string, index int) error { _, err := filterAt(index); return err }
		}
		if err := check(dir, index); err != nil {
			s.Attached, s.Problem = false, err.Error()
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b WireStatus) int { return a.Index - b.Index })
	return list, nil
}
