package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

// liveEvery is how often what is new is looked for.
const liveEvery = 300 * time.Millisecond

// followSession shows a session's head, and each statement once it has ended.
func followSession(ctx context.Context, w io.Writer, s *recorder.DB, d *recorder.Detail, asJSON bool) error {
	if !asJSON {
		if err := showSession(w, d); err != nil {
			return err
		}
	}
	return s.Watch(ctx, d.Session, liveEvery, func(q *recorder.Statement) error {
		if asJSON {
			b, err := json.Marshal(q)
			if err == nil {
				_, err = w.Write(render.JSON(append(b, '\n')))
			}
			return err
		}
		var b strings.Builder
		showStatement(&b, q)
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func sessionsReplay() *cobra.Command {
	var t render.Timing
	var follow bool
	cmd := &cobra.Command{
		Use:   "replay SESSION",
		Short: "Play a session as the agent saw it",
		Long: `Play a session's transcript: each statement, and each row as the agent saw it,
masked values included, in the timing of the original. What the recorded text
could do to a terminal is shown instead of done.`,
		Example: `  sallyport sessions replay 0198c2 --speed 10 --max-idle 1s
  sallyport sessions replay 0198c2 --seek 12m    # from there on
  sallyport sessions replay 0198c2 --speed 0     # at once
  sallyport sessions replay 0198c2 --follow      # one that is open, as it goes on`,
		Args:              exactlyOne("SESSION"),
		ValidArgsFunction: completeSession,
		RunE: func(cmd *cobra.Command, args []string) error {
			if t.Speed < 0 || t.MaxIdle < 0 || t.Seek < 0 {
				return configError(errors.New("--speed, --max-idle and --seek cannot be negative"))
			}
			if follow && (cmd.Flags().Changed("speed") || cmd.Flags().Changed("max-idle")) {
				return configError(errors.New("--follow shows what comes as it comes: without --speed and --max-idle"))
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				x, err := s.Find(ctx, args[0])
				if err != nil {
					return err
				}
				if err := reading(ctx, cmd, "session "+x.ID); err != nil {
					return err
				}
				if follow {
					t.Speed = 0
					return render.Replay(ctx, cmd.OutOrStdout(), render.For(x.Protocol), s.LiveChunks(ctx, x, liveEvery), t)
				}
				return render.Replay(ctx, cmd.OutOrStdout(), render.For(x.Protocol), s.Chunks(ctx, x), t)
			})
		},
	}
	cmd.Flags().Float64Var(&t.Speed, "speed", 1, "1: as it was, 2: twice as fast, 0: at once")
	cmd.Flags().DurationVar(&t.Seek, "seek", 0, "begin so long after the first thing that was said")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is said, until the session is closed")
	cmd.Flags().DurationVar(&t.MaxIdle, "max-idle", 2*time.Second, "longest pause (0: no limit)")
	return cmd
}
