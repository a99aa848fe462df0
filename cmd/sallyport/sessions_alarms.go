package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

func sessionsAlarms() *cobra.Command {
	var after int64
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "alarms",
		Short: "List what the recorder found wrong with the hosts' chains",
		Long: `List the recorder's alarms, oldest first: records that were changed, forked,
missing, late, of a second chain, or that could not be read. Each has a number;
the next page begins behind the last one's.`,
		Example: `  sallyport sessions alarms
  sallyport sessions alarms --after 1000 --json | jq -r '.[].what' | sort | uniq -c`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if after < 0 || limit < 1 {
				return configError(fmt.Errorf("--after and --limit: give positive numbers"))
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				list, err := s.Alarms(ctx, after, limit)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), list)
				}
				return listAlarms(cmd.OutOrStdout(), list)
			})
		},
	}
	fl := cmd.Flags()
	fl.Int64Var(&after, "after", 0, "only those behind this number")
	fl.IntVar(&limit, "limit", 1000, "at most so many")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listAlarms(w io.Writer, list []recorder.Alarm) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ALARM\tTIME\tWHAT\tHOST\tCHAIN\tRECORD\tDETAIL")
	for _, a := range list {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", a.ID, a.Time.Local().Format(time.DateTime), render.Line(a.What), dash(a.Host), dash(a.Chain), a.Seq, render.Line(a.Detail))
	}
	return t.Flush()
}
