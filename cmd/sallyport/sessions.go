package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

func init() { commands = append(commands, sessionsCmd) }

const defaultStore = "/var/lib/sallyport-recorder"

func sessionsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List, show, replay and export recorded sessions",
		Long: `List, show, replay and export sessions from the recorder's store: who was
connected to what, each exact statement, what was decided and why, what was
masked, and each row as the agent saw it. That show, replay, export, and ls with
--subject read it goes on a record first, in the folder reads of the store.`,
		Example: `  sallyport sessions ls --since 1h
  sallyport sessions show 0198c2
  sallyport sessions replay 0198c2 --speed 4
  sallyport sessions export 0198c2 --format pcapng -o session.pcapng`,
	}
	cmd.PersistentFlags().String("store", defaultStore, "folder of the recorder's store, or its postgres:// URL")
	cmd.MarkPersistentFlagDirname("store")
	keeping.AddFlags(cmd)
	cmd.PersistentFlags().String(reads.Flag, "", reads.Usage)
	cmd.MarkPersistentFlagDirname(reads.Flag)
	cmd.AddCommand(sessionsLs(), sessionsShow(), sessionsReplay(), sessionsExport(), sessionsAlarms())
	return cmd
}

// withStore opens the store for a command that reads it.
func withStore(cmd *cobra.Command, f func(context.Context, *recorder.DB) error) error {
	dir, err := cmd.Flags().GetString("store")
	if err != nil {
		return err
	}
	s, err := recorder.OpenReader(dir)
	if err != nil {
		return configError(err)
	}
	defer s.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	done, err := keeping.Find(ctx, cmd, s, dir)
	if err != nil {
		return configError(err)
	}
	defer done()
	return f(ctx, s)
}

func parseSince(s string, now time.Time) (time.Time, error) { return parseTime("--since", s, now) }

func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, fmt.Errorf("%s %q: give a duration like 90m, or a time like 2026-01-31T08:00:00Z", flag, s)
	}
	return at, nil
}

func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	if err == nil {
		_, err = w.Write(render.JSON(b.Bytes()))
	}
	return err
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return render.Line(s)
}

func completeSession(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if len(args) == 0 {
		withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
			list, err := s.Sessions(ctx, recorder.Filter{Limit: 200})
			for _, x := range list {
				if strings.HasPrefix(x.ID, prefix) {
					ids = append(ids, render.Line(x.ID))
				}
			}
			return err
		})
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func sessionsShow() *cobra.Command {
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use:   "show SESSION",
		Short: "Show who was connected and what each statement did",
		Long: `Show a session: identity and how it was proved, destination, and each statement
as it was sent, with the rule that decided, the verdict, what was masked, the
rows that went out and how long it took. SESSION is an id or the beginning of one, or
HOST/ID where hosts have the same.
With --follow each statement comes once its outcome is recorded, until the session
is closed; with --json that is an object on a line.`,
		Example:           `  sallyport sessions show 0198c2 --json | jq '.requests[] | select(.verdict == "block")'`,
		Args:              exactlyOne("SESSION"),
		ValidArgsFunction: completeSession,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				x, err := s.Find(ctx, args[0])
				if err != nil {
					return err
				}
				if err := reading(ctx, cmd, "session "+x.ID); err != nil {
					return err
				}
				d, err := s.Show(ctx, x)
				if err != nil {
					return err
				}
				if follow {
					d.Requests = nil // they come
					return followSession(ctx, cmd.OutOrStdout(), s, &d, asJSON)
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), d)
				}
				return showSession(cmd.OutOrStdout(), &d)
			})
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is said, until the session is closed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return configError(fmt.Errorf("give exactly one %s", what))
		}
		return nil
	}
}

func showSession(w io.Writer, d *recorder.Detail) error {
	var b strings.Builder
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(&b, "%-12s %s\n", k, render.Line(v))
		}
	}
	line("session", d.ID)
	line("host", d.Host)
	line("workload", d.Workload)
	line("spiffe", d.SPIFFE)
	line("actor", d.Actor)
	line("for", d.Principal)
	line("chain", strings.Join(d.Actors, " <- "))
	line("issuer", d.Issuer)
	line("proof", d.Proof)
	for _, x := range []struct {
		who string
		is  events.Proved
	}{{"  workload", d.WorkloadProof}, {"  actor", d.ActorProof}, {"  for", d.PrincipalProof}} {
		if x.is.By != "" {
			line(x.who, fmt.Sprintf("%s (%s)", x.is.By, strings.Join(x.is.Bound, ", ")))
		}
	}
	if d.PID != 0 {
		line("process", fmt.Sprintf("%s (pid %d)", d.Process, d.PID))
	}
	line("resource", strings.TrimSpace(d.Resource+" "+d.Destination))
	line("protocol", d.Protocol)
	if d.Account != "" {
		line("account", strings.TrimSpace(d.Account+" "+d.Role))
	}
	line("claims", strings.TrimSpace(d.User+" "+d.Database+" "+d.Application))
	line("agent's door", doorTLS(&d.ClientTLS, d.ClientClear, ""))
	if d.Undecoded {
		line("undecoded", "its TLS is with the server itself: what was said is not known")
	}
	if c := &d.ClientCertificate; c.SHA256 != "" {
		line("certificate", fmt.Sprintf("%s, of %s, SHA-256 %s (proves nothing)", c.Subject, c.Issuer, c.SHA256))
	}
	line("server's", doorTLS(&d.ServerTLS, false, "not verified"))
	line("opened", d.Opened.Local().Format(time.RFC3339Nano))
	if d.Closed != nil {
		line("closed", fmt.Sprintf("%s (%s) %s", d.Closed.Local().Format(time.RFC3339Nano), d.Closed.Sub(d.Opened).Round(time.Microsecond), d.Status))
	}
	for _, e := range d.Events {
		if s := strings.Join(nonEmpty(e.Verdict, strings.Join(e.Rules, ","), e.Reason, wouldBe(&e), e.Message, e.Code), " "); s != "" {
			line("  "+e.Kind, s)
		}
	}
	for _, why := range d.Withheld {
		line("withheld", why)
	}
	for i := range d.Requests {
		showStatement(&b, &d.Requests[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// doorTLS tells what a door was secured with, "" for one in clear that was offered
// nothing else. not is what is said of another side that has proved nothing.
func doorTLS(t *events.TLS, clear bool, not string) string {
	switch {
	case clear:
		return "in clear, though TLS was offered"
	case t.Version == "" && t.Name == "":
		return ""
	case t.Verified:
		not = "verified"
	}
	return strings.Join(nonEmpty("TLS", t.Version, t.Cipher, t.Name, not), " ")
}

func nonEmpty(ss ...string) (out []string) {
	for _, s := range ss {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func showStatement(b *strings.Builder, q *recorder.Statement) {
	text := q.Exact
	if text == "" {
		text = q.Text
	}
	fmt.Fprintf(b, "\n[%d] %s  %s\n", q.Number, q.Time.Local().Format("15:04:05.000000"), strings.ReplaceAll(render.Text(text), "\n", "\n    "))
	verdict := q.Verdict
	if len(q.Rules) > 0 {
		verdict += " by " + strings.Join(q.Rules, ", ")
	}
	put := func(k, v string) {
		if v != "" {
			fmt.Fprintf(b, "    %-8s %s\n", k, render.Line(v))
		}
	}
	put("verdict", verdict)
	put("reason", q.Reason)
	put("remedy", q.Remedy)
	put("masked", strings.Join(maskedBy(q), ", "))
	put("revealed", strings.Join(q.Revealed, ", "))
	put("because", q.Why)
	put("would", wouldBe(&q.Facts))
	put("subjects", subjectsOf(q))
	put("not told", q.Untold)
	put("detected", strings.Join(q.Detected, ", "))
	put("code", q.Code)
	switch {
	case q.RecordedOnly:
		put("outcome", fmt.Sprintf("%s: %d rows, %d bytes are recorded, and whether more was shown is not known", q.Status, q.Rows, q.Bytes))
	case q.Status != "":
		put("outcome", fmt.Sprintf("%s, %d rows, %d bytes, %s", q.Status, q.Rows, q.Bytes, q.Duration.Round(time.Microsecond)))
	}
}

// wouldBe says what rules that only observe would have done, "" for nothing.
func wouldBe(f *recorder.Facts) string {
	if f.Would == "" {
		return ""
	}
	what := strings.Join(slices.Concat(f.WouldMasked, f.WouldFiltered, nonEmpty(f.WouldReason)), ", ")
	return fmt.Sprintf("%s by %s: %s", f.Would, strings.Join(f.WouldRules, ", "), what)
}

// maskedBy lists the masked fields of a statement, each with its mask.
func maskedBy(q *recorder.Statement) []string {
	out := slices.Clone(q.Masked)
	for i, m := range q.Masks[:min(len(q.Masks), len(out))] {
		out[i] += " (" + m + ")"
	}
	return out
}
