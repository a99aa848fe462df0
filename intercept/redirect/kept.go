package redirect

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// Fits returns why the kernel's table can't hold destinations, nil where it
// can. It changes nothing, and needs no guard.
func Fits(dst []intercept.Destination) error {
	own, err := ownAddresses()
	if err != nil {
		return err
	}
	keys, err := destinationKeys(dst, own)
	if err != nil {
		return err
	}
	most, err := mostPrefixes()
	if err == nil && len(keys) > most {
		err = fmt.Errorf("%d prefixes are more than the kernel's table holds (%d)", len(keys), most)
	}
	return err
}

// mostPrefixes is the size of the table.
var mostPrefixes = sync.OnceValues(func() (int, error) {
	spec, err := bpf.LoadGuard()
	if err != nil {
		return 0, fmt.Errorf("read programs: %w", err)
	}
	return int(spec.Maps[bpf.GuardMapDestinations].MaxEntries), nil
})

// CoveredIDs returns the cgroups that a guard covers in mode cgroup, those that
// are gone left out; none where no guard of this layout is pinned.
func CoveredIDs(pins string) (ids []uint64, err error) {
	if pins == "" {
		pins = DefaultPins
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinFolder(pins), bpf.GuardMapCovered), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pinned map %s: %w", bpf.GuardMapCovered, err)
	}
	defer m.Close()
	covered, err := content[uint64, uint32](m)
	if err != nil {
		return nil, fmt.Errorf("covered cgroups: %w", err)
	}
	root, err := Host{}.CgroupRoot()
	if err != nil {
		return nil, err
	}
	live := map[uint64]string{}
	if err := subtree(root, "/", live); err != nil {
		return nil, fmt.Errorf("covered cgroups: %w", err)
	}
	for id := range covered {
		if _, ok := live[id]; ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
