package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// The test binary plays the confined process too.
func TestMain(m *testing.M) {
	if try := os.Getenv("SANDBOX_TRY"); try != "" {
		os.Exit(child(try))
	}
	os.Exit(m.Run())
}

// enough is what a small Go program and its test need.
var enough = []string{
	"read", "write", "close", "fcntl", "openat", "mmap", "munmap", "mprotect", "madvise", "futex", "sched_yield", "nanosleep", "clock_gettime",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid", "rseq", "set_robust_list", "membarrier",
	"epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "exit", "exit_group", "sched_getaffinity", "getrandom",
}

func child(try string) int {
	// A thread that is there before the filter must be under it too.
	other := make(chan func())
	answer := make(chan error)
	go func() {
		runtime.LockOSThread()
		for f := range other {
			f()
		}
	}()
	other <- func() {}
	f := Filter{
		Allow:   enough,
		AllowIf: []Call{{"clone", []Condition{HasSome(0, unix.CLONE_THREAD)}}, {"socket", []Condition{Is(0, unix.AF_UNIX), HasNone(1, unix.SOCK_NONBLOCK)}}},
		Kill:    []string{"ptrace"}, Absent: []string{"clone3"},
	}
	if try == "unknown" {
		f.Kill = append(f.Kill, "no_such_call")
	}
	if err := f.Load(); err != nil {
		fmt.Println(err)
		return 1
	}
	attempts := map[string]func() error{
		"denied":    func() error { return unix.Unlink("/nonexistent") },
		"absent":    func() error { _, _, e := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); return e },
		"kill":      func() error { _, _, e := unix.RawSyscall(unix.SYS_PTRACE, 0, 0, 0); return e },
		"condition": func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"family":    func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err },
		"second":    func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); return err },
		"x32": func() error {
			_, _, e := unix.RawSyscall(0x40000000+unix.SYS_GETPID, 0, 0, 0)
			return e
		},
	}
	other <- func() { go func() { answer <- attempts[try]() }() }
	fmt.Println(<-answer)
	other <- func() { fmt.Println(attempts[try]()) }
	time.Sleep(100 * time.Millisecond)
	return 0
}

func TestFilter(t *testing.T) {
	for try, want := range map[string]string{
		"denied": "operation not permitted", "absent": "function not implemented", "condition": "<nil>",
		"family": "operation not permitted", "second": "operation not permitted", "x32": "function not implemented",
		"kill": "", "unknown": "no system call is called no_such_call",
	} {
		if try == "x32" && runtime.GOARCH != "amd64" {
			continue
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"SANDBOX_TRY=" + try}
		out, err := cmd.CombinedOutput()
		switch lines := strings.Split(strings.TrimSpace(string(out)), "\n"); {
		case try == "kill":
			if fmt.Sprint(err) != "signal: bad system call" {
				t.Errorf("kill: %v, %s", err, out)
			}
		case try == "unknown":
			if !strings.Contains(string(out), want) || err == nil {
				t.Errorf("unknown: %v, %s", err, out)
			}
		case err != nil || len(lines) != 2 || lines[0] != want || lines[1] != want:
			t.Errorf("%s: %v, %q", try, err, out)
		}
	}
}

// A list names calls of both architectures; each gets its own.
func TestArchitectures(t *testing.T) {
	f := Filter{Allow: []string{"newfstatat", "fstatat", "openat"}, AllowIf: []Call{{"arch_prctl", []Condition{Is(0, 1)}}}, Kill: []string{"modify_ldt"}}
	for _, a := range []struct {
		info *arch.Info
		want []string
	}{
		{arch.X86_64, []string{"modify_ldt", "newfstatat", "openat", "arch_prctl"}},
		{arch.AARCH64, []string{"fstatat", "openat"}},
	} {
		p, err := f.policy(a.info)
		if err != nil || p.DefaultAction != seccomp.ActionErrno {
			t.Fatal(err, p.DefaultAction)
		}
		var got []string
		for _, g := range p.Syscalls {
			got = append(got, g.Names...)
			for _, c := range g.NamesWithCondtions {
				got = append(got, c.Name)
			}
		}
		if !slices.Equal(got, a.want) {
			t.Errorf("%s: %q", a.info.Name, got)
		}
	}
}
