package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

func init() { commands = append(commands, eventsCmd) }

func eventsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "Read the audit stream",
		Example: `  sallyport events tail`,
	}
	cmd.AddCommand(eventsTail())
	return cmd
}

func eventsTail() *cobra.Command {
	var url, nkey string
	var o jetstream.TailOptions
	var asJSON bool
	var count int
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow events as a SIEM subscriber sees them",
		Long: `Follow the audit events of all hosts as a subscriber with read access sees
them: one line each, or the published OCSF JSON. Transcripts are not among them.

Subjects are sallyport.audit.<host>.<protocol>.<kind>, with NATS's wildcards.
With --from-start the shared consumer "siem" is rewound; only one reader at a
time can do that.`,
		Example: `  sallyport events tail --nkey /var/lib/sallyport/nats/keys/siem.nk
  sallyport events tail --subject 'sallyport.audit.*.postgres.block' --json
  sallyport events tail --from-start --count 10
  sallyport events tail --nats tls://nats.example.com --nkey siem.creds --nats-ca nats-ca.pem \
      --nats-cert siem.pem --nats-key siem.key.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			tls, err := cli.NATS(cmd.Flags(), url)
			if err != nil {
				return configError(err)
			}
			nc, err := jetstream.Connect(url, nkey, tls.Option())
			if err != nil {
				return &exitError{code: 1, hint: "the daemon makes this host's keys at its first start; --nats and --nkey name others", err: err}
			}
			defer nc.Close()
			n := 0
			enough := errors.New("enough")
			err = jetstream.Tail(ctx, nc, o, nil, func(m *nats.Msg) error {
				for line := range eventLines(m, asJSON) {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
						return err
					}
					if n++; n == count {
						return enough
					}
				}
				return nil
			})
			if errors.Is(err, enough) {
				return nil
			}
			if err == nil && count > 0 && ctx.Err() != nil {
				return fmt.Errorf("stopped after %d of %d events", n, count)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "nats", "nats://127.0.0.1:4222", "address of NATS")
	f.StringVar(&nkey, "nkey", "/var/lib/sallyport/nats/keys/siem.nk", "nkey seed or .creds file")
	cli.AddNATSFlags(f)
	f.StringVar(&o.Subject, "subject", "", "only these (default sallyport.audit.>)")
	f.BoolVar(&o.FromStart, "from-start", false, "begin with the oldest event")
	f.BoolVar(&asJSON, "json", false, "print the published OCSF JSON, one event per line")
	f.IntVar(&count, "count", 0, "stop after so many (0: never)")
	f.DurationVar(&timeout, "timeout", 0, "stop after so long; an error if --count was not reached (0: never)")
	cmd.MarkFlagFilename("nkey", "nk", "creds")
	return cmd
}

// eventLines gives the events of a message, one line each.
func eventLines(m *nats.Msg, asJSON bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		host, rs, err := jetstream.Parse(m.Subject, m.Header, m.Data)
		if err != nil {
			yield("? " + render.Line(m.Subject) + ": " + render.Line(err.Error()))
			return
		}
		for i := range rs {
			line := render.Line(string(rs[i].Payload))
			if !asJSON {
				line = eventLine(m.Subject, host, &rs[i])
			}
			if !yield(line) {
				return
			}
		}
	}
}

// eventLine is an event on one line: time, host, kind, verdict, who, what.
func eventLine(subject, host string, r *events.Record) string {
	f, err := recorder.Decode(r.Kind, r.Payload)
	if err != nil {
		return "? " + render.Line(subject) + ": " + render.Line(err.Error())
	}
	parts := []string{f.Time.Local().Format("15:04:05.000"), host, fmt.Sprintf("%-13s", r.Kind)}
	if f.Verdict != "" {
		parts = append(parts, f.Verdict)
	}
	if w := f.Who.Workload; w != "" {
		parts = append(parts, w+"@"+f.Who.Resource)
	}
	parts = append(parts, nonEmpty(strings.Join(strings.Fields(f.Text), " "), f.Message)...)
	for _, kv := range [][2]string{{"rules", strings.Join(f.Rules, ",")}, {"masked", strings.Join(f.Masked, ",")}, {"would", wouldBe(&f)}, {"status", f.Status}, {"reason", f.Reason}} {
		if kv[1] != "" {
			parts = append(parts, kv[0]+"="+kv[1])
		}
	}
	if f.Status != "" {
		parts = append(parts, fmt.Sprintf("rows=%d", f.Rows))
	}
	return render.Line(strings.Join(parts, "  "))
}
