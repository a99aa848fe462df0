package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
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

// Save writes the Set to a file, at once or not at all, in a folder that it
// makes for root alone.
func (s *Set) Save(path string) (err error) {
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
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	if err := rootsOwn(dir); err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	t, err := os.CreateTemp(dir, ".names-")
	if err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	_, err = t.Write(b)
	err = errors.Join(err, t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
		return fmt.Errorf("remember addresses: %w", err)
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("remember addresses: %w", err)
	}
	return nil
}

// Load adds what was remembered of names that are wanted. A file that is not
// there is nothing remembered. What is read counts as current until an answer
// is without it, or as old since when it was.
func (s *Set) Load(path string, now time.Time) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remembered addresses: %w", err)
	}
	defer f.Close()
	if err := rootsOwn(filepath.Dir(path)); err != nil {
		return fmt.Errorf("remembered addresses: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
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

// rootsOwn refuses a folder in which somebody else could write.
func rootsOwn(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: must be a folder of root's that nobody else may write to (chown root, chmod 700)", dir)
	}
	return nil
}
