package journal_test

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"

	"sallyport.dev/sallyport/events/journal"
)

// disk is a folder in memory that knows what is on stable storage, and fails
// on demand.
type disk struct {
	mu     sync.Mutex
	names  map[string]*inode
	synced map[string]*inode // the folder as the last SyncDir left it
	space  int64             // bytes that may still be written, if limited
	limit  bool
	locked bool
	ops    int
	// fail is asked before each write and sync, with its number. A non-nil
	// error is returned to the caller; kept says that the operation was done
	// all the same.
	fail func(op string, n int) (kept bool, err error)
}

type inode struct {
	data   []byte
	synced []byte
	dirty  map[int]bool // pages that the next Sync writes
}

const page = 512

func (in *inode) touch(off, n int) {
	if in.dirty == nil {
		in.dirty = map[int]bool{}
	}
	for p := off / page; p*page < off+n; p++ {
		in.dirty[p] = true
	}
}

func newDisk() *disk { return &disk{names: map[string]*inode{}, synced: map[string]*inode{}} }

func (d *disk) step(op string) (kept bool, err error) {
	d.ops++
	if d.fail == nil {
		return true, nil
	}
	return d.fail(op, d.ops)
}

type unlock struct{ d *disk }

func (u unlock) Close() error { u.d.mu.Lock(); u.d.locked = false; u.d.mu.Unlock(); return nil }

func (d *disk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, errors.New("locked")
	}
	d.locked = true
	return unlock{d}, nil
}

func (d *disk) Open(name string, flag int) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.names[name]
	switch {
	case in != nil && flag&os.O_EXCL != 0:
		return nil, os.ErrExist
	case in == nil && flag&os.O_CREATE == 0:
		return nil, os.ErrNotExist
	case in == nil:
		if kept, err := d.step("create"); err != nil {
			if kept {
				d.names[name] = &inode{}
			}
			return nil, err
		}
		in = &inode{}
		d.names[name] = in
	}
	return &memFile{d, in}, nil
}

func (d *disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for n := range d.names {
		out = append(out, n)
	}
	return out, nil
}

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, err := d.step("rename")
	if kept {
		d.names[to] = d.names[from]
		delete(d.names, from)
	}
	return err
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, err := d.step("remove")
	if kept {
		delete(d.names, name)
	}
	return err
}

func (d *disk) SyncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept, err := d.step("syncdir")
	if kept {
		d.synced = map[string]*inode{}
		for n, in := range d.names {
			d.synced[n] = in
		}
	}
	return err
}

type memFile struct {
	d  *disk
	in *inode
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.in.data)), nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.in.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.in.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) put(b []byte, off int64) {
	if n := int(off) + len(b); n > len(f.in.data) {
		f.in.data = append(f.in.data, make([]byte, n-len(f.in.data))...)
	}
	copy(f.in.data[off:], b)
	f.in.touch(int(off), len(b))
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.limit {
		if grow := off + int64(len(b)) - int64(len(f.in.data)); grow > f.d.space {
			n := len(b) - int(grow-f.d.space) // a part fits
			f.put(b[:n], off)
			f.d.space = 0
			return n, &os.PathError{Op: "write", Path: "segment", Err: syscall.ENOSPC}
		} else if grow > 0 {
			f.d.space -= grow
		}
	}
	kept, err := f.d.step("write")
	if err != nil {
		if kept {
			f.put(b, off)
		} else {
			f.put(b[:len(b)/2], off)
		}
		return 0, err
	}
	f.put(b, off)
	return len(b), nil
}

func (f *memFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	kept, err := f.d.step("truncate")
	if kept {
		f.in.data = slices.Clone(f.in.data[:n])
		f.in.touch(int(n), 0)
	}
	return err
}

// Sync has the failure of a real one: what it could not write is clean from
// then on, and the next Sync says that all is well.
func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	kept, err := f.d.step("sync")
	if kept {
		f.in.flush()
	}
	f.in.dirty = nil
	return err
}

// flush brings the dirty pages and the size to stable storage.
func (in *inode) flush() {
	n := len(in.data)
	if len(in.synced) > n {
		in.synced = in.synced[:n]
	}
	in.synced = append(in.synced, make([]byte, n-len(in.synced))...)
	for p := range in.dirty {
		if off := p * page; off < n {
			copy(in.synced[off:min(off+page, n)], in.data[off:])
		}
	}
}

// cut returns the disk as a power cut leaves it: what was synced is there; of
// the rest, some pages may have made it.
func (d *disk) cut(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	for n, in := range d.synced {
		after.names[n] = in.cut(r)
	}
	for n, in := range d.names { // a creation may have made it unasked
		if d.synced[n] == nil && r.IntN(2) == 0 && after.names[n] == nil {
			after.names[n] = in.cut(r)
		}
	}
	for n, in := range after.names {
		after.synced[n] = in
	}
	return after
}

func (in *inode) cut(r *rand.Rand) *inode {
	b := slices.Clone(in.synced)
	if r.IntN(2) == 0 { // the size was written, the data perhaps not
		for off := 0; off < len(in.data); off += page {
			end := min(off+page, len(in.data))
			if end > len(b) {
				b = append(b, make([]byte, end-len(b))...)
			}
			if r.IntN(2) == 0 {
				copy(b[off:end], in.data[off:end])
			}
		}
		if r.IntN(2) == 0 && len(b) > len(in.synced) {
			b = b[:len(in.synced)+r.IntN(len(b)-len(in.synced))]
		}
	}
	return &inode{data: b, synced: slices.Clone(b)}
}

// kill returns the disk as kill -9 leaves it: all that was written is there.
func (d *disk) kill() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	for n, in := range d.names {
		after.names[n] = &inode{slices.Clone(in.data), slices.Clone(in.synced), maps.Clone(in.dirty)}
	}
	for n := range d.synced {
		if in := after.names[n]; in != nil {
			after.synced[n] = in
		}
	}
	return after
}
