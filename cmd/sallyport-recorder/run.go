package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli"
	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

type options struct {
	config, store, state, nats, nkey, key, hostKeys, consumer, metrics, logFormat string
	grace, silence                                                                time.Duration
	tls                                                                           jetstream.TLS
	log                                                                           logOptions
	vouch                                                                         vouchOptions
	inClear                                                                       bool
	pruneFailed                                                                   func() // for metrics
}

func runCmd() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "run --store DIR | --store postgres://... --state DIR",
		Short: "Consume, verify and store until stopped",
		Long: `Consume the records of all hosts from the stream SALLYPORT, verify each against
the one before it, and store them in DIR/records.db, or in a PostgreSQL database
that several recorders may share. A message is acknowledged after it is on stable
storage; what comes twice is stored once. Gaps, forks,
changed records, a second chain of a host and a host that went silent are alarms:
logged, counted and kept in the store. So is a host's signature that is missing, or
not by its key: with --host-keys one of those that are given; of other hosts, with
--host-ids, the one that the host's SPIFFE ID vouches for; without either the first one
that its chain names. The authorities by whose word a key was taken are kept in
DIR/authorities.pem, for "sallyport verify --bundle".

What is stored goes into a transparency log, DIR/log, within a second: a tile log
whose checkpoints are signed with DIR/log.key and, with --witnesses, by others,
without whom none is published.

Receipts signed with the recorder's key tell the hosts what they may forget.
SIGTERM ends it cleanly; after a kill -9 it goes on where it was.

Exit codes: 0 stopped by a signal, 1 failed, 2 bad usage.`,
		Example: `  # beside a host with the embedded NATS
  sallyport-recorder run --store /var/lib/sallyport-recorder \
      --nats nats://127.0.0.1:4222 --nkey /var/lib/sallyport/nats/keys/recorder.nk

  # for a fleet, on a NATS cluster of your own
  sallyport-recorder run --store /srv/evidence --nats tls://nats.example.org --nkey recorder.creds

  # whose certificates are by an authority of your own, and which asks for them, too
  sallyport-recorder run --store /srv/evidence --nats tls://nats.example.org --nkey recorder.creds \
      --nats-ca nats-ca.pem --nats-cert recorder.pem --nats-key recorder.key.pem

  # hosts whose SPIFFE IDs vouch for their keys
  sallyport-recorder run --store /srv/evidence --nats tls://nats.example.org --nkey recorder.creds \
      --host-ids 'spiffe://example.org/sallyport/host/{host}' --spiffe-agent unix:///run/spire/agent.sock

  # into PostgreSQL; the password is in ~/.pgpass
  sallyport-recorder run --store 'postgres://evidence@db.example.org/evidence?sslmode=verify-full' \
      --state /var/lib/sallyport-recorder --nats tls://nats.example.org --nkey recorder.creds`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.state, err = stateOf(o.store, o.state); err != nil {
				return err
			}
			if o.tls, err = cli.NATS(cmd.Flags(), o.nats); err != nil {
				return usageError{err}
			}
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.store, "store", "", "folder of the store, made where there is none, or URL of a PostgreSQL database (postgres://, without a password)")
	f.StringVar(&o.state, "state", "", "folder of the keys and the transparency log (default the store's)")
	f.StringVar(&o.config, "config", "", "configuration file (YAML): where transcripts are kept, for whom they are encrypted, and for how long")
	f.StringVar(&o.nats, "nats", "nats://127.0.0.1:4222", "address of NATS")
	f.StringVar(&o.nkey, "nkey", "", "nkey seed or .creds file")
	cli.AddNATSFlags(f)
	f.StringVar(&o.key, "key", "", "private key that signs receipts (default DIR/recorder.key, made where there is none)")
	f.StringVar(&o.hostKeys, "host-keys", "", "file with the public keys of all hosts, as sallyport verify --journal prints them (default: the first one that a chain names)")
	o.vouch.flags(cmd)
	f.StringVar(&o.consumer, "consumer", jetstream.RecorderConsumer, "durable consumer; stores that are to hold everything each need their own")
	f.StringVar(&o.metrics, "metrics", "", "loopback ip:port of the Prometheus listener")
	f.StringVar(&o.log.key, "log-key", "", "private key that signs the transparency log (default DIR/log.key, made where there is none)")
	f.StringVar(&o.log.origin, "log-origin", "", "name of the transparency log (default made of its key)")
	f.StringVar(&o.log.witnesses, "witnesses", "", "file with the policy of witnesses, whose quorum must sign each checkpoint")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.DurationVar(&o.grace, "grace", time.Minute, "how long a record may be missing before that is an alarm")
	f.DurationVar(&o.silence, "silence", 5*time.Minute, "nothing from a host for so long is an alarm (0: never); hosts that are idle send a heartbeat each minute")
	f.BoolVar(&o.inClear, "in-clear", false, "keep transcripts unencrypted from now on, although they were encrypted until now")
	cmd.MarkFlagRequired("store")
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname("state")
	cmd.MarkFlagFilename("config", "yaml")
	return cmd
}

func (o *options) run(stop context.Context) error {
	log, err := o.logger()
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	store, err := recorder.Open(o.store)
	if err != nil {
		return err
	}
	defer store.Close()
	if o.hostKeys != "" {
		keys, err := events.ReadHostKeys(o.hostKeys)
		if err != nil {
			return usageError{err}
		}
		store.Trust(keys)
	}
	vouched, err := o.vouch.open(stop, store, o.state)
	if err != nil {
		return err
	}
	defer vouched()
	if o.key == "" {
		o.key = filepath.Join(o.state, "recorder.key")
	}
	key, err := jetstream.ReadPrivateKey(o.key)
	if err != nil {
		return err
	}
	conf, err := keeping.Load(o.config)
	if err != nil {
		return usageError{err}
	}
	done, err := conf.Keep(stop, store, o.state, nil)
	if err != nil {
		return err
	}
	defer done()
	if !o.inClear {
		if err := store.CheckSealed(stop); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(stop)
	defer cancel(nil)
	nc, err := jetstream.Connect(o.nats, o.nkey, o.tls.Option(), nats.RetryOnFailedConnect(true), nats.ClosedHandler(func(nc *nats.Conn) {
		if err := nc.LastError(); err != nil {
			cancel(fmt.Errorf("NATS closed the connection: %w", err))
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	r := &recorder.Recorder{Conn: nc, Store: store, Key: key, Consumer: o.consumer, Grace: o.grace, Silence: o.silence, Log: log}
	if err := o.serveMetrics(ctx, r, log); err != nil {
		return err
	}
	logged, err := o.log.follow(ctx, o.state, store, log)
	if err != nil {
		return err
	}
	defer func() { cancel(nil); logged() }()
	pruned := o.prune(ctx, store, conf.Retention, log)
	defer func() { cancel(nil); pruned() }()
	log.Info("recording", "store", o.store, "nats", nc.ConnectedUrlRedacted())
	if err := r.Run(ctx); err != nil {
		return err
	}
	if stop.Err() == nil {
		return context.Cause(ctx)
	}
	log.Info("stopped")
	return nil
}

// stateOf is the folder of what goes with a store: its keys and its log.
func stateOf(store, state string) (string, error) {
	switch {
	case state != "":
		return state, nil
	case recorder.IsURL(store):
		return "", usageError{errors.New("a store in PostgreSQL needs --state, the folder of the keys and the transparency log")}
	}
	return store, nil
}

func (o *options) logger() (*slog.Logger, error) {
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, nil)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q: must be text or json", o.logFormat)}
}

// serveMetrics hangs counters on r, and serves them where asked to.
func (o *options) serveMetrics(ctx context.Context, r *recorder.Recorder, log *slog.Logger) error {
	if o.metrics == "" {
		return nil
	}
	h, _, err := net.SplitHostPort(o.metrics)
	if ip := net.ParseIP(h); err != nil || ip == nil || !ip.IsLoopback() {
		return usageError{fmt.Errorf("--metrics %q: must be a loopback ip:port", o.metrics)}
	}
	reg := prometheus.NewRegistry()
	records := prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_recorder_records_total", Help: "Records received and on stable storage, duplicates included."})
	alarms := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_recorder_alarms_total", Help: "Alarms by kind."}, []string{"what"})
	heard := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sallyport_recorder_heard_seconds", Help: "When something new last came from a host, in seconds since 1970."}, []string{"host"})
	r.Heard = func(host string, at time.Time) { heard.WithLabelValues(host).Set(float64(at.UnixMilli()) / 1000) }
	entries := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sallyport_recorder_log_entries", Help: "Entries of the transparency log."})
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_recorder_log_failures_total", Help: "Times that the transparency log could not go on."})
	o.log.logged, o.log.failed = func(n uint64) { entries.Set(float64(n)) }, failures.Inc
	unstored := prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_recorder_unstored_total", Help: "Times that records could not be stored; they are tried again."})
	r.Unstored = func(error) { unstored.Inc() }
	unpruned := prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_recorder_prune_failures_total", Help: "Times that transcripts could not be deleted as rules say."})
	o.pruneFailed = unpruned.Inc
	reg.MustRegister(unpruned, unstored, records, alarms, heard, entries, failures, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.Stored = func(n int) { records.Add(float64(n)) }
	r.Alarm = func(a recorder.Alarm) { alarms.WithLabelValues(a.What).Inc() }
	return serve(ctx, o.metrics, reg, log)
}

// serve answers on a loopback address until ctx ends; "" for none.
func serve(ctx context.Context, addr string, reg *prometheus.Registry, log *slog.Logger) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served", "error", err)
		}
	}()
	return nil
}
