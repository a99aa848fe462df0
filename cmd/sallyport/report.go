package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/cmd/internal/report"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

func init() { commands = append(commands, reportCmd) }

func reportCmd() *cobra.Command {
	var f report.Filter
	var store, from, to, out string
	cmd := &cobra.Command{
		Use:   "report --from TIME --to TIME -o FILE",
		Short: "Make an auditor's bundle of the evidence",
		Long: `Make one archive of what the recorder's store holds of a time: accesses by
identity and principal, fields that were masked or shown in clear, rows that went
out, what was refused and approved, the policies in force, and the chains that
prove it; for people as HTML and PDF, for machines as JSON, mapped to 45 CFR 164
and NIST SP 800-53, with instructions to verify it offline.

That the evidence is read goes on a record of its own first, in the folder reads
of the store; where that fails there is no report.

Exit codes: 0 made, 1 failed, or made of evidence that is not sound, 2 bad usage.`,
		Example: `  sallyport report --from 2026-11-01 --to 2026-12-01 -o november.zip
  sallyport report --from 2026-11-01 --to 2026-12-01 --identity billing-agent --relation public.patients -o patients.zip
  sallyport report verify november.zip`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.From, err = reportTime("--from", from); err != nil {
				return configError(err)
			}
			if f.To, err = reportTime("--to", to); err != nil {
				return configError(err)
			}
			if !f.From.Before(f.To) {
				return configError(fmt.Errorf("--from %s is not before --to %s", from, to))
			}
			if _, err := os.Lstat(out); err == nil {
				return configError(fmt.Errorf("%s is there already: name another file", out))
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				return makeReport(ctx, cmd, s, store, f, out)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&store, "store", defaultStore, "folder of the recorder's store")
	fl.StringVar(&from, "from", "", "the first time: a day in UTC (2026-11-01), or RFC 3339")
	fl.StringVar(&to, "to", "", "the time before which accesses must be, as --from")
	fl.StringVar(&f.Identity, "identity", "", "only of this workload or agent")
	fl.StringVar(&f.Principal, "principal", "", "only on behalf of this principal")
	fl.StringVar(&f.Relation, "relation", "", "only of this relation: schema.name, or name in any schema; and what could not be told apart")
	fl.StringVar(&f.Resource, "resource", "", "only of this resource")
	fl.StringVarP(&out, "output", "o", "", "file of the bundle (zip)")
	for _, n := range []string{"from", "to", "output"} {
		cmd.MarkFlagRequired(n)
	}
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagFilename("output", "zip")
	cmd.AddCommand(reportVerify())
	return cmd
}

func reportVerify() *cobra.Command {
	var sum string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a bundle offline",
		Long: `Hold the files of a bundle against its manifest, follow each chain from record to
record, recompute the hash of every record whose content is there, and make the
report again of them: report.json, report.html, report.pdf and README.txt must be
the same, byte by byte. It takes the version that made the bundle.

The chains do not prove when and by what the bundle was made, what it was asked
for, alarms, faults and reads of the store, and that nothing was left out together
with its content: only the archive's SHA-256 covers that. It is printed; --sha256
requires it.

Exit codes: 0 sound, 1 not sound, 2 bad usage.`,
		Example: `  sallyport report verify november.zip`,
		Args:    exactlyOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b, err := hex.DecodeString(sum); cmd.Flags().Changed("sha256") && (err != nil || len(b) != sha256.Size) {
				return configError(fmt.Errorf("--sha256 %q: give 64 hexadecimal digits", sum))
			}
			c, err := report.Check(args[0], sum)
			if err != nil {
				return err
			}
			end := "is the one that was asked for"
			if sum == "" {
				end = "must be the one that is on the record of the store (--sha256 requires it)"
			}
			if _, err = fmt.Fprintf(cmd.OutOrStdout(), `%d records follow each other, %d of them were recomputed, and all %d things that the report says were made again of them
SHA-256 %s
not proved by the chains: when and by what it was made, what it was asked for, alarms, faults and reads, and that nothing was left out together with its content. For that the SHA-256 %s
`, c.Records, c.Proved, c.Claims, c.SHA256, end); err != nil {
				return err
			}
			if c.Faults > 0 {
				return fmt.Errorf("the evidence was not sound when the bundle was made: report.json names %d faults", c.Faults)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "sound")
			return err
		},
	}
	cmd.Flags().StringVar(&sum, "sha256", "", "the archive's SHA-256, as it was printed when it was made")
	return cmd
}

func reportTime(flag, s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: give a day like 2026-11-01, or a time like 2026-11-01T08:00:00Z", flag, s)
}

func makeReport(ctx context.Context, cmd *cobra.Command, s *recorder.DB, store string, f report.Filter, out string) error {
	reads, err := openReads(ctx, filepath.Join(store, "reads"))
	if err != nil {
		return &exitError{code: 1, hint: "a report is made by an account that may write the folder reads of the store", err: err}
	}
	defer reads.close()
	before, err := reads.between(ctx, f.From, f.To)
	if err != nil {
		return err
	}
	who := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username + " (" + who + ")"
	}
	what := fmt.Sprintf("%s: report from %s to %s, identity %q, principal %q, relation %q, resource %q", who,
		f.From.Format(time.RFC3339), f.To.Format(time.RFC3339), f.Identity, f.Principal, f.Relation, f.Resource)
	if err := reads.note(ctx, "read", what); err != nil {
		return err
	}
	r, sum, err := report.Write(ctx, &reportStore{s}, report.Given{Made: time.Now(), Program: "sallyport " + cmd.Root().Version, Filter: f, Reads: before}, out)
	if err != nil {
		return err
	}
	if err := reads.note(ctx, "reported", who+": SHA-256 of the bundle "+sum); err != nil {
		return errors.Join(err, os.Remove(out))
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d accesses, %d refused, %d chains\nSHA-256 %s\n", render.Line(out), len(r.Accesses), len(r.Refused), len(r.Chains), sum); err != nil {
		return err
	}
	if !r.Sound {
		return errors.New("the evidence is not sound: the report says where (sallyport verify says more)")
	}
	return nil
}

// reportStore is the recorder's store, as a report reads it.
type reportStore struct{ s *recorder.DB }

func (r *reportStore) Verify(ctx context.Context) (recorder.Report, error) {
	return recorder.Verify(ctx, r.s, recorder.Noted{})
}

func (r *reportStore) Records(ctx context.Context, f func(string, *events.Record) error) error {
	for h, err := range r.s.Records(ctx) {
		if err == nil {
			err = f(h.Host, &h.Record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
