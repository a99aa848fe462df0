package spiretest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// process is a server or an agent.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start starts a program of SPIRE as root of a group; it dies with this one.
func start(t testing.TB, group uint32, path string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp("", filepath.Base(path)+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{t: t, cmd: exec.Command(path, args...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Gid: group}}
	started := make(chan error)
	go func() {
		// The signal comes when this thread ends; it waits as long as the process runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	err = <-started
	t.Cleanup(func() {
		p.stop()
		if b, rerr := os.ReadFile(p.log); rerr == nil && t.Failed() {
			t.Logf("%s says:\n%s", filepath.Base(path), b[max(0, len(b)-8<<10):])
		}
		os.Remove(p.log)
	})
	if err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return p
}

// stop kills the process, and waits for its end.
func (p *process) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // a stopped one too
	}
	<-p.done
}

func (p *process) pause(on bool) {
	p.t.Helper()
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until ok, while the process lives.
func (p *process) await(ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(ready); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.done:
			p.t.Fatalf("%s has ended: %v", p.cmd.Path, p.cmd.ProcessState)
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s does not start", p.cmd.Path)
		}
	}
}
