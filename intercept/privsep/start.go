package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	Record   Record           // tells it whom they are about
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
	if o.Prover == nil || o.Record == nil {
		return nil, errors.New("privsep: no prover")
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := o.command(append([]*os.File{theirs}, o.Files...))
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go c.run(cmd, func(ctx context.Context) error { return serve(ctx, ours, o.Prover, o.Record) }, started)
	if err := <-started; err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	return c, nil
}

// command is the process with these descriptors from 3 on.
func (o *Options) command(files []*os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: o.Path, Args: o.Args, Env: append([]string{}, o.Env...), Dir: "/",
		Stdout: o.Stdout, Stderr: o.Stderr, ExtraFiles: files,
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
	return cmd
}

// run starts the daemon from a thread that has already given up what the
// daemon must not have, and stays on it: the parent's death signal is tied to
// the thread. It is never unlocked, so the runtime ends it with this goroutine.
//
// serve answers the child until ctx ends; its error ends the child.
func (c *Child) run(cmd *exec.Cmd, serve func(context.Context) error, started chan<- error) {
	runtime.LockOSThread()
	if err := renounce(); err != nil {
		started <- err
		return
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	c.process = cmd.Process
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		err := serve(ctx)
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
func renounce() error { return restrict(0, ^uint64(0)) }

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
