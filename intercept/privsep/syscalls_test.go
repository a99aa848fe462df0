package privsep_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
)

func raw(nr uintptr, args ...uintptr) func() error {
	var a [6]uintptr
	copy(a[:], args)
	return func() error {
		if _, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
}

func socket(family, kind, protocol int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, protocol)
		unix.Close(fd)
		return err
	}
}

// What only somebody makes who has taken the daemon over: it costs the
// process its life.
var deadly = map[string]func() error{
	"ptrace":            raw(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1),
	"process_vm_readv":  raw(unix.SYS_PROCESS_VM_READV, 1),
	"process_vm_writev": raw(unix.SYS_PROCESS_VM_WRITEV, 1),
	"pidfd_getfd":       raw(unix.SYS_PIDFD_GETFD, 0, 0, 0),
	"mount":             func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"umount2":           func() error { return unix.Unmount("/tmp", 0) },
	"open_tree":         raw(unix.SYS_OPEN_TREE, ^uintptr(0), 0, 1),
	"fsopen":            raw(unix.SYS_FSOPEN),
	"pivot_root":        raw(unix.SYS_PIVOT_ROOT),
	"chroot":            func() error { return unix.Chroot("/tmp") },
	"setns":             raw(unix.SYS_SETNS, 0, 0),
	"unshare":           raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_NEWNET),
	"execveat":          raw(unix.SYS_EXECVEAT),
	"keyctl":            raw(unix.SYS_KEYCTL),
	"add_key":           raw(unix.SYS_ADD_KEY),
	"request_key":       raw(unix.SYS_REQUEST_KEY),
	"kexec_load":        raw(unix.SYS_KEXEC_LOAD),
	"init_module":       raw(unix.SYS_INIT_MODULE),
	"finit_module":      raw(unix.SYS_FINIT_MODULE),
	"perf_event_open":   raw(unix.SYS_PERF_EVENT_OPEN),
	"io_uring_setup":    raw(unix.SYS_IO_URING_SETUP, 8),
	"userfaultfd":       raw(unix.SYS_USERFAULTFD),
	"setresuid":         raw(unix.SYS_SETRESUID, 0, 0, 0),
	"capset":            raw(unix.SYS_CAPSET),
	"open_by_handle_at": raw(unix.SYS_OPEN_BY_HANDLE_AT),
}

// What fails, and harms nobody.
var denied = map[string]func() error{
	"packet socket":   socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0),
	"netlink socket":  socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	"vsock":           socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"alg socket":      socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"bpf map":         raw(unix.SYS_BPF, unix.BPF_MAP_CREATE),
	"bpf program":     raw(unix.SYS_BPF, unix.BPF_PROG_LOAD),
	"bpf update":      raw(unix.SYS_BPF, unix.BPF_MAP_UPDATE_ELEM),
	"bpf pin":         raw(unix.SYS_BPF, unix.BPF_OBJ_GET),
	"bpf detach":      raw(unix.SYS_BPF, unix.BPF_LINK_DETACH),
	"user namespace":  raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
	"net namespace":   raw(unix.SYS_CLONE, unix.CLONE_NEWNET|uintptr(unix.SIGCHLD)),
	"personality":     raw(unix.SYS_PERSONALITY, 0x0040000),
	"TIOCSTI":         func() error { return unix.IoctlSetPointerInt(0, unix.TIOCSTI, 'x') },
	"mknod":           func() error { return unix.Mknodat(unix.AT_FDCWD, "/tmp/sallyport-no", unix.S_IFIFO|0o600, 0) },
	"symbolic link":   func() error { return unix.Symlinkat("/etc/shadow", unix.AT_FDCWD, "/tmp/sallyport-no") },
	"hard link":       func() error { return unix.Linkat(unix.AT_FDCWD, "/bin/sh", unix.AT_FDCWD, "/tmp/sallyport-no", 0) },
	"memory file":     func() error { _, err := unix.MemfdCreate("x", 0); return err },
	"extended attrs":  func() error { return unix.Fsetxattr(1, "user.x", []byte("y"), 0) },
	"dumpable":        func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"tracer":          func() error { return unix.Prctl(unix.PR_SET_PTRACER, 1, 0, 0, 0) },
	"subreaper":       func() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) },
	"memory map":      func() error { return unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_BRK, 0, 0, 0) },
	"secure bits":     func() error { return unix.Prctl(unix.PR_SET_SECUREBITS, 0, 0, 0, 0) },
	"speculation":     func() error { return unix.Prctl(unix.PR_SET_SPECULATION_CTRL, 0, 0, 0, 0) },
	"change of owner": func() error { return unix.Fchown(1, -1, -1) },
}

// callerRole is a daemon that was taken over: it makes one system call after
// the other, and says what came of each.
func callerRole() error {
	if err := privsep.Confine(); err != nil {
		return err
	}
	if name := os.Getenv("PRIVSEP_CALL"); name != "" {
		fmt.Println("survived:", deadly[name]())
		return nil
	}
	for name, try := range denied {
		fmt.Printf("%s: %v\n", name, try())
	}
	return work()
}

// work is what the daemon must still be able to do: sockets, names, files,
// helpers.
func work() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	c.Close()
	ln.Close()
	if _, err := net.LookupHost("localhost"); err != nil {
		return err
	}
	cmd := exec.Command("/bin/echo", "helped")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.Output()
	if err != nil || string(out) != "helped\n" {
		return fmt.Errorf("a helper: %q, %w", out, err)
	}
	var info [64]byte
	attr := struct {
		fd, size uint32
		info     uint64
	}{^uint32(0), uint32(len(info)), uint64(uintptr(unsafe.Pointer(&info[0])))}
	if _, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET_INFO_BY_FD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); e == unix.EPERM {
		return fmt.Errorf("asking about an inherited map: %w", e)
	}
	fmt.Println("works")
	return nil
}

func caller(t *testing.T, env string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := startDaemon(t, privsep.Options{Env: []string{roleEnv + "=caller", "PRIVSEP_CALL=" + env}, Stdout: &out, Prover: prover(t, "")})
	select {
	case <-c.Done():
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s: it does not end: %s", env, &out)
	}
	return out.String(), c.Wait()
}

func TestDaemonKeepsToItsSystemCalls(t *testing.T) {
	out, err := caller(t, "")
	if err != nil || !strings.HasSuffix(out, "works\n") {
		t.Errorf("it cannot do its work: %v, %s", err, out)
	}
	for name := range denied {
		if !strings.Contains(out, name+": operation not permitted\n") {
			t.Errorf("%s is not denied:\n%s", name, out)
		}
	}
	for name := range deadly {
		out, err := caller(t, name)
		if !errors.Is(err, privsep.ErrForbidden) || out != "" {
			t.Errorf("%s: it lives: %v, %s", name, err, out)
		}
	}
}
