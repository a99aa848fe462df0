package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
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
	return &loader{line: ours, log: slog.New(slog.DiscardHandler), verdicts: make(chan verdict), cfg: &config.Config{}}, daemon
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

// What the daemon hands over is what the passage has, whatever it is called, and
// has an end: it goes to the next loader, or into the service manager's store.
func TestPauseOfAHostileDaemon(t *testing.T) {
	own, err := redirect.NetnsCookie(nil)
	if err != nil {
		t.Fatal(err)
	}
	passage, other := listenerFile(t), listenerFile(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	at := netip.MustParseAddrPort(sockname(t, passage))
	client, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ln, err := net.FileListener(passage)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept() // by nobody's turning
	ln.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	flow, err := accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	for name, c := range map[string]struct {
		names  []string
		files  []*os.File
		more   bool
		spaces []uint64
		why    string
	}{
		"its own":             {names: []string{"0/4"}, files: []*os.File{passage}, spaces: []uint64{own}},
		"the loader's":        {names: []string{controlName}, files: []*os.File{null}, spaces: []uint64{own}, why: "not the passage's"},
		"no socket":           {names: []string{flowName}, files: []*os.File{null}, spaces: []uint64{own}, why: "not the passage's"},
		"another listener":    {names: []string{"0/4"}, files: []*os.File{other}, spaces: []uint64{own}, why: "is not at 127.0.0.1"},
		"another namespace":   {names: []string{"0/4"}, files: []*os.File{passage}, spaces: []uint64{own + 1}, why: "where the passage is not"},
		"twice":               {names: []string{"0/4", "0/6"}, files: []*os.File{passage, passage}, spaces: []uint64{own}, why: "more of them"},
		"listener as flow":    {names: []string{flowName}, files: []*os.File{passage}, spaces: []uint64{own}, why: "is no connection"},
		"flow without record": {names: []string{flowName}, files: []*os.File{flow}, spaces: []uint64{own}, why: redirect.ErrNotUp.Error()},
		"no end":              {more: true, why: "does not come to an end"},
	} {
		t.Run(name, func(t *testing.T) {
			l, daemon := lineOfTwo(t)
			l.cfg.Interception.Port = at.Port()
			l.listening = map[uint64]bool{}
			for _, cookie := range c.spaces {
				l.listening[cookie] = true
			}
			listening(t, l, daemon)
			v := verdict{To: doPause, Names: c.names, More: c.more}
			for _, f := range c.files {
				v.fds = append(v.fds, int(f.Fd()))
			}
			if err := daemon.answer(v); err != nil {
				t.Fatal(err)
			}
			endsIn(t, 5*time.Second, "pause", func() {
				all, err := l.pause(nil)
				closeSockets(all)
				if c.why == "" && (err != nil || len(all) != 1 || all[0].name != redirect.Passage{Netns: own, Family: unix.AF_INET}.String()) {
					t.Error(all, err)
				}
				if c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
					t.Errorf("it was taken: %v, %v", all, err)
				}
			})
		})
	}
}

func listenerFile(t *testing.T) *os.File {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func sockname(t *testing.T, f *os.File) string {
	t.Helper()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A loader that is taken over from and does not end, or hands over without end,
// holds the next one up for a while, and not for ever.
func TestSuccessorWaitsBounded(t *testing.T) {
	defer func(d, o time.Duration) { drainedTime, overTime = d, o }(drainedTime, overTime)
	drainedTime, overTime = 200*time.Millisecond, 200*time.Millisecond
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	prover, err := privsep.NewProver(root, redirecttest.Cgroup(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		says []string // to what it is told, in turn; "" for nothing
		more bool
		why  string // "" for going on without its word
	}{
		"no end of sockets":  {says: []string{sayPassage}, more: true, why: "does not come to an end"},
		"sessions don't end": {says: []string{sayPassage, ""}, why: "i/o timeout"},
		"it does not end":    {says: []string{sayPassage, sayDrained, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "control.sock")
			control, err := privsep.ListenControl(socket, prover)
			if err != nil {
				t.Fatal(err)
			}
			control.OnTalk = func(old *privsep.Talk) {
				for _, say := range c.says {
					if _, err := old.Receive(5 * time.Second); err != nil {
						t.Error(err)
					}
					if say != "" {
						_ = old.Send(privsep.Message{Do: say, More: c.more})
					}
				}
				_, _ = old.Receive(0) // until the new one hangs up
				old.Close()
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- control.Serve(ctx) }()
			defer func() { cancel(); <-served }()
			talk, err := privsep.Call(t.Context(), socket)
			if err != nil {
				t.Fatal(err)
			}
			l := &loader{log: slog.New(slog.DiscardHandler), cfg: &config.Config{}, inherited: -1, signals: make(chan os.Signal, 8)}
			endsIn(t, 10*time.Second, "the take-over", func() {
				if err := l.succeed(talk); (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
					t.Error(err)
				}
			})
		})
	}
}
