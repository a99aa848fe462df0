package main

import (
	"errors"
	"fmt"
	"time"

	"sallyport.dev/sallyport/intercept/privsep"
)

// openControl opens the control socket, or goes on with the one before.
func (l *loader) openControl() (err error) {
	path := controlPath(l.cfg)
	if fd := l.inherited; fd >= 0 {
		l.inherited = -1
		l.control, err = privsep.AdoptControl(fd, path, l.prover)
	} else {
		l.control, err = privsep.ListenControl(path, l.prover)
	}
	if err != nil {
		return err
	}
	l.control.OnTalk = func(t *privsep.Talk) {
		select {
		case l.talks <- t:
		case <-time.After(stepTime):
			_ = t.Send(privsep.Message{Do: sayRefused, Text: "sallyport is busy: try again"})
			t.Close()
		}
	}
	return nil
}

// talk answers what is asked at the control socket.
func (l *loader) talk(t *privsep.Talk) {
	m, err := t.Receive(0) // what it began with
	defer closeAll(m.FDs)
	switch {
	case err != nil:
	case l.stopping:
		err = errors.New("sallyport is stopping: try again when it has ended")
	case l.pending != nil || !l.serving:
		err = errors.New("sallyport is starting or reloading: try again")
	case m.Do == sayTakeover:
		err = l.handOver(t, m)
	case m.Do == sayLogin:
		err = l.relayLogin(t, m)
	case m.Do == sayApprovals:
		err = l.relayApprovals(t, m)
	case m.Do == sayDown:
		err = l.takeDown(t, m)
	default:
		err = fmt.Errorf("%q is not known here: the running sallyport is of another version", m.Do)
	}
	if err != nil {
		l.log.Warn("what was asked at the control socket is refused", "what", m.Do, "pid", t.Caller().PID, "error", err)
		_ = t.Send(privsep.Message{Do: sayRefused, Text: err.Error()})
		t.Close()
	}
	if l.again && !l.stopping {
		l.again = false
		l.reload()
	}
}
