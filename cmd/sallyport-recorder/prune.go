package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

const pruneEvery = 24 * time.Hour

// prune deletes what rules have deleted, at once and then daily, until ctx ends. What
// it returns waits for that.
func (o *options) prune(ctx context.Context, store *recorder.DB, r recorder.Retention, log *slog.Logger) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			next := pruneEvery
			rep, err := o.pruneOnce(ctx, store, r)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				log.Error("ALARM: transcripts are not deleted as rules say; it is tried again", "error", err)
				if o.pruneFailed != nil {
					o.pruneFailed()
				}
				next = time.Hour
			case len(rep.Deleted) > 0 || len(rep.Held) > 0 || rep.Unnamed > 0 || rep.Missing > 0:
				log.Info("retention", "deleted", len(rep.Deleted), "held_sessions", len(rep.Held), "named_by_no_record", rep.Unnamed, "due_and_missing", rep.Missing)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(next):
			}
		}
	}()
	return func() { <-done }
}

// pruneOnce holds the store against its log, which is begun or goes on meanwhile.
func (o *options) pruneOnce(ctx context.Context, store *recorder.DB, r recorder.Retention) (recorder.PruneReport, error) {
	keys, err := logKeys(o.state, o.log.key, o.log.origin)
	if err != nil {
		return recorder.PruneReport{}, err
	}
	by := &recorder.Logged{Dir: recorder.LogFolder(o.state), Keys: keys}
	// Where it has nothing yet Prune says so, once something is due.
	if err := recorder.AwaitLog(ctx, by.Dir, keys, 1, 10*time.Second); err != nil && !errors.Is(err, recorder.ErrBehind) {
		return recorder.PruneReport{}, err
	}
	return store.Prune(ctx, recorder.PruneOptions{Retention: r, Log: by}, time.Now())
}

// storeFlags open a store to change what is kept of it.
type storeFlags struct {
	store, state, config string
	json                 bool
}

func (f *storeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.store, "store", "", "folder of the store, or its postgres:// URL")
	fl.StringVar(&f.state, "state", "", "folder of transcripts that the configuration keeps nowhere else (default the store's)")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	cmd.MarkFlagRequired("store")
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname("state")
}

func (f *storeFlags) open(ctx context.Context) (*recorder.DB, keeping.Config, func(), error) {
	c, err := keeping.Load(f.config)
	if err != nil {
		return nil, c, nil, usageError{err}
	}
	state, err := stateOf(f.store, f.state)
	if err != nil {
		return nil, c, nil, err
	}
	s, err := openStore(f.store)
	if err != nil {
		return nil, c, nil, usageError{err}
	}
	done, err := c.Keep(ctx, s, state, nil)
	if err != nil {
		s.Close()
		return nil, c, nil, err
	}
	return s, c, func() { done(); s.Close() }, nil
}

// openStore opens a store that is there.
func openStore(dir string) (*recorder.DB, error) {
	r, err := recorder.OpenReader(dir)
	if err != nil {
		return nil, err
	}
	r.Close()
	return recorder.Open(dir)
}

func pruneCmd() *cobra.Command {
	var f storeFlags
	var dry, sweep, late bool
	var key, origin, folder string
	cmd := &cobra.Command{
		Use:   "prune --store DIR",
		Short: "Delete the transcripts that retention rules no longer keep",
		Long: `Delete transcripts that were kept for as long as the rules of --config say (six
years, where none says another time), and that no legal hold keeps. The records
stay, and so do their hashes: "sallyport verify" follows the chains as before, and
says what was deleted when and by which rule, which is on the record before it is
deleted. "sallyport-recorder run" does the same each day.

Before anything is deleted the record of holds is held against the transparency log
in --state. --late deletes although nothing was recorded for a month, which else is
taken for a clock that is wrong.

--dry-run lists what would be deleted, which is reading and goes on the record of that
first (--reads). --sweep deletes, besides, what no record
names and is a day old: a recorder that was killed may leave that. Use it only where
no other recorder has its transcripts in the same place.`,
		Example: `  sallyport-recorder prune --store /var/lib/sallyport-recorder --config /etc/sallyport/recorder.yaml --dry-run`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, c, done, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			state, err := stateOf(f.store, f.state)
			if err != nil {
				return err
			}
			if dry {
				if err := noteReading(cmd, f.store, state, folder, "what rules would delete"); err != nil {
					return err
				}
			}
			var by *recorder.Logged
			if !dry {
				keys, err := logKeys(state, key, origin)
				if err != nil {
					return err
				}
				by = &recorder.Logged{Dir: recorder.LogFolder(state), Keys: keys}
			}
			rep, err := s.Prune(cmd.Context(), recorder.PruneOptions{Retention: c.Retention, Dry: dry, Sweep: sweep, Late: late, Log: by}, time.Now())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), rep)
			}
			return printPruned(cmd.OutOrStdout(), &rep)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.config, "config", "", "the recorder's configuration file, as run has it")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "list what would be deleted, and delete nothing")
	cmd.Flags().StringVar(&folder, reads.Flag, "", reads.Usage)
	cmd.MarkFlagDirname(reads.Flag)
	cmd.Flags().BoolVar(&late, "late", false, "delete although nothing was recorded for a month")
	cmd.Flags().StringVar(&key, "log-key", "", "key of the transparency log (default log.key in --state)")
	cmd.Flags().StringVar(&origin, "log-origin", "", "name of the transparency log, as run has it")
	cmd.Flags().BoolVar(&sweep, "sweep", false, "delete what no record names as well")
	cmd.MarkFlagFilename("config", "yaml")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = w.Write(render.JSON(append(b, '\n')))
	}
	return err
}

func printPruned(w io.Writer, rep *recorder.PruneReport) error {
	did := "deleted"
	if rep.Dry {
		did = "would delete"
	}
	for _, d := range rep.Deleted {
		fmt.Fprintf(w, "%s: host %s, session %s, chain %s, block of record %d: %d bytes, by rule %q (%s), due since %s\n", did,
			render.Line(d.Host), render.Line(d.Session), render.Line(d.Chain), d.First, d.Size, d.Rule, d.Keep, d.Due.Format(time.DateOnly))
	}
	for _, k := range rep.Held {
		fmt.Fprintf(w, "held: host %s, session %s, by hold %d\n", render.Line(k.Host), render.Line(k.Session), k.Hold)
	}
	if rep.Missing > 0 {
		fmt.Fprintf(w, "%d are due and not there: is it the right --config? sallyport verify names them\n", rep.Missing)
	}
	if rep.Unnamed > 0 {
		fmt.Fprintf(w, "%d are named by no record; %d of them swept\n", rep.Unnamed, rep.Swept)
	}
	_, err := fmt.Fprintf(w, "%s %d, held sessions %d\n", did, len(rep.Deleted), len(rep.Held))
	return err
}
