package privsep

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Capability is one that the loader keeps, and what for.
type Capability struct {
	Name string
	For  string
	bit  uint
}

// LoaderCapabilities are those that the loader keeps. Without any one of them
// something does not work. CAP_SYS_ADMIN holds CAP_PERFMON's rights too.
var LoaderCapabilities = []Capability{
	{"CAP_BPF", "loading the programs, making their maps", unix.CAP_BPF},
	{"CAP_NET_ADMIN", "attaching the programs, ending older connections", unix.CAP_NET_ADMIN},
	{"CAP_SYS_ADMIN", "mounting bpffs, entering network namespaces, marking cgroups with trusted attributes, reading kernel types in programs", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_PTRACE", "proving processes of other users: their executable, root and namespaces", unix.CAP_SYS_PTRACE},
	{"CAP_DAC_OVERRIDE", "making cgroups below the root of cgroup2, which nobody may write to; reading token files of other users", unix.CAP_DAC_OVERRIDE},
	{"CAP_CHOWN", "giving the state folder to the daemon", unix.CAP_CHOWN},
	{"CAP_FOWNER", "setting that folder's mode", unix.CAP_FOWNER},
	{"CAP_SETUID", "starting the daemon as its user", unix.CAP_SETUID},
	{"CAP_SETGID", "starting it without groups", unix.CAP_SETGID},
	{"CAP_SETPCAP", "taking the bounding set from it, and from the loader itself", unix.CAP_SETPCAP},
	{"CAP_KILL", "signals to the daemon", unix.CAP_KILL},
}

// Shed is the loader's first act: it keeps LoaderCapabilities and no others,
// on all threads and for good (permitted and bounding sets, no_new_privs), and
// makes itself undumpable. Capabilities belong to threads, and only execve
// makes one thread's those of the process: where there is something to give
// up, Shed starts this program again in its place, with the same arguments and
// environment, and does not return.
//
// It fails where one that is needed is not there.
func Shed() error {
	var keep uint64
	for _, c := range LoaderCapabilities {
		keep |= 1 << c.bit
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("capabilities: %w (mount /proc)", err)
	}
	has, err := readSets(string(b))
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range LoaderCapabilities {
		if has.effective&(1<<c.bit) == 0 {
			missing = append(missing, fmt.Sprintf("%s (for %s)", c.Name, c.For))
		}
	}
	if missing != nil {
		return fmt.Errorf("this needs capabilities that it does not have: %s: start it as root, outside of a container, or add them to CapabilityBoundingSet= of its unit", strings.Join(missing, ", "))
	}
	if has.bounding&^keep != 0 || has.permitted&^keep != 0 || has.inheritable != 0 || !has.noNewPrivs {
		runtime.LockOSThread()
		if err := restrict(keep, keep); err != nil {
			return err
		}
		if err := unix.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
			return fmt.Errorf("start again with fewer capabilities: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("clear dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

type sets struct {
	permitted, effective, inheritable, bounding uint64
	noNewPrivs                                  bool
}

// readSets reads a /proc/PID/status.
func readSets(status string) (s sets, err error) {
	want := map[string]*uint64{
		"CapPrm": &s.permitted, "CapEff": &s.effective, "CapInh": &s.inheritable, "CapBnd": &s.bounding,
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if to := want[name]; to != nil {
			if *to, err = strconv.ParseUint(value, 16, 64); err != nil {
				return s, fmt.Errorf("%s: %w", name, err)
			}
			delete(want, name)
		}
		s.noNewPrivs = s.noNewPrivs || name == "NoNewPrivs" && value == "1"
	}
	if len(want) > 0 {
		return s, errors.New("/proc/self/status does not tell the capabilities")
	}
	return s, nil
}

// restrict leaves the calling thread no more than these of its bounding and
// permitted capabilities, and none of its inheritable and ambient ones, and
// forbids new ones.
func restrict(bounding, permitted uint64) error {
	for c := uintptr(0); ; c++ {
		if c < 64 && bounding&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL && c > 0 {
			break // past the kernel's last one
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for i := range data {
		few := uint32(permitted >> (32 * i))
		data[i].Inheritable = 0
		data[i].Permitted &= few
		data[i].Effective &= few
	}
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("limit capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
