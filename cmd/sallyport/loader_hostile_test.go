package main

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// lineOfTwo returns a loader's line, and the end of a daemon that somebody has
// taken over.
func lineOfTwo(t *testing.T) (l *loader, daemon *line) {
	t.Helper()
	ours, theirs, err := newLine()
	if err != nil {
		t.Fatal(err)
	}
	if daemon, err = lineOf(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.close()
		ours.close()
	})
	return &loader{line: ours, log: slog.New(slog.DiscardHandler), verdicts: make(chan verdict)}, daemon
}

// listening has the loader listen until the daemon hangs up.
func listening(t *testing.T, l *loader, daemon *line) {
	ended := make(chan struct{})
	verdicts := l.verdicts
	go func() {
		defer close(ended)
		l.listenToDaemon(t.Context())
	}()
	t.Cleanup(func() {
		daemon.close()
		for range verdicts {
		}
		<-ended
	})
}

func endsIn(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s: still waits after %s", what, limit)
	}
}

// A daemon that stops reading does not hold the loader up for ever.
func TestLineNotRead(t *testing.T) {
	l, _ := lineOfTwo(t)
	l.line.patience = 100 * time.Millisecond
	endsIn(t, 10*time.Second, "orders that nobody reads", func() {
		for {
			if err := l.line.order(doAlarm, strings.Repeat("x", maxText)); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				return
			}
		}
	})
	if err := l.line.order(doAlarm, ""); err == nil {
		t.Error("the line goes on after a packet was not taken")
	}
}

// A process that the daemon left behind keeps the line open: its end is seen
// all the same.
func TestLastWordsEnd(t *testing.T) {
	l, daemon := lineOfTwo(t)
	listening(t, l, daemon)
	if err := daemon.answer(verdict{To: doNote}); err != nil {
		t.Fatal(err)
	}
	endsIn(t, 10*time.Second, "last words", func() {
		if err := l.lastWords(); err != nil {
			t.Error(err)
		}
	})
}

// What the daemon hands over can't pass for the loader's own socket, and has an
// end.
func TestPauseOfAHostileDaemon(t *testing.T) {
	for name, v := range map[string]verdict{
		controlName: {To: doPause, Names: []string{controlName}},
		"endless":   {To: doPause, More: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, daemon := lineOfTwo(t)
			listening(t, l, daemon)
			for range v.Names {
				f, err := os.Open(os.DevNull)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				v.fds = append(v.fds, int(f.Fd()))
			}
			if err := daemon.answer(v); err != nil {
				t.Fatal(err)
			}
			endsIn(t, 5*time.Second, "pause", func() {
				all, err := l.pause(nil)
				closeSockets(all)
				if err == nil {
					t.Error("it was taken")
				}
			})
		})
	}
}
