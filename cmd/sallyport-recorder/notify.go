package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/notify"
)

func notifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "notify",
		Short:   "Tell approvers that requests for approval wait",
		Example: `  sallyport-recorder notify run --config /etc/sallyport/notify.yaml`,
	}
	cmd.AddCommand(notifyRun(), notifyCheck(), notifyTest())
	return cmd
}

type notifyOptions struct{ fileOptions }

func (o *notifyOptions) flags(cmd *cobra.Command) {
	o.fileOptions.flags(cmd, "file of the channels and routes (YAML)")
}

func (o *notifyOptions) load() (*notify.Settings, *slog.Logger, error) {
	return loadFile(&o.fileOptions, notify.Load)
}

func notifyRun() *cobra.Command {
	var o notifyOptions
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Tell approvers until stopped",
		Long: `Read the steps of requests for approval from the stream SALLYPORT, and tell those
whom the routes name: by signed webhooks, Slack and Microsoft Teams, at once and then
one list after the other while nobody decides. Messages hold no statement, and decide
nothing: they lead to the page where an approver logs in.

What was told is evidence, in STATE/record ("sallyport verify --journal" verifies it).
SIGTERM ends it; the next run goes on where this one was.

Exit codes: 0 stopped by a signal, 1 failed, 2 bad usage or configuration.`,
		Example: `  sallyport-recorder notify run --config /etc/sallyport/notify.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			return runNotify(cmd.Context(), s, log)
		},
	}
	o.flags(cmd)
	return cmd
}

func notifyCheck() *cobra.Command {
	var o notifyOptions
	cmd := &cobra.Command{
		Use:     "check --config FILE",
		Short:   "Check a file of channels and routes, without sending anything",
		Example: `  sallyport-recorder notify check --config /etc/sallyport/notify.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := o.load()
			if err != nil {
				return err
			}
			all, err := openChannels(s)
			if err != nil {
				return usageError{err}
			}
			closeChannels(all)
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d channels, %d routes, nothing wrong\n", len(s.Channels), len(s.Routes))
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

func notifyTest() *cobra.Command {
	var o notifyOptions
	var name string
	cmd := &cobra.Command{
		Use:   "test --config FILE --channel NAME",
		Short: "Send a channel a message that says that it works",
		Long: `Send one message that is about no request, once, and say what came of it.

Exit codes: 0 the channel has taken it, 1 it has not, 2 bad usage or configuration.`,
		Example: `  sallyport-recorder notify test --config /etc/sallyport/notify.yaml --channel leads`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := o.load()
			if err != nil {
				return err
			}
			for i := range s.Channels {
				if s.Channels[i].Name != name {
					continue
				}
				c, err := notify.Open(&s.Channels[i])
				if err != nil {
					return usageError{err}
				}
				defer c.Close()
				ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
				defer cancel()
				now := time.Now()
				if _, err := c.Send(ctx, &notify.Notice{ID: fmt.Sprintf("msg_test_%d", now.UnixNano()), What: notify.Test, Time: now, URL: s.Page}); err != nil {
					return fmt.Errorf("channel %s: %w", name, err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "channel %s has taken a message\n", name)
				return err
			}
			return usageError{fmt.Errorf("--channel %q: %s has none of that name", name, o.config)}
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&name, "channel", "", "which channel")
	cmd.MarkFlagRequired("channel")
	return cmd
}

func openChannels(s *notify.Settings) (map[string]notify.Channel, error) {
	all := map[string]notify.Channel{}
	for i := range s.Channels {
		c, err := notify.Open(&s.Channels[i])
		if err != nil {
			closeChannels(all)
			return nil, err
		}
		all[s.Channels[i].Name] = c
	}
	return all, nil
}

func closeChannels(all map[string]notify.Channel) {
	for _, c := range all {
		c.Close()
	}
}

func runNotify(stop context.Context, s *notify.Settings, log *slog.Logger) (err error) {
	ctx, cancel := context.WithCancelCause(stop)
	defer cancel(nil)
	all, err := openChannels(s)
	if err != nil {
		return usageError{err}
	}
	defer closeChannels(all)
	record, err := openTold(s.State, maxTold, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	nc, err := jetstream.Connect(s.NATS, s.NKey, s.NATSTLS.Option(), nats.IgnoreDiscoveredServers(), nats.RetryOnFailedConnect(true), nats.ClosedHandler(func(nc *nats.Conn) {
		if err := nc.LastError(); err != nil {
			cancel(fmt.Errorf("NATS closed the connection: %w", err))
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	reg := prometheus.NewRegistry()
	hooks := notifyMetrics(reg)
	if err := serve(ctx, s.Metrics, reg, log); err != nil {
		return err
	}
	log.Info("telling approvers", "channels", len(all), "nats", nc.ConnectedUrlRedacted())
	n := &notify.Notifier{Settings: s, Channels: all, Conn: nc, Log: log, Hooks: hooks, Record: func(e *events.Event) error {
		return record.write(context.WithoutCancel(ctx), e)
	}}
	if err := n.Run(ctx); err != nil {
		return err
	}
	if stop.Err() == nil {
		return context.Cause(ctx)
	}
	log.Info("stopped")
	return nil
}

func notifyMetrics(reg *prometheus.Registry) notify.Hooks {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	told := vec("sallyport_notify_told_total", "Messages that a channel has taken.", "channel", "what")
	retries := vec("sallyport_notify_retries_total", "Messages that a channel did not take, and that are sent again.", "channel")
	dropped := vec("sallyport_notify_dropped_total", "Messages whose request was over before the channel took them.", "channel")
	unrouted := vec("sallyport_notify_unrouted_total", "Requests that no route is for: nobody was told.")
	refused := vec("sallyport_notify_refused_total", "Events that are not understood, or are not what their host may publish.")
	callbacks := vec("sallyport_notify_callbacks_total", "Callbacks of channels, by what came of them: answered, unknown, refused.", "channel", "outcome")
	waiting := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sallyport_notify_waiting_requests", Help: "Requests for approval that wait, as last counted."})
	reg.MustRegister(waiting, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return notify.Hooks{
		Told:     func(channel string, what notify.What) { told.WithLabelValues(channel, what.String()).Inc() },
		Retry:    func(channel string) { retries.WithLabelValues(channel).Inc() },
		Dropped:  func(channel string) { dropped.WithLabelValues(channel).Inc() },
		Unrouted: func() { unrouted.WithLabelValues().Inc() },
		Refused:  func() { refused.WithLabelValues().Inc() },
		Callback: func(channel, outcome string) { callbacks.WithLabelValues(channel, outcome).Inc() },
		Waiting:  func(n int) { waiting.Set(float64(n)) },
	}
}
