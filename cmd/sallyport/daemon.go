package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/tlsport"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/all"
)

// daemon is the unprivileged half of `sallyport run`: everything that reads
// what agents send.
type daemon struct {
	log     *slog.Logger
	metrics *metrics
	prover  *privsep.Client
	line    *line

	evidence  *evidence
	events    *ledger
	gate      *policy.Gate
	protocols map[string]protocols.Protocol
	brokers   brokers
	logins    keptLogins
	counts    keptCounts
	approvals *approval.Book

	approvalsLog *approvalsLog
	analyzers    *analyzers
	leaves       *tlsport.Leaves  // nil: agents have no TLS
	unsecured    unsecured        // workloads that did not come in by TLS
	spiffe       *spiffe.Sessions // nil: no agent is asked
	attestor     *spiffe.Attestor // its own

	setting atomic.Pointer[setting]
	names   names.Map // what DNS names lead to, by the loader's latest word; of obey alone
	// hold is locked from a reload's preparation to its end: who is bound
	// meanwhile would be proved and judged by different configurations.
	hold sync.RWMutex

	front    front
	sessions sessions
	observed openDoors // relayed while nothing is enforced
	alarms   alarms
	notice   string      // told to each client; "" for nothing
	finish   chan string // the loader's order to end, and why

	nats        *natsFiles
	secretsRead chan error // what came of asking the loader to read the secrets of accounts again
}

// inherited are the descriptors after the line to the loader's prover.
type inherited struct {
	line     *line
	reports  int
	counters int
	signer   *os.File
}

// runDaemon is the daemon's process. It ends the process itself when the
// loader was told why, so that nothing is said twice.
func runDaemon() error {
	if err := privsep.Confine(); err != nil {
		return err
	}
	prover, err := privsep.Dial()
	if err != nil {
		return err
	}
	in, err := inherit()
	if err != nil {
		return err
	}
	// The loader alone says when to read files again.
	signal.Ignore(unix.SIGHUP)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	d := &daemon{prover: prover, line: in.line, metrics: newMetrics(), finish: make(chan string, 1), secretsRead: make(chan error, 1)}
	d.front.Listener = redirect.NewListener(nil, d.stray)
	if err := d.begin(in); err != nil {
		var ee *exitError
		if aerr := d.line.answer(verdict{To: doPrepare, Err: err.Error(), Config: errors.As(err, &ee) && ee.code == 2}); aerr != nil {
			return errors.Join(err, aerr)
		}
		os.Exit(1)
	}
	return d.run(signals)
}

func inherit() (in inherited, err error) {
	files, err := privsep.Inherited(4)
	if err != nil {
		return in, err
	}
	if in.line, err = lineOf(files[0]); err != nil {
		return in, err
	}
	for i, to := range []*int{&in.reports, &in.counters} {
		f := files[1+i]
		if *to, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return in, fmt.Errorf("inherited map: %w", err)
		}
		f.Close()
	}
	in.signer = files[3]
	return in, nil
}

// begin waits for the first bundle and opens what it names. Nothing is
// accepted yet.
func (d *daemon) begin(in inherited) error {
	o, fds, err := d.line.next()
	if err != nil || o.Do != doPrepare {
		closeAll(fds)
		return fmt.Errorf("the loader's first order is %q (%v)", o.Do, err)
	}
	b, err := openBundle(fds[0])
	if err != nil {
		return err
	}
	s, err := prepare(b, d.proving, nil)
	b.wipeKeys()
	if err != nil {
		return err
	}
	d.log = newLogger(s.cfg.Log, "daemon")
	slog.SetDefault(d.log)
	d.brokers.store.Refresh, d.brokers.svid, d.brokers.fail = d.askSecrets, d.ownSVID, d.accountFailed
	d.nats = newNATSFiles(&d.brokers.store, s.cfg, s.secrets)
	if d.evidence, err = openEvidence(s.cfg, b, d.nats.read, d.log, &d.alarms, d.vouching()); err != nil {
		return err
	}
	if err := d.logins.restore(s.cfg.State, s.logins); err != nil {
		d.log.Error("who has logged in by SAML is not known any more: people log in again", "error", err)
	}
	kept, err := sealing(d.evidence.journal, b.Recipients)
	if err != nil {
		return err
	}
	d.events = newLedger(kept, d.metrics)
	d.alarms.begin(d.events, d.log)
	d.analyzers = newAnalyzers(d.log, &d.alarms, d.note)
	d.analyzers.kept.state = s.cfg.State
	if err := d.analyzers.prepare(s.cfg); err != nil {
		return err
	}
	d.gate = policy.NewGate(s.engine, d.events, time.Now)
	d.restoreCounts(s.cfg.State)
	if err := d.openApprovals(s.cfg.State, s.cfg.Host); err != nil {
		return err
	}
	digest := newDigester(d.evidence.journal.LiteralKey())
	d.protocols = all.New(all.Host{Analyzer: d.analyzers.get, Digest: digest.sum, Keys: d.keys, Subjects: d.subjectKey})
	d.sessions.begin(s.cfg.Limits, d.log)
	if d.leaves, err = newLeaves(s.cfg, in.signer); err != nil {
		return err
	}
	if err := d.serveMetrics(s.cfg.Metrics, in.counters); err != nil {
		return err
	}
	if err := d.watchReports(in.reports); err != nil {
		return err
	}
	d.commit(s)
	return d.started(s)
}

// started records the start; the record must be durable before anything else
// happens.
func (d *daemon) started(s *setting) error {
	e := events.Event{
		Kind: events.Lifecycle, Time: time.Now(), Status: "start",
		Message: fmt.Sprintf("the daemon started: %d resources, policy %s", len(s.cfg.Resources), s.policySum),
	}
	t, err := d.events.Append(&e)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = t.Wait(ctx)
	}
	if errors.Is(err, events.ErrFull) {
		// It may have room again; until then everybody is refused.
		d.log.Error("the start is not on the record", "error", err)
		return nil
	}
	return err
}

// run serves until a signal, an order, a failure, or the loader's end.
func (d *daemon) run(signals <-chan os.Signal) error {
	if err := d.line.answer(verdict{To: doPrepare}); err != nil {
		return err
	}
	orders := make(chan error, 1)
	committed := make(chan struct{})
	go func() { orders <- d.obey(committed) }()
	select {
	case <-committed:
		d.nats.asks.Store(true)
	case err := <-orders:
		return err
	case <-signals:
		return d.end(stopped, signals)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go d.keepCounts(ctx)
	go d.sweepApprovals(ctx)
	go d.answerOverNATS(ctx)
	go d.watchJournal(ctx)
	go d.recheck(ctx)
	var why error
	last := stopped
	select {
	case s := <-signals:
		d.log.Info("stopping", "signal", s.String())
	case last = <-d.finish:
		d.log.Info("stopping", "why", last)
	case why = <-orders:
		// The loader is gone: nobody can be proved, and the kernel ends us.
	}
	return errors.Join(why, d.end(last, signals))
}

// obey follows the loader's orders until the line is cut. The first commit is
// that of the start.
func (d *daemon) obey(committed chan<- struct{}) error {
	var next *setting
	for {
		o, fds, err := d.line.next()
		if errors.Is(err, io.EOF) {
			return privsep.ErrLoaderGone
		}
		if err != nil {
			return fmt.Errorf("order: %w", err)
		}
		switch o.Do {
		case doPrepare:
			if next, err = d.ready(fds[0]); err != nil {
				d.refusedReload(err.Error())
			}
			err = d.line.answer(verdictOf(doPrepare, err))
		case doCommit:
			if committed != nil {
				d.open()
				close(committed)
				committed = nil
			} else if next != nil {
				d.commit(next)
				d.hold.Unlock()
				d.reloaded(next)
				next = nil
			}
		case doAbort, doRefused:
			if next != nil {
				wipe(next.takeSecrets())
				next.keys.Close()
				d.hold.Unlock()
				next = nil
			}
			d.refusedReload(o.Text)
		default:
			err = d.follow(&o, fds)
		}
		if err != nil {
			return err
		}
	}
}

// follow does what is not about settings.
func (d *daemon) follow(o *order, fds []int) error {
	switch o.Do {
	case doAlarm:
		d.alarms.raise("guard", o.Text)
	case doSwept:
		return d.swept(o.Text)
	case doNames:
		return d.learnNames(fds[0])
	case doSecrets:
		return d.learnSecrets(fds[0])
	case doLogin:
		d.login(o, fds)
	case doApprovals:
		d.answerApprovals(o, fds)
	case doNote:
		return d.line.answer(verdictOf(doNote, d.recordNote(o.Text)))
	case doListen:
		return d.listen(o.Names, fds)
	case doHealth:
		return d.health(o.Text)
	case doUnlisten:
		for _, name := range o.Names {
			d.front.Remove(name)
		}
	case doAdopt:
		return d.adopt(o.Names, fds)
	case doPause:
		return d.pause()
	case doResume:
		d.resume()
	case doDrain:
		limit, err := time.ParseDuration(o.Text)
		if err != nil {
			return fmt.Errorf("order %s: %w", o.Do, err)
		}
		d.startDrain(limit)
	case doFinish:
		d.finish <- o.Text
	default:
		return fmt.Errorf("order %q is not known: loader and daemon are of different versions", o.Do)
	}
	return nil
}

func verdictOf(do string, err error) verdict {
	v := verdict{To: do}
	if err != nil {
		v.Err = err.Error()
	}
	return v
}

// ready prepares a reload, and returns with new connections held back.
func (d *daemon) ready(file int) (*setting, error) {
	b, err := openBundle(file)
	if err != nil {
		return nil, err
	}
	s, err := prepare(b, d.proving, d.setting.Load())
	b.wipeKeys()
	if err != nil {
		return nil, err
	}
	if err := d.analyzers.prepare(s.cfg); err != nil {
		return nil, err
	}
	d.hold.Lock()
	return s, nil
}

// commit puts a setting in force, at once for all later decisions.
func (d *daemon) commit(s *setting) {
	d.gate.SetEngine(s.engine)
	d.analyzers.commit(s)
	d.brokers.commit(s)
	d.commitSPIFFE(s.cfg)
	s.resources.learn(d.names)
	if old := d.setting.Swap(s); old != nil && old != s {
		old.keys.Close()
	}
	d.enforcement(s)
	d.observing(s.engine)
}

// keys returns what keyed masks are made with, nil for nothing.
func (d *daemon) keys() *mask.Keys {
	if s := d.setting.Load(); s != nil {
		return s.keys
	}
	return nil
}

func (d *daemon) reloaded(s *setting) {
	d.metrics.reloads.WithLabelValues("ok").Inc()
	d.log.Info("reloaded", "policy", s.policySum)
	d.note(&events.Event{
		Kind: events.Lifecycle, Time: time.Now(), Status: "reload",
		Message: fmt.Sprintf("configuration and policy were reloaded: %d resources, policy %s", len(s.cfg.Resources), s.policySum),
	})
}

func (d *daemon) refusedReload(why string) {
	d.metrics.reloads.WithLabelValues("refused").Inc()
	d.alarms.raise("reload", "a reload was refused, the old configuration and policy stay: "+why)
}

// note appends an event that nobody waits for.
func (d *daemon) note(e *events.Event) {
	if _, err := d.events.Append(e); err != nil {
		d.log.Error("an event could not be recorded", "kind", e.Kind.String(), "error", err)
	}
}
