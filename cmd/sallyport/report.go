package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/cmd/internal/report"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

func init() { commands = append(commands, reportCmd) }

func reportCmd() *cobra.Command {
	var f report.Filter
	var store, state, from, to, out, patient string
	var hosts hostFlags
	var who subjectFlags
	var noLog bool
	cmd := &cobra.Command{
		Use:   "report --from TIME --to TIME -o FILE",
		Short: "Make an auditor's bundle of the evidence",
		Long: `Make one archive of what the recorder's store holds of a time: accesses by
identity and principal, fields that were masked or shown in clear, rows that went
out, what was refused and approved, the policies in force, and the chains that
prove it; for people as HTML and PDF, for machines as JSON, mapped to 45 CFR 164
and NIST SP 800-53, with instructions to verify it offline.

With --patient ID, or --subject NAME=VALUE, it is of the statements that were shown
rows of somebody, and of those that could not tell whose rows they were shown; the
bundle has keyed hashes only (--subject-key).

Each record in it is proved to be in the recorder's transparency log, which must have
all that is stored; --no-log leaves that out. With --host-keys the evidence is sound
only where the hosts signed it; with --host-ids and --bundle, where they signed it with
keys that their identities vouched for.

That the evidence is read goes on a record of its own first, in the folder reads
of the store; where that fails there is no report.

Exit codes: 0 made, 1 failed, or made of evidence that is not sound, 2 bad usage.`,
		Example: `  sallyport report --from 2026-11-01 --to 2026-12-01 -o november.zip
  sallyport report --from 2026-11-01 --to 2026-12-01 --identity billing-agent --relation public.patients -o patients.zip
  sallyport report --from 2020-01-01 --to 2026-12-01 --patient 123 --subject-key subjects.key -o accounting.zip
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
			if patient != "" {
				who.who = append(who.who, "patient="+patient)
			}
			subjects, err := who.subjects()
			if err != nil {
				return configError(err)
			}
			for _, s := range subjects {
				f.Subjects = append(f.Subjects, s.String())
			}
			if _, err := os.Lstat(out); err == nil {
				return configError(fmt.Errorf("%s is there already: name another file", out))
			}
			if state == "" && recorder.IsURL(store) && !noLog {
				return configError(errors.New("a store in PostgreSQL needs --state, the folder of its transparency log (that of sallyport-recorder run), or --no-log"))
			} else if state == "" {
				state = store
			}
			var noted recorder.Noted
			if err := hosts.note(&noted); err != nil {
				return configError(err)
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				return makeReport(ctx, cmd, &reportStore{s, state, noLog, noted}, store, f, out)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&store, "store", defaultStore, "folder of the recorder's store, or its postgres:// URL")
	fl.StringVar(&state, "state", "", "folder of the transparency log and of transcripts (default the store's)")
	fl.StringVar(&from, "from", "", "the first time: a day in UTC (2026-11-01), or RFC 3339")
	fl.StringVar(&to, "to", "", "the time before which accesses must be, as --from")
	fl.StringVar(&f.Identity, "identity", "", "only of this workload or agent")
	fl.StringVar(&f.Principal, "principal", "", "only on behalf of this principal")
	fl.StringVar(&f.Relation, "relation", "", "only of this relation: schema.name, or name in any schema; and what could not be told apart")
	fl.StringVar(&f.Resource, "resource", "", "only of this resource")
	fl.StringVar(&patient, "patient", "", "only that were shown rows of this patient: --subject patient=ID")
	who.add(cmd)
	hosts.register(cmd)
	fl.BoolVar(&noLog, "no-log", false, "without proofs of the transparency log")
	fl.String(reads.Flag, "", reads.Usage)
	fl.StringVarP(&out, "output", "o", "", "file of the bundle (zip)")
	for _, n := range []string{"from", "to", "output"} {
		cmd.MarkFlagRequired(n)
	}
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname("state")
	cmd.MarkFlagFilename("output", "zip")
	cmd.AddCommand(reportVerify())
	return cmd
}

func reportVerify() *cobra.Command {
	var must report.Require
	var log logFlags
	var hosts hostFlags
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

With --log-key every record must be in the transparency log that this key, and each
--witness-key, has signed. With --host-keys the checkpoints of each chain must be
signed by its host. Who vouched for such a key is not in a bundle: sallyport verify
tells it of the store.

Exit codes: 0 sound, 1 not sound, 2 bad usage.`,
		Example: `  sallyport report verify november.zip`,
		Args:    exactlyOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b, err := hex.DecodeString(must.SHA256); cmd.Flags().Changed("sha256") && (err != nil || len(b) != sha256.Size) {
				return configError(fmt.Errorf("--sha256 %q: give 64 hexadecimal digits", must.SHA256))
			}
			var err error
			if must.Log, err = log.keys(); err == nil {
				must.Hosts, err = hosts.read()
			}
			if err != nil {
				return configError(err)
			}
			c, err := report.CheckWith(args[0], must)
			if err != nil {
				return err
			}
			if err := tellProofs(cmd.OutOrStdout(), &c, &must); err != nil {
				return err
			}
			end := "is the one that was asked for"
			if must.SHA256 == "" {
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
	log.registerKeys(cmd)
	hosts.registerKeys(cmd)
	cmd.Flags().StringVar(&must.SHA256, "sha256", "", "the archive's SHA-256, as it was printed when it was made")
	return cmd
}

// tellProofs says what signatures prove of a bundle.
func tellProofs(w io.Writer, c *report.Checked, must *report.Require) (err error) {
	switch {
	case c.Log.Size == 0:
		_, err = fmt.Fprintln(w, "not proved: that the records are in a transparency log")
	case must.Log == nil:
		_, err = fmt.Fprintf(w, "%d records are in the log %s of %d entries, whose signature was not looked at (--log-key does)\n", c.Logged, render.Line(c.Log.Origin), c.Log.Size)
	default:
		_, err = fmt.Fprintf(w, "%d records are in the log %s of %d entries, signed by %s\n", c.Logged, render.Line(c.Log.Origin), c.Log.Size, render.Line(strings.Join(c.Signers, ", ")))
	}
	if err == nil && must.Hosts != nil {
		_, err = fmt.Fprintf(w, "%d chains are signed by their hosts; %d records came behind their last signatures\n", c.Signed, c.Unsigned)
	}
	return err
}

func reportTime(flag, s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: give a day like 2026-11-01, or a time like 2026-11-01T08:00:00Z", flag, s)
}

func makeReport(ctx context.Context, cmd *cobra.Command, s *reportStore, store string, f report.Filter, out string) (err error) {
	folder, err := cmd.Flags().GetString(reads.Flag)
	if err != nil {
		return err
	}
	record, err := reads.Open(ctx, store, folder)
	if err != nil {
		return &exitError{code: 1, hint: "a report is made by an account that may write the folder reads of the store", err: err}
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	read, err := record.Between(ctx, f.From, f.To)
	if err != nil {
		return err
	}
	var before []report.Note
	for _, x := range read {
		before = append(before, report.Note{Record: x.UID, Time: x.Time, Host: x.Host, What: x.What, Text: x.Text})
	}
	who := reads.Who()
	what := fmt.Sprintf("%s: report from %s to %s, identity %q, principal %q, relation %q, resource %q, subjects %q", who,
		f.From.Format(time.RFC3339), f.To.Format(time.RFC3339), f.Identity, f.Principal, f.Relation, f.Resource, f.Subjects)
	if err := record.Note(ctx, "read", what); err != nil {
		return err
	}
	r, sum, err := report.Write(ctx, s, report.Given{Made: time.Now(), Program: "sallyport " + cmd.Root().Version, Filter: f, Reads: before}, out)
	if err != nil {
		return err
	}
	if err := record.Note(ctx, "reported", who+": SHA-256 of the bundle "+sum); err != nil {
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
type reportStore struct {
	s     *recorder.DB
	dir   string
	noLog bool
	noted recorder.Noted
}

// logTime is what the transparency log has to get all that is stored.
const logTime = 20 * time.Second

func (r *reportStore) Log(ctx context.Context) (*report.Log, error) {
	if r.noLog {
		return nil, nil
	}
	places, err := r.s.Places(ctx)
	if err != nil {
		return nil, err
	}
	need := uint64(0)
	for _, at := range places {
		need = max(need, at+1)
	}
	l := tlog.Open(recorder.LogFolder(r.dir))
	for end := time.Now().Add(logTime); ; {
		raw, c, err := l.Raw(ctx)
		switch {
		case err != nil:
			return nil, err
		case raw == nil && need == 0: // there is nothing that it could have
			return nil, nil
		case raw == nil:
			return nil, &exitError{
				code: 1, hint: "name its folder with --state, restore it from an export, or make a report without these proofs: --no-log",
				err: fmt.Errorf("the transparency log in %s is gone, or was never made, and the store has %d entries for it", recorder.LogFolder(r.dir), need),
			}
		case c.Size >= need:
			p, err := l.Prover(ctx, c.Size)
			if err != nil {
				return nil, err
			}
			return &report.Log{Raw: raw, State: report.LogState{Origin: c.Origin, Size: c.Size, Root: c.Root}, Places: places, Prove: p.Prove}, nil
		case time.Now().After(end) || !pause(ctx, 100*time.Millisecond):
			return nil, &exitError{code: 1, hint: "start the recorder, or make a report without these proofs: --no-log", err: recorder.ErrBehind}
		}
	}
}

func (r *reportStore) Verify(ctx context.Context) (recorder.Report, error) {
	return recorder.Verify(ctx, r.s, r.noted)
}

func (r *reportStore) Records(ctx context.Context, f func(*recorder.Held) error) error {
	for h, err := range r.s.Records(ctx) {
		if err == nil {
			err = f(&h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
