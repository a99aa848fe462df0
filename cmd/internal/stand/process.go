package stand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// parent is the thread that all children are started from. The death signal
// of a child is tied to the thread that forked it (prctl(2)), and this one
// lives as long as the process.
var parent = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// start is cmd.Start from the thread that does not end.
func start(cmd *exec.Cmd) error {
	done := make(chan error)
	parent() <- func() { done <- cmd.Start() }
	return <-done
}

// Run is cmd.Run for commands of a Stand: they die with this process.
func Run(cmd *exec.Cmd) error {
	if err := start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// Launch is cmd.Start for commands of a Stand: they die with this process.
func Launch(cmd *exec.Cmd) error { return start(cmd) }

// confined gives a command a process group of its own, which ends with ctx and
// with this process.
func confined(cmd *exec.Cmd, as *User) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: as.UID, Gid: as.GID}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// process is a server that a Stand runs.
type process struct {
	name string
	log  string // file that holds what it says
	cmd  *exec.Cmd
	done chan struct{}
	err  error // once done is closed
}

// launch starts a server, with env beside what all have. What it says is added
// to DIR/log/NAME.log.
func (s *Stand) launch(name string, as *User, env []string, bin string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(s.Dir, "log", name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = confined(exec.CommandContext(context.Background(), bin, args...), as)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = s.Dir, append(s.environ(), env...), out, out
	if err := start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ready polls until the server answers, has ended, or limit is over.
func (p *process) ready(ctx context.Context, limit time.Duration, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready after %v", limit))
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failed(fmt.Errorf("ended while it started: %w", errors.Join(p.err, err)))
		case <-ctx.Done():
			return p.failed(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// failed adds the end of the server's log to an error.
func (p *process) failed(err error) error {
	return fmt.Errorf("%s: %w\n%s", p.name, err, tail(p.log))
}

func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b[max(0, len(b)-16<<10):])), "\n")
	lines = lines[max(0, len(lines)-20):]
	return "  " + strings.ReplaceAll(render.Text(strings.Join(lines, "\n")), "\n", "\n  ")
}

// stop asks the server to end and kills it after limit, which is an error.
func (p *process) stop(sig syscall.Signal, limit time.Duration) error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(limit):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		return p.failed(fmt.Errorf("did not end within %v of %v", limit, sig))
	}
	// Whatever it has started in its group goes with it.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	return nil
}

// gone waits until the server has ended by itself.
func (p *process) gone(limit time.Duration) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s still runs", p.name)
	}
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tool runs a short command to its end. Its error holds what it said.
func (s *Stand) tool(ctx context.Context, as *User, stdin io.Reader, bin string, args ...string) ([]byte, error) {
	cmd := confined(exec.CommandContext(ctx, bin, args...), as)
	var out, msg bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Dir, s.environ(), stdin, &out, &msg
	if err := Run(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(bin), err, render.Text(strings.TrimSpace(msg.String()+out.String())))
	}
	return out.Bytes(), nil
}

// marker is in the environment of all that a Stand starts.
const marker = "SALLYPORT_STAND="

func (s *Stand) environ() []string {
	return []string{"PATH=" + s.path(), "LC_ALL=C.UTF-8", "TZ=UTC", "TMPDIR=" + os.TempDir(), marker + s.Dir}
}

func (s *Stand) path() string {
	return s.Bin + ":" + s.pgBin + ":/usr/sbin:/usr/bin:/sbin:/bin"
}
