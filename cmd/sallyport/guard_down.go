package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

// sayDown asks a running loader to take the guard down, and says that it did.
const sayDown = "guard down"

// forced among the terms: without a record too.
const forced = "force"

func guardDownCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take the guard away: agents reach the services directly again",
		Long: `Detaches and unpins the programs and removes the cgroups that the guard made.
From then on nothing is turned, refused or recorded.

That it was done, when and by whom, is an event. A running sallyport records it
first, then ends in order and takes the guard down itself. Without one a note is
left beside the state, in a folder of root's, which the next "sallyport run"
records. Where neither can be written, nothing is done.`,
		Example:           `  sallyport guard down`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if err := down(cmd.Context(), cfg, force, cmd.ErrOrStderr()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the guard is down")
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "take it down even if that can't be recorded, or the running sallyport does not answer")
	return cmd
}

// down takes the guard down, through the running sallyport if there is one.
func down(ctx context.Context, cfg *config.Config, force bool, warn io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
	t, err := privsep.Call(ctx, controlPath(cfg))
	if err == nil {
		defer t.Close()
		return askDown(t, force)
	}
	if errors.Is(err, privsep.ErrNobody) {
		s, serr := redirect.GetStatus(cfg.Interception.Pins)
		switch {
		case errors.Is(serr, redirect.ErrLayout):
			return fmt.Errorf("guard down: %w", serr) // nothing is done, and so nothing noted
		case errors.Is(serr, redirect.ErrNotUp) && !pinned(cfg.Interception.Pins):
			return redirect.Down(cfg.Interception.Pins) // what is left, if anything
		case serr == nil && s.Daemon:
			err = fmt.Errorf("a daemon serves the passage (process %d), but its loader does not answer at %s: stop it first", s.DaemonPID, controlPath(cfg))
		default:
			n := noteBySelf(guardDown)
			err = n.leave(cfg.State)
		}
	}
	if err != nil {
		if !force {
			return &exitError{code: 1, err: fmt.Errorf("guard down: %w", err), hint: "the guard is as it was; --force takes it down without a record"}
		}
		fmt.Fprintf(warn, "warning: the guard goes down without a record: %v\n", err)
	}
	return redirect.Down(cfg.Interception.Pins)
}

// pinned reports whether anything is: an older version's guard holds too.
func pinned(pins string) bool {
	left, err := os.ReadDir(pins)
	return len(left) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// askDown has the running sallyport do it.
func askDown(t *privsep.Talk, force bool) error {
	m := privsep.Message{Do: sayDown}
	if force {
		m.Terms = map[string]string{forced: "yes"}
	}
	err := t.Send(m)
	if err == nil {
		_, err = receive(t, sayDown, 0)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the running sallyport has ended without a word: look at its log, and at `sallyport guard status`")
	}
	if err != nil {
		return fmt.Errorf("guard down: %w", err)
	}
	return nil
}

// takeDown takes the guard down for who asks it: on the record first, and when
// the daemon has ended in order.
func (l *loader) takeDown(t *privsep.Talk, m privsep.Message) error {
	l.recordNotes() // what was done before comes before
	n := noteBy(guardDown, t.Caller())
	if err := l.record(&n); err != nil {
		if m.Terms[forced] == "" {
			return fmt.Errorf("it can't be recorded: %w (--force takes the guard down all the same)", err)
		}
		l.log.Error("the guard is taken down without a record", "pid", n.PID, "error", err)
	}
	l.log.Warn("the guard is taken down", "pid", n.PID, "exe", n.Exe)
	l.onEnd = func() error {
		defer t.Close()
		_ = l.control.Close()
		said := privsep.Message{Do: sayDown}
		err := redirect.Down(l.cfg.Interception.Pins)
		if err != nil {
			said = privsep.Message{Do: sayRefused, Text: err.Error()}
		}
		_ = t.Send(said) // whoever asked may have gone
		return err
	}
	l.stop(nil)
	l.tell(doFinish, fmt.Sprintf("the daemon stopped: process %d takes the guard down", n.PID))
	return nil
}
