package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"sallyport.dev/sallyport/intercept/rootfile"
)

// maxFile is far beyond what MaxAll addresses need.
const maxFile = 16 << 20

// remembered is the file of a Set.
type remembered struct {
	Version int                         `json:"version"` // 1
	Names   map[string][]rememberedAddr `json:"names"`
}

type rememberedAddr struct {
	Addr netip.Addr `json:"addr"`
	Left time.Time  `json:"left,omitzero"`
}

// Save writes the Set to a file, at once or not at all, in a folder of root's
// alone that it makes where there is none.
func (s *Set) Save(path string) error {
	f := remembered{Version: 1, Names: map[string][]rememberedAddr{}}
	for name, a := range s.Map() {
		for _, addr := range append(a.Current, a.Old...) {
			f.Names[name] = append(f.Names[name], rememberedAddr{addr, s.all[name].addrs[addr].left.UTC().Round(0)})
		}
	}
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	if err := rootfile.Write(path, b); err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	return nil
}

// Load adds what was remembered of names that are wanted. A file that is not
// there is nothing remembered. What is read counts as current until an answer
// is without it, or as old since when it was.
func (s *Set) Load(path string, now time.Time) error {
	b, err := rootfile.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remembered addresses: %w", err)
	}
	var r remembered
	if err := json.Unmarshal(b, &r); err != nil || r.Version != 1 {
		return fmt.Errorf("remembered addresses: %s: can't be read (version %d, %v): remove it, and what the names lead to is found anew", path, r.Version, err)
	}
	for name, addrs := range r.Names {
		e := s.all[name]
		if e == nil {
			continue
		}
		for _, a := range addrs {
			addr := a.Addr.Unmap()
			if e.addrs[addr] != nil || !Dialable(addr) || addr.Zone() != "" || len(e.addrs) >= MaxKept || s.n >= MaxAll {
				continue
			}
			st := &state{}
			if !a.Left.IsZero() {
				st.left = a.Left
				if st.left.After(now) { // the clock was wrong
					st.left = now
				}
			}
			e.addrs[addr] = st
			s.n++
		}
	}
	return nil
}
