// Package sandbox limits the system calls that this process may make.
//
// It is a list of what is allowed. What can only be an attack ends the
// process, everything else fails with EPERM. Calls of another architecture
// (32-bit ones, x32) fail too.
package sandbox

import (
	"errors"
	"fmt"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// Filter names system calls as Linux does. The zero Filter allows none.
type Filter struct {
	Allow   []string
	AllowIf []Call
	Kill    []string // the process ends by SIGSYS
	Absent  []string // ENOSYS, as on an older kernel: the C library then falls back
}

// Call is a system call that is allowed if all conditions on its arguments
// hold. Several Calls of one name are alternatives.
type Call struct {
	Name string
	If   []Condition
}

// Condition looks at one argument of a call, as a 64-bit number.
type Condition = seccomp.Condition

// Is holds where the argument is v.
func Is(argument uint32, v uint64) Condition {
	return Condition{Argument: argument, Operation: seccomp.Equal, Value: v}
}

// HasNone holds where none of the bits is set.
func HasNone(argument uint32, bits uint64) Condition {
	return Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
}

// HasSome holds where one of the bits is set.
func HasSome(argument uint32, bits uint64) Condition {
	return Condition{Argument: argument, Operation: seccomp.BitsSet, Value: bits}
}

// Load puts the filter on every thread of this process, for good, and sets
// no_new_privs. What was there before stays in force too. Names that this
// architecture does not have are left out; one that none has is an error.
//
// Where a thread has a filter of its own the kernel puts the new one on none,
// and tells no error: who may have such threads looks at "Seccomp" in
// /proc/self/task/*/status.
func (f Filter) Load() error {
	here, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	policy, err := f.policy(here)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy}); err != nil {
		return fmt.Errorf("load the seccomp filter: %w: the kernel needs CONFIG_SECCOMP_FILTER", err)
	}
	return nil
}

func (f Filter) policy(here *arch.Info) (p seccomp.Policy, err error) {
	p.DefaultAction = seccomp.ActionErrno // EPERM
	var errs []error
	group := func(action seccomp.Action, names []string, calls []Call) {
		g := seccomp.SyscallGroup{Action: action}
		for _, n := range names {
			ok, err := known(here, n)
			errs = append(errs, err)
			if ok {
				g.Names = append(g.Names, n)
			}
		}
		for _, c := range calls {
			ok, err := known(here, c.Name)
			errs = append(errs, err)
			if ok {
				g.NamesWithCondtions = append(g.NamesWithCondtions, seccomp.NameWithConditions{Name: c.Name, Conditions: c.If})
			}
		}
		if len(g.Names)+len(g.NamesWithCondtions) > 0 {
			p.Syscalls = append(p.Syscalls, g)
		}
	}
	group(seccomp.ActionKillProcess, f.Kill, nil)
	group(seccomp.ActionErrno|seccomp.Action(unix.ENOSYS), f.Absent, nil)
	group(seccomp.ActionAllow, f.Allow, f.AllowIf)
	return p, errors.Join(errs...)
}

// known reports whether this architecture has the call, of those that we are
// built for.
func known(here *arch.Info, name string) (bool, error) {
	if _, ok := here.SyscallNames[name]; ok {
		return true, nil
	}
	for _, a := range []*arch.Info{arch.X86_64, arch.AARCH64} {
		if _, ok := a.SyscallNames[name]; ok {
			return false, nil
		}
	}
	return false, fmt.Errorf("no system call is called %s", name)
}
