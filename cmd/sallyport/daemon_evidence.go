package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

const (
	// flushTime is what shipping has to catch up at the end; what is left is
	// shipped by the next start.
	flushTime = 3 * time.Second
	retryTime = 10 * time.Second
)

// evidence is the journal and its way to NATS.
type evidence struct {
	journal *journal.Journal
	server  *jetstream.Server // nil for a NATS of the user's own
	conn    *nats.Conn
	shipper *jetstream.Shipper
	log     *slog.Logger
	alarms  *alarms

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// openEvidence opens it; read returns the files of evidence.nats.tls, as they are then.
func openEvidence(cfg *config.Config, b *bundle, read func(string) ([]byte, error), log *slog.Logger, a *alarms, vouch func(note string) string) (_ *evidence, err error) {
	ev := &evidence{log: log, alarms: a, cancel: func() {}}
	defer func() {
		if err != nil {
			_ = ev.close()
		}
	}()
	j := cfg.Evidence.Journal
	ev.journal, err = journal.Open(filepath.Join(cfg.State, "journal"), journal.Options{
		Host: cfg.Host, MaxBytes: j.MaxBytes, SegmentBytes: j.SegmentBytes, Sync: j.Sync == "fsync",
		Encode: ocsf.Append, Revive: ocsf.Revive, Vouch: vouch,
	})
	if err != nil {
		return nil, err
	}
	n := cfg.Evidence.NATS
	if n.URL == "" {
		// The server itself tells of a port that is taken only by not starting.
		if err := free(n.Listen); err != nil {
			return nil, fmt.Errorf("embedded NATS: %w (evidence.nats.listen)", err)
		}
		if ev.server, err = jetstream.StartServer(jetstream.Options{Dir: filepath.Join(cfg.State, "nats"), Listen: n.Listen, Host: cfg.Host, Sinks: n.Sinks}); err != nil {
			return nil, err
		}
		ev.conn, err = ev.server.Connect()
	} else {
		ev.conn, err = connect(n, b.Credentials, read)
	}
	if err != nil {
		return nil, err
	}
	ev.shipper = &jetstream.Shipper{Host: cfg.Host, Conn: ev.conn, RecorderKey: b.RecorderKey, Log: log, Source: source(ev.journal), Need: needs(n)}
	ev.shipper.PutBack = func(seq, signed uint64) {
		a.raise("recorder", fmt.Sprintf("the recorder has records of this host up to %d, and signed up to %d: its store was put back to an earlier state", seq, signed))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ev.cancel = cancel
	ev.wg.Go(func() { ev.ship(ctx) })
	ev.wg.Go(func() { beat(ctx, ev.journal, cfg.Evidence.Heartbeat) })
	if n.URL != "" {
		ev.wg.Go(func() { ev.ensure(ctx, n) })
	}
	return ev, nil
}

func free(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// connect dials the user's NATS with credentials that only the loader could
// read. It need not be there yet.
func connect(n config.NATS, secret []byte, read func(string) ([]byte, error)) (*nats.Conn, error) {
	opts := []nats.Option{nats.RetryOnFailedConnect(true), n.TLS.OptionOf(read)}
	switch {
	case n.Credentials == "":
	case strings.HasSuffix(n.Credentials, ".creds"):
		opts = append(opts, nats.UserCredentialBytes(secret))
	default:
		kp, err := nkeys.FromSeed(bytes.TrimSpace(secret))
		if err != nil {
			return nil, configError(fmt.Errorf("%s: holds no nkey seed: %w", n.Credentials, err))
		}
		pub, err := kp.PublicKey()
		if err != nil {
			return nil, configError(fmt.Errorf("%s: %w", n.Credentials, err))
		}
		opts = append(opts, nats.Nkey(pub, kp.Sign))
	}
	return jetstream.Connect(n.URL, "", opts...)
}

func source(j *journal.Journal) jetstream.Source {
	return jetstream.Source{
		Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
	}
}

// ship empties the journal for as long as ctx lives.
func (ev *evidence) ship(ctx context.Context) {
	for {
		err := ev.shipper.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		ev.alarms.raise("shipping", fmt.Sprintf("records are not shipped: %v", err))
		if !pause(ctx, retryTime) {
			return
		}
	}
}

func needs(n config.NATS) jetstream.Needs {
	return jetstream.Needs{Replicas: n.Replicas, Weaker: n.Weaker}
}

// ensure makes the stream in the user's NATS, or checks the one that is there.
func (ev *evidence) ensure(ctx context.Context, n config.NATS) {
	for {
		try, cancel := context.WithTimeout(ctx, retryTime)
		err := jetstream.Ensure(try, ev.conn, needs(n), 0, n.Sinks...)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		if ev.conn.IsConnected() {
			ev.alarms.raise("stream", fmt.Sprintf("the stream of records can't be checked: %v", err))
		}
		if !pause(ctx, time.Minute) {
			return
		}
	}
}

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// flush waits until what is durable is shipped, but not long.
func (ev *evidence) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	for ev.shipper.Lag() > 0 && pause(ctx, 10*time.Millisecond) {
	}
	if n := ev.shipper.Lag(); n > 0 {
		ev.log.Warn("records wait for the next start to be shipped", "records", n)
	}
}

// close makes the journal durable and lets go of everything.
func (ev *evidence) close() error {
	ev.cancel()
	ev.wg.Wait()
	if ev.conn != nil {
		ev.conn.Close()
	}
	if ev.server != nil {
		ev.server.Close()
	}
	if ev.journal == nil {
		return nil
	}
	if err := ev.journal.Close(); err != nil {
		return fmt.Errorf("close the journal: %w", err)
	}
	return nil
}
