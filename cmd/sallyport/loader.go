package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

const (
	// lookEvery is the time between two looks at the guard.
	lookEvery = 5 * time.Second
	// answerTime is what the daemon has to prepare for a reload.
	answerTime = time.Minute
	// endTime is what the daemon has for its end beyond the drain.
	endTime = 15 * time.Second
)

// loader is the privileged half of `sallyport run`: it holds the guard, proves
// processes, and hands the daemon what only root may read.
type loader struct {
	log     *slog.Logger
	cfg     *config.Config
	guard   *redirect.Guard
	prover  *privsep.Prover
	control *privsep.Control
	own     string            // addresses of the host that the guard knows
	swept   []redirect.Bypass // not told to the daemon yet
	child   *privsep.Child
	line    *line

	serving  bool
	pending  *config.Config // sent to the daemon, not answered yet
	asked    time.Time      // when
	again    bool           // a reload was asked for meanwhile
	stopping bool
}

// runLoader returns nil when a signal has ended it in order.
func runLoader(cfg *config.Config, log *slog.Logger) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	l := &loader{log: log, cfg: cfg}
	defer l.close()
	if err := l.raise(); err != nil {
		return err
	}
	b, err := gather(cfg)
	if err != nil {
		return configError(err)
	}
	if err := l.start(b); err != nil {
		return err
	}
	return l.wait(signals)
}

// start opens the passage and starts the daemon behind it.
func (l *loader) start(b *bundle) error {
	uid, gid, err := daemonUser(l.cfg.User)
	if err != nil {
		return configError(fmt.Errorf("%s: %w", l.cfg.At("user"), err))
	}
	if err := stateFolder(l.cfg.State, uid, gid); err != nil {
		return err
	}
	if l.prover, err = privsep.NewProver(l.guard.CgroupRoot(), l.guard.GuardedCgroup(), nil); err != nil {
		return err
	}
	if err := l.prove(l.cfg); err != nil {
		return configError(err)
	}
	if l.control, err = privsep.ListenControl(filepath.Join(l.cfg.Run, "control.sock"), l.prover); err != nil {
		return err
	}
	var theirs *os.File
	if l.line, theirs, err = newLine(); err != nil {
		return err
	}
	// Start closes the files: the loader keeps none that the daemon serves.
	files := []*os.File{theirs}
	fail := func(err error) error {
		for _, f := range files {
			f.Close()
		}
		return err
	}
	for _, fd := range []int{l.guard.ReportsFD(), l.guard.CountersFD()} {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fail(fmt.Errorf("duplicate a map's descriptor: %w", err))
		}
		files = append(files, os.NewFile(uintptr(dup), "map"))
	}
	listeners, err := l.listen(&files)
	if err != nil {
		return fail(err)
	}
	path, id := l.guard.DaemonCgroup()
	cgroup, err := os.Open(l.guard.CgroupRoot() + path)
	if err != nil {
		return fail(fmt.Errorf("cgroup of the daemon: %w", err))
	}
	defer cgroup.Close()
	l.child, err = privsep.Start(privsep.Options{
		Path: "/proc/self/exe", Args: []string{"sallyport", daemonCommand, strconv.Itoa(listeners)},
		Env: daemonEnv(), UID: uid, GID: gid, Cgroup: cgroup, Files: files, Stderr: os.Stderr, Prover: l.prover,
	})
	if err != nil {
		return err
	}
	// The daemon waits for its bundle: it dials nobody before it is exempt.
	tgid := uint32(l.child.PID())
	born, err := redirect.StartBoottime(tgid)
	if err != nil {
		return err
	}
	if err := l.guard.Exempt(tgid, born, id); err != nil {
		return err
	}
	return l.send(l.cfg, b)
}

// listen opens the passage and adds its listeners to the daemon's files.
func (l *loader) listen(files *[]*os.File) (n int, err error) {
	lns, err := l.guard.Listen()
	if err != nil {
		return 0, err
	}
	for _, ln := range lns {
		f, ferr := ln.File()
		if ferr == nil {
			*files = append(*files, f)
		}
		err = errors.Join(err, ferr, ln.Close())
	}
	return len(lns), err
}

// daemonEnv is what of the environment concerns the daemon: how it reaches
// issuers, and its own runtime.
func daemonEnv() (env []string) {
	for _, k := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY", "TZ", "GOMAXPROCS", "GOMEMLIMIT", "GOGC"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// wait serves until a signal or the daemon's death ends it.
func (l *loader) wait(signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.control.Serve(ctx) }()
	defer func() {
		cancel()
		<-served
	}()
	verdicts := make(chan verdict)
	go func() {
		defer close(verdicts)
		for {
			v, err := l.line.verdict()
			if err != nil {
				return // the daemon is gone, which its end tells
			}
			select {
			case verdicts <- v:
			case <-ctx.Done():
				return
			}
		}
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var failed error // why the daemon was told to end, nil for a signal
	var late <-chan time.Time
	stop := func(sig os.Signal) {
		l.stopping = true
		notify("STOPPING=1")
		_ = l.child.Signal(sig) // gone already: then its end tells
		if late == nil {
			late = time.After(l.cfg.Limits.Drain + endTime)
		}
	}
	for {
		select {
		case s := <-signals:
			if s != unix.SIGHUP {
				stop(s)
			} else if !l.stopping {
				l.reload()
			}
		case v, ok := <-verdicts:
			if !ok {
				verdicts = nil
			} else if err := l.answered(v); err != nil {
				failed = err
				stop(unix.SIGTERM)
			}
		case <-look.C:
			l.look()
		case err := <-served:
			served <- nil
			failed = fmt.Errorf("control socket: %w", err)
			stop(unix.SIGTERM)
		case <-late:
			l.log.Error("the daemon does not end: it is killed")
			_ = l.child.Signal(os.Kill)
		case <-l.child.Done():
			for verdicts != nil { // its last word may say why
				v, ok := <-verdicts
				if !ok {
					break
				}
				if err := l.answered(v); err != nil {
					failed = err
				}
			}
			return l.ended(failed)
		}
	}
}

// ended returns what the daemon's end means.
func (l *loader) ended(failed error) error {
	err := l.child.Wait()
	switch {
	case failed != nil:
		return failed
	case err == nil && l.stopping:
		l.log.Info("stopped")
		return nil
	case err == nil:
		err = errors.New("it ended by itself")
	}
	return &exitError{
		code: 1, err: fmt.Errorf("the daemon died: %w", err),
		hint: "covered connections are refused until sallyport runs again; its log says what happened",
	}
}

// tell sends the daemon an order that it does not answer.
func (l *loader) tell(do, text string) {
	if err := l.line.order(do, text, nil); err != nil {
		l.log.Error("the daemon can't be reached", "order", do, "error", err)
	}
}

// close lets go of everything; the guard stays in force.
func (l *loader) close() {
	if l.child != nil {
		_ = l.child.Signal(os.Kill)
		_ = l.child.Wait()
	}
	if l.line != nil {
		l.line.close()
	}
	if l.control != nil {
		l.control.Close()
	}
	if l.guard != nil {
		l.guard.Close()
	}
}
