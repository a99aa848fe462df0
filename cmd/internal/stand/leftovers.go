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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	// prefix of the folders of stands, in the folder for temporary files.
	prefix = "sallyport-stand-"

	exemptCgroup = "/sallyport-stand.exempt" // unguarded commands, in host mode
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

// lasting looks until nothing is found, for 2 s at most.
func lasting(look func() []string) (found []string) {
	for range 100 {
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
var cgroups = []string{"/sallyport.daemon", "/sallyport.guarded", DemoCgroup, exemptCgroup}

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

// found is a process of a stand.
type found struct {
	pid     int
	command string
}

func (f found) String() string { return fmt.Sprintf("process %d (%s)", f.pid, f.command) }

// processes finds those that a stand started, by its folder in their
// environment or their arguments, and not those of spare and their children.
func processes(dir string, spare map[int]bool) (out []found) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() || descends(pid, spare) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		cmd, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		marked := slices.Contains(strings.Split(string(env), "\x00"), marker+dir)
		if marked || bytes.Contains(cmd, []byte(dir+"/")) {
			out = append(out, found{pid, strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))})
		}
	}
	return out
}

func descends(pid int, from map[int]bool) bool {
	for range 64 {
		if from[pid] {
			return true
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// The name may hold anything; the parent is the second field after it.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(f[1]); err != nil || pid <= 1 {
			return false
		}
	}
	return false
}

// endProcesses kills what processes finds, until nothing is found.
func endProcesses(dir string, spare map[int]bool) error {
	var left []found
	for range 100 {
		if left = processes(dir, spare); len(left) == 0 {
			return nil
		}
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("could not be ended: %v", left)
}

// endCgroups kills the guarded commands, whoever started them.
func endCgroups() error {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return err
	}
	for _, name := range []string{"/sallyport.guarded", DemoCgroup, exemptCgroup} {
		err := os.WriteFile(filepath.Join(root, name, "cgroup.kill"), []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *Stand) mountPins() error {
	dir := filepath.Join(s.Dir, "bpf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mount a bpffs for the pins: %w", err)
	}
	return nil
}

func (s *Stand) makeExempt() error {
	if s.o.Mode != "host" {
		return nil
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, exemptCgroup)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s.exempt, err = os.Open(dir)
	return err
}

// remove takes away a stand that nobody uses any more, with all it holds.
func remove(dir string) error {
	errs := []error{endProcesses(dir, nil)}
	pins := filepath.Join(dir, "bpf")
	if _, err := os.Stat(filepath.Join(pins, "sallyport")); err == nil {
		errs = append(errs, endCgroups())
		// Processes that were killed may still be on their way out.
		for range 100 {
			if err = redirect.Down(filepath.Join(pins, "sallyport")); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		errs = append(errs, err)
	}
	err := unix.Unmount(pins, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // no mount, no folder
		errs = append(errs, fmt.Errorf("unmount %s: %w", pins, err))
	}
	if root, err := (redirect.Host{}).CgroupRoot(); err == nil {
		for range 100 {
			if err = unix.Rmdir(filepath.Join(root, exemptCgroup)); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", exemptCgroup, err))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}

// sweep removes what stands that were killed have left. The lock is held: none
// of them is alive.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var st unix.Stat_t
		// Anybody may make a folder of that name.
		if err := unix.Lstat(dir, &st); err != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := remove(dir); err != nil {
			return fmt.Errorf("remove what a stand left in %s: %w", dir, err)
		}
	}
	return nil
}
