package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// An agent asks about its own requests where it asks who it is (see whoami): who
// asks is proved as for any connection of its process.
const (
	ownWait     = "ap-see " // before an ID and a line's end
	ownWithdraw = "ap-end "
)

// ownID is of an approval's ID.
var ownID = regexp.MustCompile(`^ap-[a-z2-7]{20}$`)

const ownIDLength = 23

// ownAnswer is how a request stands to who made it.
type ownAnswer struct {
	State string    `json:"state,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Why   string    `json:"why,omitempty"`
	Error string    `json:"error,omitempty"`
}

// answerOwn answers the rest of such a question, q.
func (d *daemon) answerOwn(f *intercept.Flow, q string) {
	rest := make([]byte, ownIDLength+1)
	if _, err := io.ReadFull(f.Conn, rest); err != nil || rest[ownIDLength] != '\n' || !ownID.Match(rest[:ownIDLength]) || d.approvals == nil {
		return
	}
	ctx, cancel := context.WithTimeout(d.sessions.draining(), bindTime)
	defer cancel()
	peer := f.Peer
	defer d.released(&peer)
	d.hold.RLock()
	id, err := d.setting.Load().binder.Look(ctx, &peer)
	d.hold.RUnlock()
	a := ownAnswer{}
	if err == nil {
		a, err = d.own(ctx, q, string(rest[:ownIDLength]), &policy.Session{Identity: id})
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = f.Conn.SetDeadline(time.Now().Add(refuseTime))
	_ = json.NewEncoder(f.Conn).Encode(&a)
}

func (d *daemon) own(ctx context.Context, q, id string, s *policy.Session) (a ownAnswer, err error) {
	st, err := d.approvals.Own(ctx, id, s)
	if err == nil && q == ownWithdraw {
		if err = d.approvals.Withdraw(ctx, id, "its agent withdrew it"); err == nil {
			st, err = d.approvals.Own(ctx, id, s)
		}
	}
	return ownAnswer{State: st.State.String(), Until: st.Until, Why: st.Why}, err
}

// askOwn asks the passage about a request.
func askOwn(ctx context.Context, q, id string) (a ownAnswer, err error) {
	return a, inquire(ctx, q+id+"\n", &a)
}

func checkOwnID(id string) error {
	if !ownID.MatchString(id) {
		return configError(fmt.Errorf("request %q: write the ID that the refusal has, like ap-7ck3n2v5q4hz6w2x2m7d", id))
	}
	return nil
}

func approvalsWait() *cobra.Command {
	var limit time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait REQUEST",
		Short: "Wait until a request of one's own is decided",
		Long: `Waits until a request for approval is decided, that this agent has made for the
same person. It needs no privilege: it must be started where the agent is guarded, as
sallyport whoami must, with the same token.

Exit codes: 0 approved, 1 anything else.`,
		Example: `  sallyport approvals wait ap-7ck3n2v5q4hz6w2x2m7d --timeout 10m && psql -f delete.sql`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOwnID(args[0]); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			for {
				a, err := askOwn(ctx, ownWait, args[0])
				if over(ctx) {
					return fmt.Errorf("%s is not decided in time", args[0])
				}
				if err != nil {
					return err
				}
				if a.Error != "" || a.State != policy.Awaited.String() {
					return a.tell(cmd.OutOrStdout(), args[0], asJSON, policy.Approved.String())
				}
				if !pause(ctx, 500*time.Millisecond) {
					return fmt.Errorf("%s is not decided in time", args[0])
				}
			}
		},
	}
	cmd.Flags().DurationVar(&limit, "timeout", 0, "wait at most so long (0: until the request ends)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// over reports that ctx has ended, or is about to: a dialler may see its deadline
// before it does.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

func approvalsWithdraw() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "withdraw REQUEST",
		Short:   "End a request of one's own that is not decided yet",
		Example: `  sallyport approvals withdraw ap-7ck3n2v5q4hz6w2x2m7d`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOwnID(args[0]); err != nil {
				return err
			}
			a, err := askOwn(cmd.Context(), ownWithdraw, args[0])
			if err != nil {
				return err
			}
			return a.tell(cmd.OutOrStdout(), args[0], asJSON, policy.Withdrawn.String())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// tell prints it, and fails where it is not what is wanted.
func (a *ownAnswer) tell(w io.Writer, id string, asJSON bool, want string) error {
	if a.Error != "" && !asJSON {
		return errors.New(render.Line(a.Error))
	}
	var err error
	if asJSON {
		err = printJSON(w, a)
	} else {
		text := id + " is " + a.State
		if a.Why != "" {
			text += ": " + a.Why
		}
		_, err = fmt.Fprintln(w, render.Line(text))
	}
	if err == nil && a.State != want {
		err = fmt.Errorf("%s is not %s", id, want)
	}
	return err
}
