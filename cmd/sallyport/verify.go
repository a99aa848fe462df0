package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

func init() { commands = append(commands, verifyCmd) }

// verifyReport is what verify prints with --json; --expect reads it.
type verifyReport struct {
	Sound   bool             `json:"sound"`
	Store   *recorder.Report `json:"store,omitempty"`
	Journal *journalReport   `json:"journal,omitempty"`
}

func verifyCmd() *cobra.Command {
	var store, folder, expect, export string
	var hosts hostFlags
	var log logFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --store DIR | --export DIR | --journal DIR",
		Short: "Prove that no record was removed, changed, reordered or inserted",
		Long: `Recompute the hash of every record and follow every chain from its first one.
The first record of a chain that was removed, changed, reordered, inserted, cut
off, or hidden from its session is named: of the recorder's store, or of a host's
own journal (as root, on the host; it may be in use), whose signed checkpoints are
held against its key. What "sessions ls" lists is held against the records, and
the recorder's alarms against each other.

With --log-key what is stored is held against the transparency log, whose
checkpoint must be signed by that key, and by each --witness-key: so the first
record that is not what was logged is named although whole chains were computed
anew, by anybody who has neither the log's key nor, where you ask for witnesses,
theirs. Who has all the keys that you ask for can make the log anew as well.
--export is a copy that sallyport-recorder made, and needs nothing else; that it is
read goes on a record of its own in it first, or in --reads.

With --host-keys each signature of a host must be by one of its keys, which the
file names, one on a line as --journal prints it: so a chain that was made anew, or
has no signatures, is found without a log. With --host-ids and --bundle a host that
it does not name must sign with a key that this SPIFFE ID vouched for, with an SVID
that was good then by the bundle: the file of authorities that the recorder keeps.
Without either a chain must be signed with the one key that its first signature names.

Transcripts are held against their records' hashes. With --identity-file that is so
of encrypted ones as well; without it, that they are there as they were stored, and
the output counts them.

A chain that somebody made anew as a whole, with all hashes, is sound in itself:
keep the output of --json elsewhere and give it to the next run as --expect.

Exit codes: 0 sound, 1 not sound, 2 bad usage.`,
		Example: `  sallyport verify --store /var/lib/sallyport-recorder
  sallyport verify --store /var/lib/sallyport-recorder --host-keys /etc/sallyport/hosts.keys
  sallyport verify --export /srv/evidence-2026-11 --log-key evidence-log.pub
  sallyport verify --export /srv/evidence-2026-11 --log-key evidence-log.pub \
      --host-ids 'spiffe://example.org/sallyport/host/{host}' --bundle authorities.pem
  sallyport verify --store /srv/evidence --json > today.json
  sallyport verify --store /srv/evidence --expect yesterday.json
  sallyport verify --journal /var/lib/sallyport/journal
  sallyport verify --journal /var/lib/sallyport-recorder/reads --expect reads-yesterday.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(nonEmpty(store, folder, export)) != 1 {
				return configError(errors.New("name what to verify: --store, --export or --journal"))
			}
			if (folder != "" && log.given()) || (export != "" && log.key == "") {
				return configError(errors.New("--export needs --log-key, the public key of its log; --journal has no log"))
			}
			noted, err := readNoted(expect, folder != "")
			if err != nil {
				return configError(err)
			}
			var rep verifyReport
			if folder != "" && hosts.given() {
				return configError(errors.New("--host-keys, --host-ids and --bundle are for --store and --export: --journal has the host's own key"))
			}
			if err := hosts.note(&noted); err != nil {
				return configError(err)
			}
			if folder != "" {
				if rep.Journal, err = verifyJournal(folder, noted.Heads); err != nil {
					return err
				}
				rep.Sound = rep.Journal.Fault == nil
				return rep.tell(cmd.OutOrStdout(), asJSON)
			}
			if export != "" {
				if err := cmd.Flags().Set("store", export); err != nil {
					return err
				}
			}
			if err := log.note(&noted, store, export != ""); err != nil {
				return configError(err)
			}
			err = withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				if export != "" {
					if err := reading(ctx, cmd, "the whole export"); err != nil {
						return err
					}
				}
				r, err := recorder.Verify(ctx, s, noted)
				rep.Store = &r
				return err
			})
			if err != nil {
				return err
			}
			rep.Sound = len(rep.Store.Faults) == 0
			return rep.tell(cmd.OutOrStdout(), asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&store, "store", "", "folder of the recorder's store, or its postgres:// URL")
	f.StringVar(&export, "export", "", "folder that sallyport-recorder export made")
	log.register(cmd)
	keeping.AddFlags(cmd)
	f.StringVar(&folder, "journal", "", "folder of a host's journal")
	f.StringVar(&expect, "expect", "", "an earlier run's --json output, of the store or of the journal: its heads must still be there")
	hosts.register(cmd)
	f.String(reads.Flag, "", reads.Usage)
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname("export")
	cmd.MarkFlagDirname("journal")
	cmd.MarkFlagFilename("expect", "json")
	return cmd
}

// tell prints a report, and fails when it is not sound.
func (r *verifyReport) tell(w io.Writer, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = printJSON(w, r)
	case r.Journal != nil:
		err = printJournal(w, r.Journal)
	default:
		err = printReport(w, r.Store)
	}
	if err == nil && !r.Sound {
		err = errors.New("the evidence is not sound")
	}
	return err
}

// readNoted takes the heads and the newest alarm from an earlier run's output: of a
// store, or where a journal is verified of one.
func readNoted(file string, journal bool) (noted recorder.Noted, err error) {
	if file == "" {
		return noted, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return noted, fmt.Errorf("--expect: %w", err)
	}
	var rep verifyReport
	err = json.Unmarshal(b, &rep)
	head := func(host, chain string, last uint64, hash string) error {
		h := recorder.Head{Host: host, Chain: chain, Seq: last}
		if n, err := hex.Decode(h.Hash[:], []byte(hash[:min(len(hash), 64)])); err != nil || n != 32 {
			return fmt.Errorf("--expect %s: chain %s: %q is no hash", file, chain, hash)
		}
		if h.Seq > 0 {
			noted.Heads = append(noted.Heads, h)
		}
		return nil
	}
	switch j := rep.Journal; {
	case err == nil && j != nil && journal:
		err = head("", j.Chain, j.Last, j.Hash)
		return noted, err
	case err != nil || rep.Store == nil:
		return noted, fmt.Errorf("--expect %s: not the output of verify --json for a store, or for the journal that is looked at (%v)", file, err)
	}
	if rep.Store.Alarm.ID > 0 {
		noted.Alarm = &rep.Store.Alarm
	}
	if rep.Store.Log != nil {
		noted.Log = &recorder.Logged{Earlier: &rep.Store.Log.Checkpoint}
	}
	for _, c := range rep.Store.Chains {
		if err := head(c.Host, c.Chain, c.Last, c.Hash); err != nil {
			return noted, err
		}
	}
	return noted, nil
}

func printReport(w io.Writer, rep *recorder.Report) error {
	for _, c := range rep.Chains {
		fmt.Fprintf(w, "host %s, chain %s: %d records, the last is %d, %s\n", render.Line(c.Host), render.Line(c.Chain), c.Records, c.Last, c.Hash)
		if c.Signed > 0 {
			fmt.Fprintf(w, "  signed up to record %d with %s\n", c.Signed, render.Line(c.Signer))
		}
		if c.VouchedBy != "" {
			fmt.Fprintf(w, "  record %d: %s vouches for that key\n", c.VouchedIn, render.Line(c.VouchedBy))
		}
		if c.Waiting > 0 {
			fmt.Fprintf(w, "  %d records wait for one that comes before them\n", c.Waiting)
		}
	}
	if l := rep.Log; l != nil {
		fmt.Fprintf(w, "log %s: %d entries, %s, signed by %s\n", render.Line(l.Origin), l.Size, l.Root, render.Line(strings.Join(l.Signed, ", ")))
		if l.Unlogged > 0 {
			fmt.Fprintf(w, "  %d entries are stored and not in the log yet\n", l.Unlogged)
		}
	}
	printTranscripts(w, &rep.Transcripts)
	for _, a := range rep.Alarms {
		fmt.Fprintf(w, "alarm %s: %s: host %s, chain %s, record %d: %s\n", a.Time.Local().Format("2006-01-02 15:04:05"), render.Line(a.What),
			render.Line(a.Host), render.Line(a.Chain), a.Seq, render.Line(a.Detail))
	}
	if n := rep.Alarm.ID - rep.Acts - int64(len(rep.Alarms)); n > 0 {
		fmt.Fprintf(w, "%d alarms came before these (list them with: sallyport sessions alarms)\n", n)
	}
	for _, f := range rep.Faults {
		fmt.Fprintf(w, "NOT SOUND: %s\n", render.Line(f.String()))
	}
	if len(rep.Faults) > 0 {
		return nil
	}
	if t := &rep.Transcripts; t.Sealed+t.Elsewhere+t.Deleted > 0 {
		_, err := fmt.Fprintln(w, "sound: every record is there and in its place, and all that could be read here is unchanged; so are the alarms, and the list of sessions says what they say")
		return err
	}
	_, err := fmt.Fprintln(w, "sound: every record is there, unchanged and in its place; so are the alarms, and the list of sessions says what they say")
	return err
}
