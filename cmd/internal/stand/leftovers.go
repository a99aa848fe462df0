package stand

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	// prefix of the folders of stands, in the folder for temporary files.
	prefix = "sallyport-stand-"

	guardedCgroup = "/sallyport.guarded"      // of sallyport exec
	exemptCgroup  = "/sallyport-stand.exempt" // unguarded commands, in host mode
)

// Leftovers reports what is still there of the stand in a folder, after it was
// stopped: processes, programs in the kernel, cgroups, mounts and files. What
// the kernel takes away a little later is given its time. Whoever asks holds the
// Lock: programs and cgroups have no names of their own.
func Leftovers(dir string) error {
	return left(func() []string { return leftovers(dir) })
}

func left(look func() []string) error {
	if found := lasting(look); len(found) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(found, "; "))
	}
	return nil
}

// lasting looks until nothing is found, for 10 s at most.
func lasting(look func() []string) (found []string) {
	for range 500 {
		if found = look(); len(found) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return found
}

func leftovers(dir string) (found []string) {
	for _, p := range processes(dir, nil) {
		found = append(found, p.String())
	}
	found = append(found, guards()...)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		found = append(found, "folder "+dir)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(b, []byte(dir+"/")) {
		found = append(found, "a mount in "+dir)
	}
	return found
}

// leftovers are also the listeners that it had.
func (s *Stand) leftovers() []string {
	found := leftovers(s.Dir)
	for _, addr := range s.addresses() {
		if listening(addr) {
			found = append(found, "a listener on "+addr)
		}
	}
	return found
}

// guards reports the kernel's programs of any guard, and its cgroups.
func guards() (found []string) {
	ours := []string{bpf.GuardProgConnect4, bpf.GuardProgConnect6, bpf.GuardProgEgress, bpf.GuardProgGetpeername4, bpf.GuardProgSockOps}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			break
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil && slices.Contains(ours, info.Name) {
			found = append(found, "program "+info.Name)
		}
		p.Close()
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return append(found, err.Error())
	}
	for _, name := range cgroups {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			found = append(found, "cgroup "+name)
		}
	}
	return found
}

// cgroups are all that a guard and a stand make.
var cgroups = []string{"/sallyport.daemon", guardedCgroup, DemoCgroup, exemptCgroup}

func (s *Stand) addresses() (out []string) {
	if s.PG != nil {
		out = append(out, s.PG.Addr.String())
	}
	if s.OIDC != nil {
		out = append(out, strings.TrimPrefix(s.OIDC.Issuer, "http://"))
	}
	if c := s.Cfg; c != nil {
		out = append(out, loopback(c.Interception.Port), c.Metrics)
		if c.Evidence.NATS.URL == "" {
			out = append(out, c.Evidence.NATS.Listen)
		}
	}
	return out
}

// listening looks at the kernel's table: dialling would be a connection.
func listening(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return true
	}
	port := fmt.Sprintf(":%04X", a.Port())
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], port) && f[3] == "0A" {
			return true
		}
	}
	return false
}
