package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/all"
)

// proxy is a passage that is only a port: a daemon without a loader, whose guard
// and whose proofs of processes it does not have.
type proxy struct {
	daemon   *daemon
	listener *portListener
	issuer   *issuer // nil: the configuration's own
	issued   string  // the token that its client sends, where it was issued here
}

// open opens everything but the door.
func (o *proxyOptions) open(cfg *config.Config, log *slog.Logger) (_ *proxy, err error) {
	r, w, err := cfg.Port(o.resource, o.workload)
	if err != nil {
		return nil, badConfig(err)
	}
	p := &proxy{}
	defer func() {
		if err != nil {
			p.issuer.close()
		}
	}()
	state, err := filepath.Abs(o.state)
	if err == nil {
		err = privateState(state)
	}
	if err != nil {
		return nil, err
	}
	file := o.tokenFile
	if o.issue {
		if p.issuer, err = startIssuer(cfg, w, filepath.Join(state, "token"), log); err != nil {
			return nil, err
		}
		file = p.issuer.file
	}
	prover, err := newPortProver(cfg, w, file)
	if err != nil {
		return nil, err
	}
	if w.InBand != "" && p.issuer != nil {
		p.issued = p.issuer.first
	}
	b, err := gather(cfg)
	if err != nil {
		return nil, configError(err)
	}
	s, err := prepare(b, func(*config.Config) (intercept.Prover, identity.Attester, error) { return prover, nil, nil }, nil)
	b.wipeKeys()
	if err != nil {
		return nil, err
	}
	s.speaker.Placeless, s.speaker.Lives = true, nil
	host, port, err := serverOf(s.cfg.Resources, r.Name)
	if err != nil {
		return nil, configError(fmt.Errorf("%s: resource %s: %w", cfg.At("resources"), r.Name, err))
	}
	p.listener, err = listenPort(o.listen, host, port, s.resources, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.listener.Close()
		}
	}()
	p.daemon, err = newPortDaemon(s, state, b.Recipients, log)
	return p, err
}

// serverOf is where the server of a resource is: its first single address.
func serverOf(rs []config.Resource, name string) (host string, port uint16, err error) {
	for _, r := range rs {
		for _, a := range r.Addresses {
			switch {
			case r.Name != name || a.First != a.Last:
			case a.Name != "":
				return a.Name, a.First, nil
			case a.Prefix.IsSingleIP():
				return a.Prefix.Addr().String(), a.First, nil
			}
		}
	}
	return "", 0, errors.New("it has no single address to lead to")
}

// newPortDaemon is what a daemon begins with, but for its loader's part. The
// record stays in a folder.
func newPortDaemon(s *setting, state string, recipients []byte, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{log: log, metrics: newMetrics(), notice: proxyNotice}
	slog.SetDefault(log)
	j := s.cfg.Evidence.Journal
	kept, err := journal.Open(filepath.Join(state, "journal"), journal.Options{
		Host: s.cfg.Host, MaxBytes: j.MaxBytes, SegmentBytes: j.SegmentBytes, Sync: j.Sync == "fsync", Revive: ocsf.Revive,
		Encode: func(b []byte, uid string, e *events.Event) []byte {
			e.Unplaced = true
			return ocsf.Append(b, uid, e)
		},
	})
	if err != nil {
		return nil, err
	}
	d.evidence = &evidence{journal: kept, log: log, alarms: &d.alarms, cancel: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.evidence.close())
		}
	}()
	into, err := sealing(kept, recipients)
	if err != nil {
		return nil, err
	}
	d.events = newLedger(into, d.metrics)
	d.alarms.begin(d.events, log)
	d.analyzers = newAnalyzers(log, &d.alarms, d.note)
	d.analyzers.kept.state = state
	if err := d.analyzers.prepare(s.cfg); err != nil {
		return nil, err
	}
	d.gate = policy.NewGate(s.engine, d.events, time.Now)
	d.restoreCounts(state)
	d.brokers.fail = d.accountFailed
	d.brokers.store.Refresh = func(context.Context) error {
		files, err := readSecrets(s.cfg)
		if err == nil {
			d.brokers.store.Replace(files)
		}
		return err
	}
	digest := newDigester(kept.LiteralKey())
	d.protocols = all.New(all.Host{Analyzer: d.analyzers.get, Digest: digest.sum, Keys: d.keys, Subjects: d.subjectKey})
	d.sessions.begin(s.cfg.Limits, log)
	d.metrics.placed.Set(0)
	d.metrics.journal(kept.Stats)
	if addr := s.cfg.Metrics; addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		go d.metrics.serve(l, log)
	}
	d.commit(s)
	return d, d.started(s)
}

// end ends in order: sessions finish their statement, and the record has its
// last word.
func (p *proxy) end(signals <-chan os.Signal) error {
	d := p.daemon
	defer p.issuer.close()
	d.await(d.sessions.close(), signals)
	d.saveCounts()
	t, err := d.events.Append(&events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: "stop", Message: "the proxy stopped"})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		err = t.Wait(ctx)
		cancel()
	}
	d.analyzers.close()
	d.closeBrokers()
	return errors.Join(err, d.evidence.close())
}

// portListener hands out connections to a port as if they had asked for the
// server.
type portListener struct {
	net.Listener

	host   string
	port   uint16
	routes *routes
	log    *slog.Logger
}

func listenPort(addr, host string, port uint16, r *routes, log *slog.Logger) (*portListener, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || !a.Addr().IsLoopback() {
		return nil, configError(fmt.Errorf("--listen %q: must be a loopback ip:port: whoever can connect may be taken for the workload", addr))
	}
	l, err := net.Listen("tcp", addr)
	return &portListener{l, host, port, r, log}, err
}

// Accept implements intercept.Listener. Of the peer nothing is known.
func (l *portListener) Accept(ctx context.Context) (*intercept.Flow, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return nil, net.ErrClosed
		}
		if err != nil { // too many descriptors, say
			l.log.Warn("a connection could not be accepted", "error", err)
			if !pause(ctx, 100*time.Millisecond) {
				return nil, net.ErrClosed
			}
			continue
		}
		to, err := l.resolve(ctx)
		if err != nil {
			l.log.Error("the server can't be found: a connection is closed", "error", err)
			c.Close()
			continue
		}
		return &intercept.Flow{Conn: c, Destination: to}, nil
	}
}

// resolve finds the server, and has the routes know it.
func (l *portListener) resolve(ctx context.Context) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(l.host); err == nil {
		return netip.AddrPortFrom(a, l.port), nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", l.host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	l.routes.learn(names.Map{l.host: {Current: found}})
	return netip.AddrPortFrom(found[0], l.port), nil
}

// portProver takes all who connect for one workload. It proves nothing but the
// workload's token, which it reads anew each time.
type portProver struct {
	workload, file string // file is "" where the token comes in band
}

func newPortProver(cfg *config.Config, w *config.Workload, file string) (*portProver, error) {
	if w.InBand != "" {
		return &portProver{workload: w.Name}, nil
	}
	if file == "" {
		file = strings.ReplaceAll(w.Token, "{uid}", strconv.Itoa(os.Getuid()))
	}
	switch {
	case file == "":
		return nil, configError(fmt.Errorf("workload %s has no token: set its token_file, or in_band, or give --token-file or --issue", w.Name))
	case strings.Contains(file, "{"):
		return nil, configError(fmt.Errorf("token_file %s: no process is proved here, so that {pid} is nobody's: give --token-file", file))
	}
	return &portProver{w.Name, file}, nil
}

// Prove implements intercept.Prover.
func (p *portProver) Prove(context.Context, *intercept.Peer) (intercept.Proof, error) {
	proof := intercept.Proof{Workload: p.workload}
	if p.file == "" {
		return proof, nil
	}
	b, err := readFile(p.file, privsep.MaxToken)
	if err != nil {
		return proof, fmt.Errorf("its token can't be read: %w", err)
	}
	proof.Token = bytes.TrimSpace(b)
	return proof, nil
}
