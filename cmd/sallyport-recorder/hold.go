package main

import (
	"fmt"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

func holdCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep transcripts that rules would delete: legal holds",
		Long: `A legal hold keeps the transcripts that it meets, whatever retention rules say,
until it is released. Who made one, why, and who released it is on the record, which
"sallyport verify" holds against what was noted.`,
		Example: `  sallyport-recorder hold add --store /var/lib/sallyport-recorder --principal dr.grey --reason "case 2026-117"`,
	}
	cmd.AddCommand(holdAdd(), holdLs(), holdRm())
	return cmd
}

// account is who runs this.
func account() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("who runs this is not known: %w", err)
	}
	return u.Username + " (uid " + u.Uid + ")", nil
}

func holdAdd() *cobra.Command {
	var f storeFlags
	var h recorder.Hold
	var since, until string
	cmd := &cobra.Command{
		Use:   "add --store DIR --reason TEXT",
		Short: "Hold what meets all that is given",
		Long: `Hold the transcripts of sessions that meet all that is given; --all holds
everything. --subject takes name:hash as events have it: "sallyport sessions ls
--subject NAME=VALUE --subject-key FILE" finds the sessions of a value, and a
response event in "sallyport sessions show" has its hash. What policy could not tell
whose it was no hold by subject meets: hold it by time or identity as well.`,
		Example: `  sallyport-recorder hold add --store /srv/evidence --session 0198c2d1-77aa-7c3e-b0f2-6d1f3a5c9e10 --reason "case 2026-117"
  sallyport-recorder hold add --store /srv/evidence --identity billing-agent --since 2026-01-01T00:00:00Z --reason "audit"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, t := range []struct {
				flag, text string
				to         *time.Time
			}{{"--since", since, &h.Since}, {"--until", until, &h.Until}} {
				if t.text == "" {
					continue
				}
				if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
					return usageError{fmt.Errorf("%s %q: give a time like 2026-01-31T08:00:00Z", t.flag, t.text)}
				}
			}
			all, err := cmd.Flags().GetBool("all")
			if err != nil {
				return err
			}
			if all != (h.String() == "all") {
				return usageError{fmt.Errorf("say what to hold, or --all")}
			}
			if h.By, err = account(); err != nil {
				return err
			}
			s, _, done, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			id, err := s.AddHold(cmd.Context(), h, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "hold %d: %s\n", id, render.Line(h.String()))
			n, err := s.Meets(cmd.Context(), h)
			if err != nil {
				return fmt.Errorf("hold %d is made; how many sessions it meets can't be told: %w", id, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "it meets %d sessions now\n", n)
			return err
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&h.Reason, "reason", "", "why, such as the number of a case")
	fl.Bool("all", false, "hold everything")
	fl.StringVar(&h.Host, "host", "", "sessions of this host")
	fl.StringVar(&h.Session, "session", "", "this session (its whole id)")
	fl.StringVar(&h.Identity, "identity", "", "sessions of this workload, actor or principal")
	fl.StringVar(&h.Principal, "principal", "", "sessions for this human or account")
	fl.StringVar(&h.Resource, "resource", "", "sessions with this resource")
	fl.StringVar(&h.Subject, "subject", "", "sessions that were shown rows of this subject: name:hash")
	fl.StringVar(&since, "since", "", "sessions that went on then or later (RFC 3339)")
	fl.StringVar(&until, "until", "", "sessions opened before (RFC 3339)")
	cmd.MarkFlagRequired("reason")
	return cmd
}

func holdLs() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:     "ls --store DIR",
		Short:   "List the holds that are in force",
		Example: `  sallyport-recorder hold ls --store /var/lib/sallyport-recorder --json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, done, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			list, err := s.Holds(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), list)
			}
			for i := range list {
				h := &list[i]
				fmt.Fprintf(cmd.OutOrStdout(), "hold %d: %s, since %s by %s: %s\n", h.ID, render.Line(h.String()), h.Time.UTC().Format(time.RFC3339), render.Line(h.By), render.Line(h.Reason))
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func holdRm() *cobra.Command {
	var f storeFlags
	var reason string
	cmd := &cobra.Command{
		Use:     "rm HOLD --store DIR --reason TEXT",
		Short:   "Release a hold",
		Example: `  sallyport-recorder hold rm 17 --store /var/lib/sallyport-recorder --reason "case closed"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usageError{fmt.Errorf("%q: give the number of a hold", args[0])}
			}
			by, err := account()
			if err != nil {
				return err
			}
			s, _, done, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			return s.ReleaseHold(cmd.Context(), id, by, reason, time.Now())
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	cmd.MarkFlagRequired("reason")
	return cmd
}
