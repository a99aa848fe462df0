package redirect

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
)

// ErrCoverFull: more cgroups are covered than the kernel's list has places for.
// All of them are covered nevertheless, and with them what is around them.
var ErrCoverFull = errors.New("the list of covered cgroups is full: cover a parent of them instead")

// Cover covers one more cgroup, with all below it, in either mode. The next Up
// keeps it only if its Config names it. ErrCoverFull: it is covered, and so are
// others.
func (g *Guard) Cover(id uint64) error {
	err := g.maps.Covered.Put(id, uint32(1))
	if errors.Is(err, unix.E2BIG) {
		err = g.coverAround(id)
	}
	if err != nil {
		return fmt.Errorf("cover cgroup %d: %w", id, err)
	}
	return nil
}

// Uncover forgets a cgroup that Cover named: one that is gone.
func (g *Guard) Uncover(id uint64) error {
	if err := g.maps.Covered.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("uncover cgroup %d: %w", id, err)
	}
	return nil
}

// Release takes one more cgroup, with all below it, out of the cover of host
// mode, until the next Up.
func (g *Guard) Release(id uint64) error {
	if err := g.maps.Exempt.Put(id, uint32(1)); err != nil {
		return fmt.Errorf("exempt cgroup %d: %w", id, err)
	}
	return nil
}

// Retain undoes Release.
func (g *Guard) Retain(id uint64) error {
	if err := g.maps.Exempt.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("cover cgroup %d again: %w", id, err)
	}
	return nil
}

// coverAround covers a cgroup that finds no place on the list, until the next
// Up.
func (g *Guard) coverAround(id uint64) error {
	unlock, err := lock(g.dir)
	if err != nil {
		return err
	}
	defer unlock()
	var s bpf.GuardSettings
	if err := g.maps.Config.Lookup(uint32(0), &s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	around, name, err := g.around(s.Around, id)
	if err != nil || around == 0 {
		return err // 0: it is gone
	}
	s.Around = around
	if err := g.maps.Config.Put(uint32(0), s); err != nil {
		return fmt.Errorf("fill settings: %w", err)
	}
	return fmt.Errorf("%w (all below %s is covered)", ErrCoverFull, name)
}

// listCovered gives the list exactly the cgroups of want, as replace does, and
// returns what is around those that find no place; 0: all have one.
func (g *Guard) listCovered(want map[uint64]uint32) (around uint64, err error) {
	put := func(ids []uint64) (left []uint64, err error) {
		for _, id := range ids {
			err := g.maps.Covered.Put(id, want[id])
			if errors.Is(err, unix.E2BIG) {
				left = append(left, id)
			} else if err != nil {
				return nil, fmt.Errorf("cover cgroup %d: %w", id, err)
			}
		}
		return left, nil
	}
	left, err := put(slices.Sorted(maps.Keys(want)))
	if err != nil {
		return 0, err
	}
	old, err := content[uint64, uint32](g.maps.Covered)
	if err != nil {
		return 0, fmt.Errorf("covered cgroups: %w", err)
	}
	for id := range old {
		if _, ok := want[id]; !ok {
			if err := g.Uncover(id); err != nil {
				return 0, err
			}
		}
	}
	if left, err = put(left); err != nil {
		return 0, err
	}
	around, _, err = g.around(left...)
	return around, err
}

// around finds the smallest cgroup that all of ids are in or below; 0: none of
// them exists.
func (g *Guard) around(ids ...uint64) (id uint64, name string, err error) {
	if len(ids) == 0 {
		return 0, "", nil
	}
	names := map[uint64]string{}
	if err := subtree(g.root, "/", names); err != nil {
		return 0, "", fmt.Errorf("cgroups: %w", err)
	}
	for _, id := range ids {
		switch is := names[id]; {
		case is == "":
		case name == "":
			name = is
		default:
			for name != "/" && is != name && !strings.HasPrefix(is, name+"/") {
				name = path.Dir(name)
			}
		}
	}
	if name == "" {
		return 0, "", nil
	}
	for strings.Count(name, "/") >= maxLevels {
		name = path.Dir(name)
	}
	id, err = cgroupID(g.root, name)
	return id, name, err
}
