package parser

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/sandbox"
)

const (
	nobody      = 65534
	memoryLimit = 4 << 30 // address space; the Go runtime reserves much of it unused
	cpuSeconds  = 3600    // a helper's life; one statement has the pool's time limit
)

// confine gives up everything that parsing does not need. The order matters:
// the filter comes last.
func confine() error {
	if os.Geteuid() == 0 {
		if err := syscall.Setgroups(nil); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("drop groups: %w", err)
		}
		if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
			return fmt.Errorf("drop group: %w", err)
		}
		if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
			return fmt.Errorf("drop user: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("clear dumpable: %w", err)
	}
	// After the change of user, which clears it. The parent may have died
	// before: stdin then gives EOF.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set the signal for the parent's death: %w", err)
	}
	for _, l := range []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_NOFILE, 16},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_AS, memoryLimit},
		{unix.RLIMIT_CPU, cpuSeconds},
		{unix.RLIMIT_MEMLOCK, 0},
	} {
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("set limit %d: %w", l.resource, err)
		}
	}
	return calls.Load()
}

// calls are memory, threads, time, signals to itself and the open descriptors.
// What can only be an attack kills; the rest fails.
var calls = sandbox.Filter{
	Kill: []string{
		"execve", "execveat", "socket", "socketpair", "connect", "ptrace", "bpf", "process_vm_readv",
		"process_vm_writev", "fork", "vfork", "keyctl", "io_uring_setup", "userfaultfd", "perf_event_open",
	},
	// The C library then falls back to clone, whose flags can be seen.
	Absent: []string{"clone3"},
	Allow: []string{
		"read", "write", "close", "fcntl", "lseek",
		"mmap", "munmap", "mprotect", "madvise", "mremap", "brk", "mincore",
		"futex", "sched_yield", "sched_getaffinity", "nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "restart_syscall",
		"getpid", "gettid", "set_robust_list", "rseq", "getrandom", "membarrier",
		"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2", "timer_create", "timer_settime", "timer_delete",
		"exit", "exit_group",
	},
	AllowIf: []sandbox.Call{{Name: "clone", If: []sandbox.Condition{sandbox.HasSome(0, unix.CLONE_THREAD)}}},
}
