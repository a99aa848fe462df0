package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Options say how the daemon is started. UID and GID must not be root's.
type Options struct {
	Path     string
	Args     []string // the first is the program's name
	Env      []string // the whole environment; nothing is inherited
	UID, GID uint32
	Cgroup   *os.File   // folder of the cgroup that it is born in; nil for the loader's own
	Files    []*os.File // the daemon's descriptors from 4 on; Start closes them
	Stdout   io.Writer
	Stderr   io.Writer
	Prover   intercept.Prover // answers the daemon's requests
}

// ErrForbidden: the kernel ended the daemon for a system call that it never
// makes by itself.
var ErrForbidden = errors.New("it made a system call that only somebody who has taken it over would make: look at what its sessions were sent")

// Child is the running daemon.
type Child struct {
	process *os.Process
	done    chan struct{}
	err     error
}

// Start runs the daemon with its end of the line as descriptor 3: as UID and
// GID without supplementary groups, in a session of its own, with no_new_privs
// and without any capability, bounding and ambient sets included. The kernel
// kills it when the loader ends.
//
// A loader that wants the daemon to end in order sends SIGTERM and waits before
// it ends itself: no signal of the terminal reaches the daemon.
//
// Start closes Files in any case: a listener that the loader keeps open would
// take connections that nobody answers when the daemon is dead.
func Start(o Options) (*Child, error) {
	defer func() {
		for _, f := range o.Files {
			f.Close()
		}
	}()
	if o.UID == 0 || o.GID == 0 {
		return nil, errors.New("the daemon must not run as root: name an unprivileged user in sallyport.yaml (user)")
	}
	if o.Prover == nil {
		return nil, errors.New("privsep: no prover")
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path: o.Path, Args: o.Args, Env: append([]string{}, o.Env...), Dir: "/",
		Stdout: o.Stdout, Stderr: o.Stderr,
		ExtraFiles: append([]*os.File{theirs}, o.Files...),
		SysProcAttr: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: o.UID, Gid: o.GID},
			Pdeathsig:  syscall.SIGKILL,
			Setsid:     true,
		},
	}
	if o.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(o.Cgroup.Fd())
	}
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go c.run(cmd, ours, o.Prover, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return c, nil
}

// run starts the daemon from a thread that has already given up what the
// daemon must not have, and stays on it: the parent's death signal is tied to
// the thread. It is never unlocked, so the runtime ends it with this goroutine.
func (c *Child) run(cmd *exec.Cmd, conn *net.UnixConn, p intercept.Prover, started chan<- error) {
	runtime.LockOSThread()
	if err := renounce(); err != nil {
		conn.Close()
		started <- err
		return
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		started <- err
		return
	}
	c.process = cmd.Process
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		err := serve(ctx, conn, p)
		if err != nil {
			// What speaks another language is not the daemon that was started.
			_ = cmd.Process.Kill()
		}
		served <- err
	}()
	started <- nil
	err := cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == unix.SIGSYS {
		err = fmt.Errorf("%w (%w)", ErrForbidden, err)
	}
	cancel()
	c.err = errors.Join(<-served, err)
	close(c.done)
}

// renounce clears the calling thread's bounding, inheritable and ambient
// capabilities and forbids new ones. The permitted ones stay: fork and the
// change of user need them, and clear them.
func renounce() error {
	for c := uintptr(0); ; c++ {
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
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// PID returns the daemon's process id.
func (c *Child) PID() int { return c.process.Pid }

// Signal sends the daemon a signal.
func (c *Child) Signal(s os.Signal) error { return c.process.Signal(s) }

// Done is closed when the daemon has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait returns when the daemon has ended: nil after exit code 0.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}
