package privsep

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Confine is the daemon's first act: it takes no_new_privs, makes itself
// undumpable (no core, no ptrace or /proc/PID/mem by its own user), keeps
// itself to the system calls that it needs (seccomp), and proves that every
// one of its threads is an unprivileged user without supplementary groups and
// without any capability, bounding set included, under that filter. On an
// error the daemon must not go on.
func Confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("clear dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := daemonCalls.Load(); err != nil {
		return err
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		return errors.New("cannot read /proc/self/task: mount /proc")
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return err
		}
		if err := unprivileged(string(b)); err != nil {
			return fmt.Errorf("the daemon is not confined: %w: start it with `sallyport run`", err)
		}
	}
	return nil
}

// unprivileged checks a /proc/PID/status.
func unprivileged(status string) error {
	want := map[string]func(v []string) bool{
		"Uid": noRoot, "Gid": noRoot,
		"Groups":     func(v []string) bool { return len(v) == 0 },
		"NoNewPrivs": func(v []string) bool { return len(v) == 1 && v[0] == "1" },
		"Seccomp":    func(v []string) bool { return len(v) == 1 && v[0] == "2" }, // a filter
		"CapInh":     none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		ok := want[name]
		if ok == nil {
			continue
		}
		if !ok(strings.Fields(value)) {
			return fmt.Errorf("%s is %s", name, strings.TrimSpace(value))
		}
		delete(want, name)
	}
	for name := range want {
		return fmt.Errorf("%s is not known", name)
	}
	return nil
}

func none(v []string) bool { return len(v) == 1 && strings.Trim(v[0], "0") == "" }

// noRoot: real, effective, saved and file system id are one, and not root's.
func noRoot(v []string) bool {
	if len(v) != 4 {
		return false
	}
	for _, id := range v {
		if id != v[0] || id == "0" {
			return false
		}
	}
	return true
}
