package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

func init() { commands = append(commands, approvalsCmd) }

func approvalsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approvals",
		Short: "List, show and decide requests for approval; wait for one's own",
		Long: `List, show and decide requests for approval of the sallyport that runs here
(docs/approvals.md). Listing and showing needs root. Deciding needs root to bring the
decision, and a person who logs in and proves it: root alone decides nothing.

With --nats it is the sallyport of another host that is asked, over NATS, by whoever
has the key of the role "approvals": it needs no root and no configuration. --device
has it list and show what one person may decide, who logs in by device code, anywhere,
and is named on the record. Such a log-in decides nothing: to decide, log in with a
browser of this machine.

An agent waits for its own request, or withdraws it, without any privilege.`,
		Example: `  sudo sallyport approvals ls
  sudo sallyport approvals show ap-7ck3n2v5q4hz6w2x2m7d
  sudo sallyport approvals approve ap-7ck3n2v5q4hz6w2x2m7d --why "duplicate visit, ticket 4711"
  sallyport approvals ls --nats tls://nats.example.com --nkey approvals.nk --host db1 --device
  sallyport approvals wait ap-7ck3n2v5q4hz6w2x2m7d`,
	}
	doorFlags(cmd)
	cmd.AddCommand(approvalsLs(), approvalsShow(), approvalsWait(), approvalsWithdraw())
	for verb, short := range map[string]string{
		approval.Approve: "Let what is asked for run, once logged in", approval.Deny: "Refuse what is asked for, once logged in",
		approval.Revoke: "Take back what was approved and is not used yet, once logged in",
	} {
		cmd.AddCommand(approvalsDecide(verb, short))
	}
	return cmd
}

func approvalsLs() *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List what waits, and what is approved and not used up",
		Example: `  sudo sallyport approvals ls
  sudo sallyport approvals ls --all --json | jq '.[].id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := askApprovals(cmd, &desk.Ask{Do: desk.List, All: all})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), a.Entries)
			}
			return listApprovals(cmd.OutOrStdout(), a.Entries)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those too that have ended lately")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listApprovals(w io.Writer, list []approval.Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REQUEST\tSTATE\tUNTIL\tRULE\tWORKLOAD\tFOR\tRESOURCE\tDOES")
	for i := range list {
		e := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", render.Line(e.ID), render.Line(e.State), e.Ends.Local().Format(time.DateTime),
			render.Line(e.Rule), dash(e.Who.Workload), dash(e.Who.Principal), dash(e.Where.Resource), dash(strings.Join(e.What.Commands, ",")))
	}
	return t.Flush()
}

func approvalsShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show REQUEST",
		Short:             "Show what is to be approved, exactly",
		Example:           `  sudo sallyport approvals show ap-7ck3n2v5q4hz6w2x2m7d`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeApproval,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := askApprovals(cmd, &desk.Ask{Do: desk.Show, ID: args[0]})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), a.Entries[0])
			}
			return showApproval(cmd.OutOrStdout(), &a.Entries[0])
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// showApproval prints a request: data of an agent's, of which nothing may act on
// the terminal.
func showApproval(w io.Writer, e *approval.Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		if s := fmt.Sprintf(format, args...); s != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, render.Line(s))
		}
	}
	line("request", "%s", e.ID)
	line("host", "%s", e.Host)
	line("state", "%s, until %s", e.State, e.Ends.Local().Format(time.RFC3339))
	line("rule", "%s", e.Rule)
	line("reason", "%s", e.Reason)
	line("covers", "%s, %s", e.Covers, usesText(e))
	for _, n := range slices.Sorted(maps.Keys(e.Free)) {
		line("free", "$%d may be any of %q", n, e.Free[n])
	}
	line("people", "%d must approve", e.Count)
	line("workload", "%s", e.Who.Workload)
	line("SPIFFE ID", "%s", e.Who.SPIFFE)
	line("actor", "%s, of %s", strings.Join(slices.Concat(e.Who.Actors, []string{e.Who.Subject}), " for "), e.Who.Issuer)
	if e.Who.Principal != "" {
		line("for", "%s, of %s", e.Who.Principal, e.Who.PrincipalIssuer)
	}
	for _, k := range e.Who.Known {
		for _, name := range slices.Sorted(maps.Keys(k.Claims)) {
			line("known as", "%s %s, of %s", name, k.Claims[name], k.Issuer)
		}
	}
	line("proof", "%s", e.Who.Proof)
	line("resource", "%s, database %s, user %s", e.Where.Resource, e.Where.Database, e.Where.User)
	line("does", "%s", strings.Join(e.What.Commands, ", "))
	line("reaches", "%s", strings.Join(e.What.Objects, ", "))
	if e.What.Through != "" {
		line("rule is on", "%s, reached through %s", e.What.About, e.What.Through)
	}
	line("masked", "%s", strings.Join(e.What.Masked, ", "))
	line("in clear", "%s", strings.Join(e.What.Revealed, ", "))
	line("meaning", "%s", e.What.Meaning)
	for _, s := range e.What.Settings {
		line("setting", "%s", s)
	}
	showKnown(line, e)
	for _, d := range e.Decisions {
		how := ""
		if d.SAML != "" {
			how = ", by the weaker proof (SAML and a recorder's word)"
		}
		line(d.Verb, "by %s of %s at %s%s: %s", d.Subject, d.Issuer, d.At.Local().Format(time.RFC3339), how, d.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if e.What.Text != "" {
		fmt.Fprintf(w, "\n%s", barred(e.What.Text))
	}
	for i, n := range e.What.Names {
		fmt.Fprintf(w, "\nname %d stands for\n%s", i+1, barred(n))
	}
	if len(e.What.Parameters) > 0 {
		fmt.Fprintln(w)
	}
	types := pgtype.NewMap()
	for i, p := range e.What.Parameters {
		kind := fmt.Sprintf("type %d", p.Type)
		if p.Type == 0 {
			kind = "type that the server finds"
		} else if t, ok := types.TypeForOID(p.Type); ok && e.Where.Protocol == "postgres" {
			kind = t.Name
		}
		switch {
		case p.Null:
			fmt.Fprintf(w, "$%d (%s) is NULL\n", i+1, kind)
		case p.Binary:
			fmt.Fprintf(w, "$%d (%s, binary, hex) | %x\n", i+1, kind, p.Value)
		default:
			fmt.Fprintf(w, "$%d (%s, text) | %s\n", i+1, kind, render.Line(string(p.Value)))
		}
	}
	return nil
}

// barred is an agent's text, in which no line can be taken for one of ours.
func barred(s string) string {
	return "| " + strings.ReplaceAll(render.Text(s), "\n", "\n| ") + "\n"
}

func usesText(e *approval.Entry) string {
	if e.Uses == 0 {
		return "any number of uses for " + e.Grant.String()
	}
	return fmt.Sprintf("%d of %d uses left, for %s", e.Left, e.Uses, e.Grant)
}

// askApprovals asks a host about its approvals.
func askApprovals(cmd *cobra.Command, q *desk.Ask) (*desk.Answer, error) {
	d, err := doorOf(cmd)
	if err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return d.ask(ctx, cmd, q)
}

// askHere asks the sallyport that runs here; question and answer are in files of
// memory, so that the loader reads neither.
func askHere(ctx context.Context, cmd *cobra.Command, q *desk.Ask) (*desk.Answer, error) {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, &exitError{code: 1, err: errors.New("this asks the running sallyport, which root may"), hint: "run it with sudo; an agent waits for its own with sallyport approvals wait"}
	}
	return askApprovalsOf(ctx, cfg, q)
}

func askApprovalsOf(ctx context.Context, cfg *config.Config, q *desk.Ask) (*desk.Answer, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ask, err := memory("question", b)
	if err != nil {
		return nil, err
	}
	defer ask.Close()
	answer, err := memory("answer", nil)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	t, err := privsep.Call(ctx, controlPath(cfg))
	if err != nil {
		return nil, err
	}
	defer t.Close()
	defer context.AfterFunc(ctx, func() { t.Close() })()
	if err := t.Send(privsep.Message{Do: sayApprovals, Names: []string{"question", "answer"}, FDs: []int{int(ask.Fd()), int(answer.Fd())}}); err != nil {
		return nil, err
	}
	if _, err := receive(t, sayApprovals, loginTime+stepTime); err != nil {
		return nil, err
	}
	a := &desk.Answer{}
	if err := json.NewDecoder(io.NewSectionReader(answer, 0, 1<<40)).Decode(a); err != nil || q.OfOne() && len(a.Entries) != 1 {
		return nil, errors.New("the running sallyport's answer is not understood: it is of another version")
	}
	return a, nil
}

func completeApproval(cmd *cobra.Command, args []string, prefix string) (ids []string, _ cobra.ShellCompDirective) {
	if a, err := askToComplete(cmd, &desk.Ask{Do: desk.List}); err == nil && len(args) == 0 {
		for i := range a.Entries {
			if strings.HasPrefix(a.Entries[i].ID, prefix) {
				ids = append(ids, render.Line(a.Entries[i].ID))
			}
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
