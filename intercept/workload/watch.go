package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxLevels is how deep the programs in the kernel look for a covered or
	// exempt cgroup: what is deeper can't be either by itself.
	maxLevels = 32
	// maxNodes bounds what a workload that makes cgroups can take.
	maxNodes = 64 << 10
)

// errWatches: some cgroups are not watched, and are found by looking around.
var errWatches = errors.New("the kernel has no room for more watches: raise fs.inotify.max_user_watches")

// node is a cgroup in the hierarchy.
type node struct {
	path      string
	id        uint64
	parent    *node
	children  map[string]*node
	wd        int32 // -1: not watched
	depth     int
	descended bool // children are known and followed
	group     group
}

// watch follows the cgroup2 hierarchy by inotify. It is the tracker's own and
// not safe for use by many goroutines, but for raw, which reads notices.
type watch struct {
	root  string
	fd    int
	file  *os.File // of fd, for the poller
	top   *node
	byWD  map[int32]*node
	count int
	full  error // why some cgroup is not watched

	// Called with each cgroup that appears, parents first; whether its
	// children are to be followed.
	appeared func(*node) (descend bool)
	// Called with each that is gone, children first.
	gone func(*node)
	// Called when processes came to a cgroup or left it.
	changed func(*node)
}

func newWatch(root string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch cgroups: inotify: %w (raise fs.inotify.max_user_instances)", err)
	}
	return &watch{root: root, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), byWD: map[int32]*node{}}, nil
}

func (w *watch) close() { w.file.Close() }

// begin finds what is there.
func (w *watch) begin() error {
	w.top = &node{path: "/", wd: -1, children: map[string]*node{}}
	dir, st, err := w.open("/")
	if err != nil {
		return fmt.Errorf("watch cgroups: %w", err)
	}
	defer unix.Close(dir)
	w.top.id = st.Ino
	w.add(w.top, dir)
	if w.appeared(w.top) {
		w.descend(w.top)
	}
	return nil
}

func (w *watch) dir(path string) string { return w.root + strings.TrimSuffix(path, "/") }

func (w *watch) open(path string) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Open(w.dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// add watches the cgroup that dir leads to, whatever its path means by now.
func (w *watch) add(n *node, dir int) {
	// cgroup.events and, where a process is moved, cgroup.procs: IN_MODIFY of
	// the folder tells of both.
	wd, err := unix.InotifyAddWatch(w.fd, fmt.Sprintf("/proc/self/fd/%d", dir), unix.IN_CREATE|unix.IN_DELETE|unix.IN_MODIFY|unix.IN_ONLYDIR)
	switch {
	case err == nil:
		n.wd = int32(wd)
		w.byWD[n.wd] = n
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM):
		w.full = fmt.Errorf("%w (%w)", errWatches, err)
	}
	w.count++
}

// look brings one child up to date with what is there.
func (w *watch) look(parent *node, name string) {
	old := parent.children[name]
	path := strings.TrimSuffix(parent.path, "/") + "/" + name
	dir, st, err := w.open(path)
	if err != nil { // gone, or too deep to have a path
		w.remove(old)
		return
	}
	defer unix.Close(dir)
	if old != nil {
		if old.id == st.Ino {
			return
		}
		w.remove(old)
	}
	if parent.depth+1 >= maxLevels || w.count >= maxNodes {
		if w.count >= maxNodes {
			w.full = fmt.Errorf("more than %d cgroups", maxNodes)
		}
		return
	}
	n := &node{path: path, id: st.Ino, parent: parent, wd: -1, depth: parent.depth + 1, children: map[string]*node{}}
	parent.children[name] = n
	w.add(n, dir)
	if w.appeared(n) {
		w.descend(n)
	}
}

// descend follows the children of a cgroup. It is watched already, so that one
// made meanwhile is found here or told of later, or both.
func (w *watch) descend(n *node) {
	n.descended = true
	for _, name := range w.list(n) {
		w.look(n, name)
	}
}

// list returns the names of a cgroup's children.
func (w *watch) list(n *node) (names []string) {
	var st unix.Stat_t
	// The kernel counts a folder's folders as links: most cgroups have none.
	if err := unix.Stat(w.dir(n.path), &st); err != nil || st.Nlink <= 2 {
		return nil
	}
	d, err := os.Open(w.dir(n.path))
	if err != nil {
		return nil
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		if err != nil {
			return names
		}
	}
}

func (w *watch) remove(n *node) {
	if n == nil {
		return
	}
	for _, c := range n.children {
		w.remove(c)
	}
	if n.parent != nil {
		delete(n.parent.children, n.path[strings.LastIndexByte(n.path, '/')+1:])
	}
	if n.wd >= 0 && w.byWD[n.wd] == n {
		delete(w.byWD, n.wd)
		_, _ = unix.InotifyRmWatch(w.fd, uint32(n.wd)) // the kernel's doing, where the folder is gone
	}
	w.count--
	w.gone(n)
}

// rescan brings everything up to date, whatever was told or not.
func (w *watch) rescan() {
	w.full = nil
	w.renew(w.top)
}

func (w *watch) renew(n *node) {
	if n.wd < 0 {
		if dir, st, err := w.open(n.path); err == nil {
			if st.Ino == n.id {
				w.count-- // add counts it again
				w.add(n, dir)
			}
			unix.Close(dir)
		}
	}
	if !n.descended {
		return
	}
	there := w.list(n)
	known := map[string]bool{}
	for _, name := range there {
		known[name] = true
	}
	for name, c := range n.children {
		if !known[name] {
			w.remove(c)
		}
	}
	for _, name := range there {
		before := n.children[name]
		w.look(n, name)
		if c := n.children[name]; c != nil && c == before {
			w.renew(c)
		}
	}
}

// raw reads notices until the watch is closed, for handle.
func (w *watch) raw(to chan<- []byte, done <-chan struct{}) error {
	for {
		b := make([]byte, 16<<10)
		n, err := w.file.Read(b)
		if err != nil {
			if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watch cgroups: %w", err)
		}
		select {
		case to <- b[:n]:
		case <-done:
			return nil
		}
	}
}

// handle takes notices in; overflow means that some were lost.
func (w *watch) handle(b []byte) (overflow bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(b) {
			return true
		}
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		b = b[end:]
		if e.Mask&unix.IN_Q_OVERFLOW != 0 {
			overflow = true
			continue
		}
		n := w.byWD[e.Wd]
		switch {
		case n == nil: // of one that was removed
		case e.Mask&unix.IN_IGNORED != 0:
			delete(w.byWD, e.Wd)
			n.wd = -1
			if n.parent != nil {
				w.look(n.parent, n.path[strings.LastIndexByte(n.path, '/')+1:])
			}
		case e.Mask&unix.IN_ISDIR != 0:
			if n.descended {
				w.look(n, name)
			}
		case name == "cgroup.events" || name == "cgroup.procs":
			w.changed(n)
		}
	}
	return overflow
}
