package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, whoamiCmd) }

const (
	// whoamiQuestion is asked where the canaries are: whoever gets there was
	// turned into the passage, as any connection of its process is.
	whoamiQuestion = "whoami\n"
	// The question comes at once, or the caller is a canary.
	questionTime = 100 * time.Millisecond
	maxAnswer    = 64 << 10
)

func whoamiCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Say who sallyport takes this process for",
		Long: `Connects into the passage as any connection of this process would be turned
there, and prints who sallyport takes it for: the workload, the actor, the
principal, how each was proved, and what ties it here. Where it would be refused,
it says why. It needs no privilege and no configuration; a one-time token is not
used up.

It must be started where it is guarded: in a guarded cgroup, or with sallyport
exec. The executable is then sallyport's own, so that a workload that is matched
by exe is not found.

Exit codes: 0 somebody, 1 nobody, or no answer.`,
		Example: `  sudo sallyport exec --token-file /etc/agents/a.jwt --user agent-a -- sallyport whoami
  sallyport whoami --json | jq -r .proof`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := whoami(cmd.Context())
			if err != nil {
				return err
			}
			return b.tell(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// tell prints it, and fails where it is nobody.
func (b *believed) tell(w io.Writer, asJSON bool) (err error) {
	if asJSON {
		err = printJSON(w, b)
	} else {
		err = b.print(w)
	}
	if err == nil && b.Refused != "" {
		err = errors.New("it is nobody, and is refused")
	}
	return err
}

// whoami asks the passage who this process is.
func whoami(ctx context.Context) (*believed, error) {
	b := &believed{}
	if err := inquire(ctx, whoamiQuestion, b); err != nil {
		return nil, err
	}
	return b, nil
}

// inquire asks the passage that this process is turned into, and decodes its answer.
// On a busy host the question may come too late: then it is asked again.
func inquire(ctx context.Context, question string, answer any) error {
	if ctx == nil {
		ctx = context.Background()
	}
	var last error
	for range 5 {
		for _, to := range redirect.Canaries {
			err := askPassage(ctx, to, question, answer)
			if err == nil {
				return nil
			}
			if to.Addr().Is6() && noIPv6(err) {
				continue
			}
			last = err
			if !errors.Is(err, errUnasked) {
				break // IPv6 is for hosts without IPv4
			}
		}
		if !errors.Is(last, errUnasked) {
			break
		}
	}
	return &exitError{code: 1, err: last, hint: "start it in a guarded cgroup (sallyport exec), while sallyport runs"}
}

// errUnasked: it was taken for a canary.
var errUnasked = errors.New("the passage did not hear the question")

func askPassage(ctx context.Context, to netip.AddrPort, question string, answer any) error {
	d := net.Dialer{Timeout: canaryTime}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("this process is not turned into a passage: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(bindTime + canaryTime))
	if _, err := io.WriteString(c, question); err != nil {
		return fmt.Errorf("%w: %w", errUnasked, err)
	}
	all, err := io.ReadAll(io.LimitReader(c, maxAnswer))
	said, ok := strings.CutPrefix(string(all), redirect.CanarySong)
	switch {
	case !ok && err != nil:
		return fmt.Errorf("the passage does not answer: %w", err)
	case !ok:
		return errors.New("this process is not turned into a passage: somebody else answers")
	case said == "":
		return errUnasked
	case json.Unmarshal([]byte(said), answer) != nil:
		return errors.New("the passage's answer is not understood: the running sallyport is of another version")
	}
	return nil
}

// answerWhoami tells who asks who it is taken for, if that is asked. It tells
// nothing that a refusal, or the asker's own token, does not say.
func (d *daemon) answerWhoami(f *intercept.Flow) {
	_ = f.Conn.SetReadDeadline(time.Now().Add(questionTime))
	q := make([]byte, len(whoamiQuestion))
	if _, err := io.ReadFull(f.Conn, q); err != nil {
		return
	}
	switch string(q) {
	case whoamiQuestion:
	case ownWait, ownWithdraw:
		d.answerOwn(f, string(q))
		return
	default:
		return
	}
	ctx, cancel := context.WithTimeout(d.sessions.draining(), bindTime)
	defer cancel()
	peer := f.Peer
	defer d.released(&peer)
	d.hold.RLock()
	id, err := d.setting.Load().binder.Look(ctx, &peer)
	d.hold.RUnlock()
	_ = f.Conn.SetDeadline(time.Now().Add(refuseTime))
	_ = json.NewEncoder(f.Conn).Encode(believe(&peer, &id, err))
}
