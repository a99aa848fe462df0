package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/sink"
)

func sinkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sink",
		Short:   "Hand audit events on to a SIEM",
		Example: `  sallyport-recorder sink run --config /etc/sallyport/sinks.yaml`,
	}
	cmd.AddCommand(sinkRun(), sinkCheck(), sinkBackfill(), sinkResend())
	return cmd
}

type sinkOptions struct{ fileOptions }

func (o *sinkOptions) flags(cmd *cobra.Command) { o.fileOptions.flags(cmd, "file of the sinks (YAML)") }

func (o *sinkOptions) load() (*sink.Settings, *slog.Logger, error) {
	return loadFile(&o.fileOptions, sink.Load)
}

func sinkRun() *cobra.Command {
	var o sinkOptions
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Hand events on until stopped",
		Long: `Read the audit events of all hosts from the stream SALLYPORT, each sink through
a durable consumer of its own, and hand them on: to a file of JSON lines, syslog,
a webhook, Splunk, or Elasticsearch. An event is acknowledged when its target has
said that it has it; it may come twice, with the same id. A target that is away is
tried for as long as it takes, and holds up nobody else.

SIGTERM ends it; the next run goes on where this one was.

Exit codes: 0 stopped by a signal, 1 failed, 2 bad usage or configuration.`,
		Example: `  sallyport-recorder sink run --config /etc/sallyport/sinks.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			return runSinks(cmd.Context(), s, log)
		},
	}
	o.flags(cmd)
	return cmd
}

func sinkCheck() *cobra.Command {
	var o sinkOptions
	cmd := &cobra.Command{
		Use:     "check --config FILE",
		Short:   "Check a file of sinks, without sending anything",
		Example: `  sallyport-recorder sink check --config /etc/sallyport/sinks.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := o.load()
			if err != nil {
				return err
			}
			for i := range s.Sinks {
				if s.Sinks[i].File != nil {
					continue // opening it makes it
				}
				t, err := sink.Open(&s.Sinks[i])
				if err != nil {
					return usageError{err}
				}
				t.Close()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d sinks, nothing wrong\n", len(s.Sinks))
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

// runSinks runs each sink until stop ends; one that fails ends all.
func runSinks(stop context.Context, s *sink.Settings, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(stop)
	defer cancel(nil)
	nc, err := jetstream.Connect(s.NATS, s.NKey, s.NATSTLS.Option(), nats.RetryOnFailedConnect(true), nats.ClosedHandler(func(nc *nats.Conn) {
		if err := nc.LastError(); err != nil {
			cancel(fmt.Errorf("NATS closed the connection: %w", err))
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	reg := prometheus.NewRegistry()
	m := newSinkMetrics(reg)
	if err := serve(ctx, s.Metrics, reg, log); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range s.Sinks {
		k := &s.Sinks[i]
		t, err := sink.Open(k)
		if err != nil {
			cancel(err)
			break
		}
		run := &sink.Sink{Config: *k, Target: t, Conn: nc, State: s.State, Log: log, Hooks: m.hooks(k.Name)}
		wg.Go(func() {
			err := run.Run(ctx)
			cancel(errors.Join(err, t.Close()))
		})
		log.Info("handing events on", "sink", k.Name)
	}
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); stop.Err() == nil {
		return err
	}
	log.Info("stopped")
	return nil
}

type sinkMetrics struct {
	events, refused, retries *prometheus.CounterVec
	lag, last                *prometheus.GaugeVec
}

func newSinkMetrics(reg *prometheus.Registry) *sinkMetrics {
	of := []string{"sink"}
	m := &sinkMetrics{
		events:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_sink_events_total", Help: "Events that their target has taken."}, of),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_sink_refused_total", Help: "Events that their target will not take, or that are not what their host may publish, and that were written down."}, of),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sallyport_sink_retries_total", Help: "Batches that were not taken as a whole, and are sent again."}, of),
		lag:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sallyport_sink_lag_messages", Help: "Messages of the stream that are not delivered yet."}, of),
		last:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sallyport_sink_last_delivery_seconds", Help: "When a target last took something, in seconds since 1970."}, of),
	}
	reg.MustRegister(m.events, m.refused, m.retries, m.lag, m.last, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *sinkMetrics) hooks(name string) sink.Hooks {
	events, refused, retries := m.events.WithLabelValues(name), m.refused.WithLabelValues(name), m.retries.WithLabelValues(name)
	lag, last := m.lag.WithLabelValues(name), m.last.WithLabelValues(name)
	return sink.Hooks{
		Sent:    func(n int) { events.Add(float64(n)); last.SetToCurrentTime() },
		Refused: func(n int) { refused.Add(float64(n)) },
		Retry:   func(error) { retries.Inc() },
		Lag:     func(n uint64) { lag.Set(float64(n)) },
	}
}

func sinkBackfill() *cobra.Command {
	var o sinkOptions
	var store, name, from, to, folder string
	cmd := &cobra.Command{
		Use:   "backfill --config FILE --sink NAME --store DIR --from TIME [--to TIME]",
		Short: "Hand on the events of a time from the recorder's store",
		Long: `Send one sink the audit events that the recorder's store holds of a time, also
those that the stream has no more. They have the ids with which they came from
the stream, so that what the target has already can be told.`,
		Example: `  sallyport-recorder sink backfill --config /etc/sallyport/sinks.yaml --sink splunk \
      --store /var/lib/sallyport-recorder --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			since, until := time.Time{}, time.Now()
			if since, err = time.Parse(time.RFC3339, from); err == nil && to != "" {
				until, err = time.Parse(time.RFC3339, to)
			}
			if err != nil || !since.Before(until) {
				return usageError{fmt.Errorf("--from %q, --to %q: give times like 2026-11-01T00:00:00Z, the earlier one first", from, to)}
			}
			for i := range s.Sinks {
				if s.Sinks[i].Name == name {
					what := fmt.Sprintf("%s: events from %s to %s for the sink %s", cmd.CommandPath(), since.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339), name)
					if err := reads.Note(cmd.Context(), store, folder, what); err != nil {
						return err
					}
					n, err := backfill(cmd.Context(), s, &s.Sinks[i], store, since, until, log)
					fmt.Fprintf(cmd.OutOrStdout(), "%d events\n", n)
					return err
				}
			}
			return usageError{fmt.Errorf("--sink %q: %s has none of that name", name, o.config)}
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&store, "store", "", "folder of the recorder's store, or its postgres:// URL")
	f.StringVar(&folder, reads.Flag, "", reads.Usage)
	f.StringVar(&name, "sink", "", "which sink")
	f.StringVar(&from, "from", "", "the first time (RFC 3339)")
	f.StringVar(&to, "to", "", "the time before which events must be (default: now)")
	for _, n := range []string{"store", "sink", "from"} {
		cmd.MarkFlagRequired(n)
	}
	cmd.MarkFlagDirname("store")
	return cmd
}

func backfill(ctx context.Context, s *sink.Settings, k *sink.Config, dir string, from, to time.Time, log *slog.Logger) (n int, err error) {
	store, err := recorder.OpenReader(dir)
	if err != nil {
		return 0, usageError{err}
	}
	defer store.Close()
	t, err := sink.Open(k)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	var records iter.Seq2[sink.Stored, error] = func(yield func(sink.Stored, error) bool) {
		for r, err := range store.Records(ctx) {
			if !yield(sink.Stored{Host: r.Host, Record: r.Record}, err) {
				return
			}
		}
	}
	return sink.Backfill(ctx, k, t, s.State, records, from, to, log)
}
