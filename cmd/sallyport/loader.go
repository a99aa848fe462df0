package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
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
	records records
	prover  *privsep.Prover
	control *privsep.Control
	own     string            // addresses of the host that the guard knows
	swept   []redirect.Bypass // not told to the daemon yet
	child   *privsep.Child
	room    room // that it is in
	line    *line

	names   nameWatch
	signing *signer // nil: agents have no TLS
	scopes  scopes
	watched watched

	held      []socket        // of the passage, not the daemon's yet
	listening map[uint64]bool // network namespaces, by cookie, that the passage listens in
	inherited int             // control socket of the loader before this one; -1 for none

	signals  chan os.Signal
	verdicts chan verdict       // of the daemon; closed when it is gone
	talks    chan *privsep.Talk // that others begin

	logins    logins
	reread    time.Time // the secrets of accounts, at the daemon's word
	serving   bool
	pending   *config.Config // sent to the daemon, not answered yet
	asked     time.Time      // when
	again     bool           // a reload was asked for meanwhile
	stopping  bool
	notesTold string           // what of the notes could not be recorded, as it was told
	late      <-chan time.Time // then the daemon is killed
	onEnd     func() error     // when the daemon has ended in order, nil for nothing
}

// runLoader returns nil when a signal, a guard down or a take-over has ended it
// in order.
func runLoader(cfg *config.Config, log *slog.Logger) error {
	l := &loader{
		log: log, cfg: cfg, inherited: -1,
		signals: make(chan os.Signal, 8), verdicts: make(chan verdict), talks: make(chan *privsep.Talk),
	}
	signal.Notify(l.signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(l.signals)
	defer l.close()
	l.fromSupervisor()
	b, bad := check(cfg)
	// Over a running one nothing is touched before all is known to be well.
	// Without one, whatever is wrong, the guard comes up first: it refuses.
	if _, err := l.takeOver(bad); err != nil {
		return err
	}
	if err := l.raise(); err != nil {
		return err
	}
	if bad != nil {
		return configError(bad)
	}
	if err := l.start(b); err != nil {
		return err
	}
	return l.wait()
}

// check reads all that the configuration names, and what can be said of it
// without a daemon.
func check(cfg *config.Config) (*bundle, error) {
	b, err := gather(cfg)
	if err != nil {
		return nil, err
	}
	if _, _, err := daemonUser(cfg.User); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.At("user"), err)
	}
	if err := new(loader).prove(cfg); err != nil {
		return nil, err
	}
	if _, err := prepare(b, nil, nil); err != nil {
		return nil, err
	}
	if err := checkAuthority(cfg); err != nil {
		return nil, err
	}
	return b, nil
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
	if err := l.openControl(); err != nil {
		return err
	}
	l.startNames()
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
	asks, err := l.startSigner()
	if err != nil {
		return fail(err)
	}
	files = append(files, asks)
	if err := l.listeners(); err != nil {
		return fail(err)
	}
	daemons, _ := l.guard.DaemonCgroup()
	cgroup, id, err := l.room.open(l.guard.CgroupRoot()+daemons, l.log)
	if err != nil {
		return fail(err)
	}
	defer cgroup.Close()
	l.child, err = privsep.Start(privsep.Options{
		Path: "/proc/self/exe", Args: []string{"sallyport", daemonCommand},
		Env: daemonEnv(), UID: uid, GID: gid, Cgroup: cgroup, Files: files, Stderr: os.Stderr,
		Prover: l.prover, Record: l.records.of,
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
	if err := l.send(l.cfg, b); err != nil {
		return err
	}
	l.tellNames(l.names.known())
	if err := l.handListeners(); err != nil {
		return err
	}
	return l.followScopes(l.cfg)
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

// wait serves until a signal, another loader, or the daemon's death ends it.
func (l *loader) wait() error {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.control.Serve(ctx) }()
	defer func() {
		cancel()
		<-served
	}()
	go l.listenToDaemon(ctx)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var failed error // why the daemon was told to end, nil for a signal
	for {
		select {
		case s := <-l.signals:
			switch {
			case s == unix.SIGHUP && !l.stopping:
				l.reload()
			case s != unix.SIGHUP:
				if s == unix.SIGTERM && !l.stopping {
					l.store()
				}
				l.stop(s)
			}
		case v, ok := <-l.verdicts:
			if !ok {
				l.verdicts = nil
			} else if err := l.answered(v); err != nil {
				failed = err
				l.stop(unix.SIGTERM)
			}
		case t := <-l.talks:
			l.talk(t)
		case <-look.C:
			l.logins.forget()
			l.look()
		case e, ok := <-l.scopes.events:
			if err := l.scope(e, ok); err != nil {
				failed = err
				l.stop(unix.SIGTERM)
			}
		case <-l.scopes.sweep:
			l.sweepScopes()
		case <-l.scopes.wires.changed:
			l.wireSoon()
		case <-l.scopes.wires.due:
			l.rewire()
		case all := <-l.watched.round:
			l.canariesBack(all)
		case a, ok := <-l.names.answers:
			l.learnName(a, ok)
		case <-l.names.soon:
			l.applyNames()
		case <-l.names.look:
			l.lookAtNames()
		case err := <-served:
			served <- nil
			if l.onEnd == nil {
				failed = fmt.Errorf("control socket: %w", err)
				l.stop(unix.SIGTERM)
			}
		case <-l.late:
			l.log.Error("the daemon does not end: it is killed")
			_ = l.child.Signal(os.Kill)
		case <-l.child.Done():
			if err := l.lastWords(); err != nil {
				failed = err
			}
			return l.ended(failed)
		}
	}
}

// listenToDaemon gives what the daemon says to the loop.
func (l *loader) listenToDaemon(ctx context.Context) {
	verdicts := l.verdicts
	defer close(verdicts)
	for {
		v, err := l.line.verdict()
		if errors.Is(err, net.ErrClosed) {
			l.log.Error("the daemon does not read its orders: it is killed")
			_ = l.child.Signal(os.Kill)
		}
		if err != nil {
			return // the daemon is gone, which its end tells
		}
		select {
		case verdicts <- v:
		case <-ctx.Done():
			letGo(v.fds)
			return
		}
	}
}

// lastWords hears what the daemon said before its end, which may say why. A
// process that it left behind may hold its end of the line open, and is not
// waited for.
func (l *loader) lastWords() (failed error) {
	_ = l.line.conn.SetReadDeadline(time.Now().Add(time.Second))
	for l.verdicts != nil {
		v, ok := <-l.verdicts
		if !ok {
			break
		}
		if err := l.answered(v); err != nil {
			failed = err
		}
	}
	return failed
}

// stop has the daemon end, by a signal; nil for an order that it has.
func (l *loader) stop(sig os.Signal) {
	l.stopping = true
	notify("STOPPING=1")
	if l.watched.recall != nil {
		l.watched.recall() // none must be in a cgroup that guard down removes
	}
	if sig != nil {
		_ = l.child.Signal(sig) // gone already: then its end tells
	}
	if l.late == nil {
		l.late = time.After(l.cfg.Limits.Drain + endTime)
	}
}

// ended returns what the daemon's end means.
func (l *loader) ended(failed error) error {
	err := l.child.Wait()
	l.room.close(l.log)
	if err == nil && !l.stopping {
		err = errors.New("it ended by itself")
	}
	if err != nil {
		err = &exitError{
			code: 1, err: fmt.Errorf("the daemon died: %w", err),
			hint: "covered connections are refused until sallyport runs again; its log says what happened",
		}
	}
	if failed != nil {
		err = failed
	}
	if l.onEnd != nil {
		// Who waits for the end goes on, in order or not.
		if oerr := l.onEnd(); err == nil {
			err = oerr
		}
	}
	if err == nil {
		l.log.Info("stopped")
	}
	return err
}

// tell sends the daemon an order that it does not answer.
func (l *loader) tell(do, text string) {
	if err := l.line.order(do, text); err != nil {
		l.log.Error("the daemon can't be reached", "order", do, "error", err)
	}
}

// close lets go of everything; the guard stays in force.
func (l *loader) close() {
	if l.child != nil {
		_ = l.child.Signal(os.Kill)
		_ = l.child.Wait()
	}
	l.room.close(l.log)
	l.names.close()
	l.scopes.close()
	l.signing.close()
	if l.line != nil {
		l.line.close()
	}
	if l.control != nil {
		l.control.Close()
	}
	closeSockets(l.held)
	if l.inherited >= 0 {
		unix.Close(l.inherited)
	}
	l.records.in(nil)
}
