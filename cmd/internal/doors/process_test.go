package doors_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobody is who agents and daemons run as.
const nobody = 65534

// place is where and as what a process of an attempt runs. The zero place is
// inside, without a capability.
type place struct {
	cgroup string    // "" is inside, covered in mode cgroup; else outside, remade, relay
	caps   []uintptr // CAP_
	file   *os.File  // its descriptor 3
	far    bool      // in the far network namespace
	net    *os.File  // in another that is not the host's
	target string    // other than the door's
}

// attempt is one door tried once.
type attempt struct {
	w     *world
	door  *door
	token string
	ready func() // tells that it waits for the guard

	arrived []string // places, once the phase has ended

	mu  sync.Mutex
	log []string // what its processes said
	err error    // of the test, not of the attempt
}

func (a *attempt) say(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, fmt.Sprintf(format, args...))
}

// last is what an attempt that did not get through said last.
func (a *attempt) last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(a.log) - 1; i >= 0; i-- {
		if !strings.HasSuffix(a.log[i], ": ok") {
			return a.log[i]
		}
	}
	return "it was sent and did not arrive"
}

// fail ends the attempt for a reason of the test's own.
func (a *attempt) fail(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	if a.err == nil {
		a.err = err
	}
	a.mu.Unlock()
	runtime.Goexit()
}

// guard waits until the guard is up. What comes before is older than it.
func (a *attempt) guard() {
	a.ready()
	<-a.w.up
}

// proc is a process of an attempt.
type proc struct {
	a   *attempt
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start starts a program with the door's target and the attempt's token.
func (a *attempt) start(p place, program string, args ...string) *proc {
	target := a.door.target
	if p.target != "" {
		target = p.target
	}
	args = append([]string{target, a.token + "\n"}, args...)
	cmd := exec.Command(filepath.Join(a.w.programs, program), args...)
	cmd.Env = []string{fmt.Sprintf("DOORS_PATIENCE=%d", a.w.patience.Milliseconds())}
	return a.launch(p, cmd)
}

func (a *attempt) launch(p place, cmd *exec.Cmd) *proc {
	dir, err := os.Open(a.w.cgroup(p.cgroup))
	a.fail(err)
	defer dir.Close()
	cmd.Dir = a.w.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: p.caps,
	}
	if p.file != nil {
		cmd.ExtraFiles = []*os.File{p.file}
	}
	proc := &proc{a: a, cmd: cmd}
	proc.in, err = cmd.StdinPipe()
	a.fail(err)
	out, err := cmd.StdoutPipe()
	a.fail(err)
	cmd.Stderr = cmd.Stdout
	proc.out = bufio.NewReader(out)
	start := cmd.Start
	if p.far {
		p.net = a.w.host.far
	}
	if p.net != nil {
		start = func() error { return within(p.net, cmd.Start) }
	}
	a.fail(start())
	return proc
}

// within calls f on a thread that is in another network namespace.
func within(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return back // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// until reads what the process says, up to a line that begins so.
func (p *proc) until(begin string) (line string, ok bool) {
	for {
		line, err := p.out.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			p.a.say("%s", line)
		}
		if strings.HasPrefix(line, begin) {
			return line, true
		}
		if err != nil {
			return "", false
		}
	}
}

// paused waits for the step pause; pid and fd are those of its socket.
func (p *proc) paused() (pid, fd int, ok bool) {
	line, ok := p.until("paused")
	if ok {
		_, err := fmt.Sscanf(line, "paused %d %d", &pid, &fd)
		p.a.fail(err)
	}
	return pid, fd, ok
}

// wait reads all that the process says until it ends; ok if it took all steps.
func (p *proc) wait() (ok bool) {
	p.in.Close()
	for {
		line, err := p.out.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "paused") {
			p.a.say("%s", line)
		}
		if err != nil {
			break
		}
	}
	return p.cmd.Wait() == nil
}

// kill ends a process that would not end by itself.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// run runs a program to its end. Where it says that it sent its token, the
// token is given time to arrive.
func (a *attempt) run(p place, program string, args ...string) {
	if a.start(p, program, args...).wait() {
		a.sent()
	}
}

func (a *attempt) sent() { a.w.ledger.wait(a.token, a.w.patience) }
