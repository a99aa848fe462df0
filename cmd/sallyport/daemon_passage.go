package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// flowName is the name of a connection among descriptors that are handed over;
// the others are listeners.
const flowName = "flow"

const (
	// restTime is how long nothing must have been under way in a session that a
	// hand-over ends; others have their time.
	restTime = time.Second
	// Each step of an end that does not come by itself has so long.
	graceTime = time.Second
)

// front is where connections come from. All but the listener belongs to the
// goroutine that follows the loader's orders.
type front struct {
	*redirect.Listener
	shut  func()             // accept no more; nil while nobody accepts
	drain context.CancelFunc // ends the drain that is under way
}

// open accepts.
func (d *daemon) open() {
	if d.front.shut != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, passage := make(chan struct{}), d.front.Listener
	go func() {
		defer close(done)
		d.accept(ctx, passage)
	}()
	// Behind shut, every flow that came out of the listener has its session.
	d.front.shut = func() {
		cancel()
		<-done
		d.front.shut = nil
	}
}

// listen adds listeners.
func (d *daemon) listen(names []string, fds []int) error {
	return eachFile(names, fds, func(name string, f *os.File) error {
		ln, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		return d.front.Add(name, ln)
	})
}

// adopt serves connections that another daemon accepted.
func (d *daemon) adopt(names []string, fds []int) error {
	return eachFile(names, fds, func(_ string, f *os.File) error {
		c, err := net.FileConn(f)
		if err != nil {
			return fmt.Errorf("a connection that was handed over: %w", err)
		}
		d.front.Adopt(c)
		return nil
	})
}

// eachFile takes the descriptors over, and closes them whatever happens.
func eachFile(names []string, fds []int, do func(string, *os.File) error) (err error) {
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), names[i])
		if err == nil {
			err = do(names[i], f)
		}
		f.Close()
	}
	return err
}

// pause stops accepting, and answers with the listeners and with the
// connections that no session has. They stay open here too, for resume.
func (d *daemon) pause() error {
	if d.front.shut != nil {
		d.front.shut()
	}
	v := verdict{To: doPause}
	defer func() { closeAll(v.fds) }()
	add := func(name string, c any) error {
		fd, err := duplicate(c)
		if err != nil {
			return fmt.Errorf("hand over %s: %w", name, err)
		}
		v.Names, v.fds = append(v.Names, name), append(v.fds, fd)
		if len(v.fds) < maxFDs {
			return nil
		}
		v.More = true
		err = d.line.answer(v)
		closeAll(v.fds)
		v = verdict{To: doPause}
		return err
	}
	lns, flows := d.front.Pause()
	for name, ln := range lns {
		if err := add(name, ln); err != nil {
			return err
		}
	}
	for _, f := range flows {
		if err := add(flowName, f.Conn); err != nil {
			return err
		}
	}
	return d.line.answer(v)
}

// duplicate returns another descriptor of a socket; the socket's mode stays.
func duplicate(s any) (fd int, err error) {
	sc, ok := s.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("%T has no descriptor", s)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := rc.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// resume accepts again.
func (d *daemon) resume() {
	if d.front.drain != nil {
		d.front.drain()
		d.front.drain = nil
	}
	d.sessions.reopen()
	d.front.Resume()
	d.open()
}

// startDrain lets the sessions end, within limit, while others wait outside,
// and answers when they have.
func (d *daemon) startDrain(limit time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d.front.drain = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		if d.drainWithin(ctx, limit) {
			_ = d.line.answer(verdict{To: doDrain}) // a loader that is gone ends us
		}
	}()
}

// drainWithin lets short work end by itself, and ends what rests. What is under
// way at the limit is ended in the protocol's own words, and then without. It
// reports whether all sessions have ended; false: ctx has.
func (d *daemon) drainWithin(ctx context.Context, limit time.Duration) bool {
	gone := d.sessions.gone()
	wait := func(t <-chan time.Time) (over, ended bool) {
		select {
		case <-gone:
			return true, true
		case <-ctx.Done():
			return true, false
		case <-t:
			return false, false
		}
	}
	for late := time.Now().Add(limit); time.Now().Before(late); {
		d.sessions.drainResting(restTime)
		if over, ended := wait(time.After(20 * time.Millisecond)); over {
			return ended
		}
	}
	for _, step := range []func(){
		d.sessions.drainAll,
		func() {
			if n := d.sessions.cutAll(); n > 0 {
				d.log.Warn("sessions are ended with a statement in flight", "sessions", n)
			}
		},
		func() { d.sessions.hangUp() },
	} {
		step()
		if over, ended := wait(time.After(graceTime)); over {
			return ended
		}
	}
	d.log.Error("sessions do not end: they are left behind")
	return true
}
