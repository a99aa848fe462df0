package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

func init() { commands = append(commands, breakglassCmd) }

func breakglassCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "breakglass",
		Short: "Open emergency access, close it, and review it afterwards",
		Long: `Emergency access (docs/break-glass.md): for a time, statements of one workload, for
one person, on one resource, run without the approval that a rule asks for. The policy
says who may open it and who must review it (break_glass). It lifts no block, no mask,
no filter and no limit.

Opening raises an alarm. Each statement that runs under it names it on its record. Until
somebody else has reviewed it, alarms go on.

Listing needs root. The others need root to bring them, and a person who logs in and
proves it: root alone opens nothing.`,
		Example: `  sudo sallyport breakglass open "ward emergency" --request ap-7ck3n2v5q4hz6w2x2m7d --why "patient unconscious, bed 4"
  sudo sallyport breakglass ls
  sudo sallyport breakglass close bg-4fz6w2x2m7d7ck3n2v5q --why "patient is stable"
  sudo sallyport breakglass review bg-4fz6w2x2m7d7ck3n2v5q --found justified --why "seen with ward 3, incident 88"`,
	}
	cmd.AddCommand(breakglassOpen(), breakglassLs(), breakglassClose(), breakglassReview())
	return cmd
}

func breakglassLs() *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List what is open, and what nobody has reviewed",
		Example: `  sudo sallyport breakglass ls
  sudo sallyport breakglass ls --all --json | jq '.[] | select(.state != "reviewed") | .id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := askApprovals(cmd, &desk.Ask{Do: desk.GlassList, All: all})
			if err != nil {
				return err
			}
			if asJSON {
				if a.Glasses == nil {
					a.Glasses = []approval.Glass{}
				}
				return printJSON(cmd.OutOrStdout(), a.Glasses)
			}
			return listGlass(cmd.OutOrStdout(), a.Glasses, time.Now())
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "that too which was reviewed in the last hour")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listGlass(w io.Writer, list []approval.Glass, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tUNTIL\tREVIEW BY\tNAME\tWORKLOAD\tFOR\tRESOURCE\tUSED\tOPENED BY")
	for i := range list {
		g := &list[i]
		by := g.ReviewBy.Local().Format(time.DateTime)
		switch {
		case g.State == approval.GlassReviewed:
			by = "-"
		case now.After(g.ReviewBy):
			by += " (overdue)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", render.Line(g.ID), render.Line(g.State), g.Ends.Local().Format(time.DateTime), by,
			dash(g.Name), dash(g.Workload), dash(g.For), dash(g.Resource), g.Used, dash(g.Decisions[0].Subject))
	}
	return t.Flush()
}

// showGlass prints what somebody is about to sign.
func showGlass(w io.Writer, o *approval.Opening, g *approval.Glass) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, render.Line(fmt.Sprintf(format, args...)))
	}
	line("emergency access", "%s, %s", o.Name, o.ID)
	line("host", "%s", o.Host)
	line("resource", "%s", o.Resource)
	line("workload", "%s", o.Workload)
	if o.For != "" {
		line("for", "%s, of %s", o.For, o.ForIssuer)
	}
	line("lasts", "%s", o.Lasts)
	if g != nil {
		line("state", "%s; open from %s until %s", g.State, g.Opened.Local().Format(time.RFC3339), g.Ends.Local().Format(time.RFC3339))
		line("rules", "%s do not ask", strings.Join(g.Entry.Rules, ", "))
		line("used", "by %d statements, which name it in approvals on their records", g.Used)
		for _, u := range g.Users {
			line("used by", "%s %s of %s", u.Workload, strings.Join(append(append([]string{}, u.Actors...), u.Subject), " for "), u.Issuer)
		}
		for _, d := range g.Decisions {
			line(d.Verb, "by %s of %s at %s: %s", d.Subject, d.Issuer, d.At.Local().Format(time.RFC3339), d.Why)
		}
	}
	return t.Flush()
}

// completeGlass completes the IDs of what is listed.
func completeGlass(cmd *cobra.Command, args []string, prefix string) (ids []string, _ cobra.ShellCompDirective) {
	if a, err := askApprovals(cmd, &desk.Ask{Do: desk.GlassList}); err == nil && len(args) == 0 {
		for i := range a.Glasses {
			if strings.HasPrefix(a.Glasses[i].ID, prefix) {
				ids = append(ids, render.Line(a.Glasses[i].ID))
			}
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeGlassName completes what the policy provides.
func completeGlassName(cmd *cobra.Command, args []string, prefix string) (names []string, _ cobra.ShellCompDirective) {
	if a, err := askApprovals(cmd, &desk.Ask{Do: desk.GlassList}); err == nil && len(args) == 0 {
		for i := range a.Provided {
			if strings.HasPrefix(a.Provided[i].Name, prefix) {
				names = append(names, a.Provided[i].Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
