package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

// A loader that is started over a running one takes its place, and nobody is
// refused meanwhile. N is the new one, O the old one, each with its daemon:
//
//	N  checks its configuration and policy
//	N  takeover, with its terms   -> O  compares them
//	O  its daemon accepts no more; connections wait in the kernel's backlog
//	O  passage, with all sockets  -> N  looks at them and holds them
//	N  hold                       -> O  its daemon's sessions end (limits.handover)
//	O  drained                    -> N
//	N  go                         -> O  its daemon makes its record durable and ends
//	O  over                       -> N  brings the guard to its version, starts its daemon
//
// Until go, either can call it off by hanging up: O's daemon, which has kept
// its own descriptors, accepts again. After it, N alone has the passage; when N
// dies then, the kernel refuses.
const (
	sayTakeover = "takeover"
	sayPassage  = "passage"
	sayHold     = "hold"
	sayDrained  = "drained"
	sayGo       = "go"
	sayOver     = "over"
	sayRefused  = "refused" // Text says why
)

// controlName is the control socket among the passage's.
const controlName = "control"

const (
	// stepTime is what the other side has for a step that only takes a moment.
	stepTime = 10 * time.Second
	// pauseTime is what a daemon has to hand all of its sockets over.
	pauseTime = 30 * time.Second
)

// What a loader that is taken over from has; tests have less patience.
var (
	// drainedTime is for its sessions' end: the most that limits.handover can
	// be, and then some.
	drainedTime = time.Minute + endTime + stepTime
	// overTime is for its own end. Nobody is served meanwhile.
	overTime = 2 * time.Minute
)

func controlPath(cfg *config.Config) string { return filepath.Join(cfg.Run, "control.sock") }

// terms are what a loader and the one that takes its place must agree on.
func terms(cfg *config.Config) map[string]string {
	return map[string]string{
		"state": cfg.State, "interception.port": strconv.Itoa(int(cfg.Interception.Port)),
		"interception.pins": filepath.Clean(cfg.Interception.Pins),
	}
}

func differing(a, b map[string]string) (names []string) {
	for k, v := range a {
		if b[k] != v {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return names
}

// succeed takes the place of the loader at the other end. When it returns nil
// that one has ended and its sockets are held here.
func (l *loader) succeed(t *privsep.Talk) error {
	defer t.Close()
	stop := watchSignals(l.signals, t)
	defer stop()
	err := t.Send(privsep.Message{Do: sayTakeover, Terms: terms(l.cfg)})
	if err == nil {
		err = l.receivePassage(t)
	}
	if err == nil {
		err = t.Send(privsep.Message{Do: sayHold})
	}
	if err == nil {
		l.log.Info("taking over from a running sallyport: its sessions come to their end", "sockets", len(l.held))
		_, err = receive(t, sayDrained, drainedTime)
	}
	if err == nil {
		err = t.Send(privsep.Message{Do: sayGo})
	}
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			err = fmt.Errorf("the running sallyport has hung up, or a signal came (%w)", err)
		}
		return fmt.Errorf("take over: %w", err)
	}
	// Whether it ends in order or not, it ends. A daemon of its that lives is
	// found by raise, which then refuses.
	if m, err := t.Receive(overTime); err != nil || m.Do != sayOver {
		l.log.Warn("the old sallyport did not say that it has ended in order", "error", err)
	}
	return nil
}

// watchSignals calls a talk off when a signal comes, which stays to be seen.
func watchSignals(signals chan os.Signal, t *privsep.Talk) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case s := <-signals:
			signals <- s // there is room: one was taken
			t.Close()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// receive waits for one thing to be said.
func receive(t *privsep.Talk, do string, limit time.Duration) (m privsep.Message, err error) {
	m, err = t.Receive(limit)
	switch {
	case err != nil:
	case m.Do == do:
		return m, nil
	case m.Do == sayRefused:
		err = fmt.Errorf("the running sallyport refuses: %s", render.Text(m.Text))
	default:
		err = fmt.Errorf("the running sallyport says %q instead of %q: it is of another version", m.Do, do)
	}
	closeAll(m.FDs)
	return privsep.Message{}, err
}

// receivePassage holds the sockets that are handed over.
func (l *loader) receivePassage(t *privsep.Talk) error {
	for limit := pauseTime + stepTime; ; limit = stepTime {
		m, err := receive(t, sayPassage, limit)
		if err == nil && m.More && len(m.FDs) == 0 {
			err = errors.New("the running sallyport does not come to an end of its sockets")
		}
		if err != nil {
			return err
		}
		for i, fd := range m.FDs {
			if err == nil && m.Names[i] == controlName && l.inherited < 0 {
				l.inherited = fd
				continue
			}
			if err == nil {
				if err = l.keep(m.Names[i], fd); err == nil {
					continue
				}
			}
			unix.Close(fd)
		}
		if err != nil || !m.More {
			return err
		}
	}
}

// errCalledOff: a signal wants something else.
var errCalledOff = errors.New("a signal came meanwhile")

// handOver gives the passage to the loader that calls. An error has called it
// off, and the daemon serves on.
func (l *loader) handOver(t *privsep.Talk, m privsep.Message) error {
	if d := differing(terms(l.cfg), m.Terms); len(d) > 0 {
		return fmt.Errorf("%s differ from those in force, which only a restart can change: stop the running sallyport first", strings.Join(d, ", "))
	}
	said := make(chan privsep.Message)
	go func() {
		defer close(said)
		for {
			m, err := t.Receive(0)
			if err != nil {
				return
			}
			closeAll(m.FDs)
			select {
			case said <- m:
			case <-t.Closed():
				return
			}
		}
	}()
	l.log.Info("another sallyport takes over", "pid", t.Caller().PID)
	err := l.handOverSteps(t, said)
	if err == nil {
		return nil
	}
	if rerr := l.line.order(doResume, ""); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}

func (l *loader) handOverSteps(t *privsep.Talk, said <-chan privsep.Message) error {
	all, err := l.pause(said)
	// A socket's owner may have it linger.
	defer func() { go closeSockets(all) }()
	if err != nil {
		return err
	}
	control, err := l.control.Descriptor()
	if err != nil {
		return err
	}
	all = append(all, socket{controlName, control})
	for rest := all; len(rest) > 0; {
		n := min(len(rest), privsep.MaxFDs)
		names, fds := parts(rest[:n])
		rest = rest[n:]
		if err := t.Send(privsep.Message{Do: sayPassage, Names: names, FDs: fds, More: len(rest) > 0}); err != nil {
			return fmt.Errorf("hand the passage over: %w", err)
		}
	}
	if err := l.hear(said, sayHold, stepTime); err != nil {
		return err
	}
	limit := l.cfg.Limits.Handover
	if err := l.line.order(doDrain, limit.String()); err != nil {
		return err
	}
	if _, err := l.await(said, doDrain, limit+endTime); err != nil {
		return err
	}
	if err := t.Send(privsep.Message{Do: sayDrained}); err != nil {
		return err
	}
	if err := l.hear(said, sayGo, stepTime); err != nil {
		return err
	}
	// No way back: the other one waits for the end.
	l.onEnd = func() error {
		_ = l.control.Leave()
		_ = t.Send(privsep.Message{Do: sayOver}) // it sees the hanging up too
		return t.Close()
	}
	l.late = time.After(endTime) // its sessions have ended
	l.stop(nil)
	l.tell(doFinish, fmt.Sprintf("the daemon stopped: sallyport process %d takes over", t.Caller().PID))
	return nil
}

// pause has the daemon accept no more, and returns its sockets, each looked at:
// they go to the next loader or to the service manager, and what its sessions
// were sent may have taken the daemon over.
func (l *loader) pause(said <-chan privsep.Message) (all []socket, err error) {
	if err := l.line.order(doPause, ""); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for late := time.Now().Add(pauseTime); ; {
		v, err := l.await(said, doPause, min(stepTime, time.Until(late)))
		if err != nil {
			return all, err
		}
		for i, fd := range v.fds {
			s := socket{v.Names[i], fd}
			if err == nil {
				s, err = l.examine(s)
			}
			if err == nil && (s.name != flowName && seen[s.name] || len(all) >= maxSockets) {
				err = errors.New("more of them than there can be")
			}
			seen[s.name] = true
			all = append(all, s) // the bad one too: to be closed
		}
		switch {
		case err != nil:
			return all, fmt.Errorf("the daemon hands over a socket that is not the passage's: %w: look at what its sessions were sent, and restart sallyport", err)
		case v.More && len(v.fds) == 0:
			return all, errors.New("the daemon does not come to an end of its sockets: restart sallyport")
		case !v.More:
			return all, nil
		}
	}
}

// await waits for the daemon's answer to an order; who talks meanwhile calls it
// off.
func (l *loader) await(said <-chan privsep.Message, do string, limit time.Duration) (verdict, error) {
	late := time.After(limit)
	for {
		select {
		case v, ok := <-l.verdicts:
			switch {
			case !ok:
				return v, errors.New("the daemon is gone")
			case v.To == doLogin || v.To == doApprovals:
				letGo(v.fds)
				l.loginAnswered(v)
			case v.To != do:
				letGo(v.fds)
			case v.Err != "":
				letGo(v.fds)
				return v, daemonSaid(v)
			default:
				return v, nil
			}
		case m, ok := <-said:
			if ok {
				return verdict{}, fmt.Errorf("the new sallyport says %q, which was not its turn", m.Do)
			}
			return verdict{}, errors.New("the new sallyport has hung up")
		case s := <-l.signals:
			if s != unix.SIGHUP {
				l.signals <- s // for wait
				return verdict{}, errCalledOff
			}
			l.again = true
		case <-late:
			return verdict{}, fmt.Errorf("the daemon does not answer (%s)", do)
		}
	}
}

// hear waits for the new loader to say something.
func (l *loader) hear(said <-chan privsep.Message, do string, limit time.Duration) error {
	select {
	case m, ok := <-said:
		if !ok {
			return errors.New("the new sallyport has hung up")
		}
		if m.Do != do {
			return fmt.Errorf("the new sallyport says %q instead of %q", m.Do, do)
		}
		return nil
	case <-l.child.Done():
		return errors.New("the daemon is gone")
	case <-time.After(limit):
		return fmt.Errorf("the new sallyport does not say %q", do)
	}
}

// takeOver looks for a running sallyport and takes its place; it reports
// whether there was one. bad is what is wrong with the own configuration.
func (l *loader) takeOver(bad error) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	t, err := privsep.Call(ctx, controlPath(l.cfg))
	if errors.Is(err, privsep.ErrNobody) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer t.Close()
	if bad != nil {
		return true, configError(bad)
	}
	// Pins that this program can't bring to its layout are not touched.
	if _, err := redirect.GetStatus(l.cfg.Interception.Pins); errors.Is(err, redirect.ErrLayout) {
		return true, fmt.Errorf("take over: %w", err)
	}
	return true, l.succeed(t)
}
