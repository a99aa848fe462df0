package redirect

import (
	"errors"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// Unix says what covered processes may do with unix sockets, from kernel 6.7
// on. Names are compared as the client writes them.
type Unix struct {
	// Protected are the sockets of protected servers: absolute paths, or
	// abstract names with @ before them. Connections go to the passage.
	Protected []string
	// Allow, when not nil, are the only others that may be connected to: exact
	// names, or paths that end in /** for all below, where no .. may be in the
	// name. A client that writes a protected path in another way is then
	// refused. A folder in which agents can make links must not be listed.
	Allow []string
}

func (u *Unix) list() uint8 {
	if u.Allow != nil {
		return 1
	}
	return 0
}

func (u *Unix) check() error {
	for _, p := range u.Protected {
		if strings.HasSuffix(p, "/**") {
			return fmt.Errorf("unix socket %s: a protected socket is named exactly", p)
		}
	}
	for _, p := range slices.Concat(u.Protected, u.Allow) {
		if _, err := pathKey(p); err != nil {
			return err
		}
	}
	if (len(u.Protected) > 0 || u.Allow != nil) && HaveUnix() != nil {
		return fmt.Errorf("unix sockets: %w", HaveUnix())
	}
	return nil
}

// ErrNoUnix: file permissions alone can keep agents from unix sockets.
var ErrNoUnix = errors.New("the kernel has no hook for connections to unix sockets: boot Linux 6.7 or newer, or close the socket's folder to agents (docs/operations.md)")

// HaveUnix returns ErrNoUnix before kernel 6.7.
func HaveUnix() error {
	if err := haveUnix(); err != nil {
		return fmt.Errorf("%w (%v)", ErrNoUnix, err)
	}
	return nil
}

// pathSize is sizeof(sun_path).
const pathSize = len(bpf.UnixLocal{}.Name)

// pathKey gives a name in the trie's form.
func pathKey(name string) (k bpf.UnixPath, err error) {
	if abstract, ok := strings.CutPrefix(name, "@"); ok {
		if abstract == "" || len(abstract) >= pathSize {
			return k, fmt.Errorf("unix socket %q: an abstract name has 1 to %d bytes", name, pathSize-1)
		}
		k.Kind = 'a'
		k.Name[0] = uint8(len(abstract) + 1)
		copy(k.Name[2:], abstract)
		k.Bits = uint32(8 + 8*len(k.Name))
		return k, nil
	}
	below := strings.HasSuffix(name, "/**")
	p := strings.TrimSuffix(name, "**")
	if !path.IsAbs(p) || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" || strings.HasSuffix(p, "/") && !below {
		return k, fmt.Errorf("unix socket %q: give a clean absolute path, one that ends in /** for all below, or @ and an abstract name", name)
	}
	if len(p) > pathSize || strings.ContainsRune(p, 0) {
		return k, fmt.Errorf("unix socket %q: longer than the %d bytes of a socket's address", name, pathSize)
	}
	k.Kind = 'p'
	copy(k.Name[:], p)
	n := len(p)
	if !below {
		n = len(k.Name) // with the zeros behind it: exact
	}
	k.Bits = uint32(8 + 8*n)
	return k, nil
}

// nameOf is the inverse of pathKey.
func nameOf(k bpf.UnixPath) string {
	if k.Kind == 'a' {
		return "@" + string(k.Name[2:min(1+int(k.Name[0]), len(k.Name))])
	}
	n := min(int(k.Bits/8)-1, len(k.Name))
	if n < len(k.Name) {
		return string(k.Name[:n]) + "**"
	}
	return unix.ByteSliceToString(k.Name[:])
}

// haveUnix asks whether the kernel takes programs at connect_unix.
var haveUnix = sync.OnceValue(func() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCgroupUnixConnect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
})

// loadUnix loads the programs of unix sockets where the kernel has the hook.
func (g *Guard) loadUnix(progs *bpf.UnixPrograms, opts *ebpf.CollectionOptions) error {
	if HaveUnix() != nil {
		return nil
	}
	spec, err := bpf.LoadUnix()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	var maps bpf.UnixMaps
	if err := spec.LoadAndAssign(&struct {
		*bpf.UnixPrograms
		*bpf.UnixMaps
	}{progs, &maps}, opts); err != nil {
		if errors.Is(err, ebpf.ErrMapIncompatible) {
			return fmt.Errorf("%w (%v)", ErrLayout, err)
		}
		return fmt.Errorf("load programs of unix sockets: %w", err)
	}
	g.unix = &maps
	return nil
}

// unixPassage reports whether a passage listens for unix sockets too.
func (g *Guard) unixPassage() bool { return g.unix != nil && len(g.cfg.Unix.Protected) > 0 }

func (g *Guard) fillUnix() error {
	if g.unix == nil {
		return nil
	}
	keys := map[bpf.UnixPath]uint32{}
	for _, name := range g.cfg.Unix.Allow {
		k, err := pathKey(name)
		if err != nil {
			return err
		}
		keys[k] = uint32(bpf.UnixNamingUNIX_ALLOWED)
	}
	for _, name := range g.cfg.Unix.Protected {
		k, err := pathKey(name)
		if err != nil {
			return err
		}
		keys[k] = uint32(bpf.UnixNamingUNIX_PROTECTED)
	}
	return replaceTrie(g.unix.Paths, keys, func(k bpf.UnixPath) uint32 { return k.Bits })
}

// protectedPaths lists the protected unix sockets that stand in the pinned map.
func protectedPaths(dir string) ([]string, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, bpf.UnixMapPaths), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pinned map %s: %w", bpf.UnixMapPaths, err)
	}
	defer m.Close()
	keys, err := content[bpf.UnixPath, uint32](m)
	if err != nil {
		return nil, fmt.Errorf("unix sockets: %w", err)
	}
	var names []string
	for k, v := range keys {
		if v == uint32(bpf.UnixNamingUNIX_PROTECTED) {
			names = append(names, nameOf(k))
		}
	}
	slices.Sort(names)
	return names, nil
}

// UnixFacts is Facts for an accepted unix socket: who made it, and the name
// that it asked for (an abstract one with @ before it).
func UnixFacts(c *net.UnixConn) (peer intercept.Peer, name string, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return peer, "", err
	}
	var l bpf.UnixLocal
	size := uint32(unsafe.Sizeof(l))
	var errno unix.Errno
	if err := rc.Control(func(fd uintptr) {
		// The program behind this finds the other end's record.
		if _, err := unix.Getsockname(int(fd)); err != nil {
			errno = unix.ENOTCONN
			return
		}
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, factsLevel, factsLocal,
			uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil {
		return peer, "", err
	}
	if errno != 0 {
		return peer, "", fmt.Errorf("%w (%v)", ErrStray, errno)
	}
	if size != uint32(unsafe.Sizeof(l)) || l.Record.Layout != layout || l.Length == 0 || l.Length > uint64(pathSize) {
		return peer, "", fmt.Errorf("%w (the record has layout %d)", ErrLayout, l.Record.Layout)
	}
	raw := l.Name[:l.Length]
	if raw[0] == 0 {
		name = "@" + string(raw[1:])
	} else {
		name = unix.ByteSliceToString(raw)
	}
	return peerOf((*bpf.GuardRecord)(unsafe.Pointer(&l.Record))), name, nil
}
