package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/keeping"
	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// logOptions are those of the transparency log.
type logOptions struct {
	key, origin, witnesses string

	// For metrics; nil for none.
	logged func(entries uint64)
	failed func()
}

// follow has the transparency log follow the store until ctx ends. What it
// returns waits for that. Where it can't it tries again, and recording goes on:
// what is in no log is stored, and verify counts it.
func (o *logOptions) follow(ctx context.Context, dir string, store *recorder.DB, log *slog.Logger) (func(), error) {
	if o.key == "" {
		o.key = filepath.Join(dir, "log.key")
	}
	key, err := jetstream.ReadPrivateKey(o.key)
	if err != nil {
		return nil, err
	}
	fo := follow.Options{Dir: recorder.LogFolder(dir), Key: key, Origin: o.origin, Log: log, Logged: o.logged}
	if o.witnesses != "" {
		if fo.Witnesses, err = os.ReadFile(o.witnesses); err != nil {
			return nil, fmt.Errorf("--witnesses: %w", err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := follow.Run(ctx, store, fo)
			if err == nil {
				continue
			}
			log.Error("ALARM: the transparency log does not go on", "error", err)
			if o.failed != nil {
				o.failed()
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
		}
	}()
	return func() { <-done }, nil
}

// logKeys are those of the log that goes with a store.
func logKeys(state, key, origin string) (tlog.Keys, error) {
	if key == "" {
		key = filepath.Join(state, "log.key")
	}
	if _, err := os.Stat(key); err != nil {
		return tlog.Keys{}, fmt.Errorf("the log's key: %w (sallyport-recorder run makes it)", err)
	}
	k, err := jetstream.ReadPrivateKey(key)
	if err != nil {
		return tlog.Keys{}, err
	}
	_, v, err := tlog.Signer(k, origin)
	return tlog.Keys{Log: v}, err
}

func exportCmd() *cobra.Command {
	var store, state, to, key, origin, config, folder string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "export --store DIR --output DIR",
		Short: "Copy the evidence, to be verified elsewhere",
		Long: `Copy the store and its transparency log into a folder that is not there yet, as
of one moment at which the log has all of it. Recorders wait meanwhile, and lose
nothing. "sallyport verify --export" proves it with the log's public key alone.
The copy of a store in PostgreSQL is a folder as well.

The copy holds what the store holds: exact statements, and rows as the agents
saw them; encrypted, where the store has them so. That it is made goes on a record
of its own first, in the folder reads of the store, or of --state where the store
is in PostgreSQL (--reads).`,
		Example: `  sallyport-recorder export --store /var/lib/sallyport-recorder --output /srv/evidence-2026-11
  sallyport verify --export /srv/evidence-2026-11 --log-key evidence-log.pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := stateOf(store, state)
			if err != nil {
				return err
			}
			keys, err := logKeys(state, key, origin)
			if err != nil {
				return err
			}
			c, err := keeping.Load(config)
			if err != nil {
				return usageError{err}
			}
			from, done, err := c.Transcripts.Open(cmd.Context(), recorder.TranscriptsFolder(state))
			if err != nil {
				return err
			}
			defer done()
			if err := noteReading(cmd, store, state, folder, "the whole store, into "+to); err != nil {
				return err
			}
			return recorder.Export(cmd.Context(), store, state, to, keys, wait, from)
		},
	}
	f := cmd.Flags()
	f.StringVar(&store, "store", "", "folder of the store, or its postgres:// URL")
	f.StringVar(&state, "state", "", "folder of the transparency log and its key (default the store's)")
	f.StringVar(&to, "output", "", "folder to make")
	f.StringVar(&folder, reads.Flag, "", reads.Usage)
	cmd.MarkFlagDirname(reads.Flag)
	f.StringVar(&config, "config", "", "the recorder's configuration file, as run has it")
	f.StringVar(&key, "log-key", "", "key of the transparency log (default DIR/log.key)")
	f.StringVar(&origin, "log-origin", "", "name of the transparency log, as run has it")
	f.DurationVar(&wait, "wait", 20*time.Second, "how long to wait for the log to have all that is stored")
	cmd.MarkFlagRequired("store")
	cmd.MarkFlagRequired("output")
	cmd.MarkFlagDirname("store")
	cmd.MarkFlagDirname("state")
	return cmd
}
