package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// glassLasts is how long emergency access is open that does not say it.
const glassLasts = 15 * time.Minute

// glassOptions are those that each step has.
type glassOptions struct {
	why, issuer string
	asJSON      bool
}

func (o *glassOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.why, "why", "", "the reason, for the record")
	cmd.Flags().StringVar(&o.issuer, "issuer", "", "issuer to log in at; needed where several may vouch for you")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("why")
	for _, f := range []string{"why", "issuer"} {
		_ = cmd.RegisterFlagCompletionFunc(f, cobra.NoFileCompletions)
	}
}

func breakglassOpen() *cobra.Command {
	var o glassOptions
	var request string
	var want approval.Opening
	cmd := &cobra.Command{
		Use:   "open NAME --why TEXT (--request REQUEST | --resource R --workload W [--for PERSON])",
		Short: "Open emergency access, once logged in",
		Long: `Opens emergency access by its name in the policy, for exactly one workload, one
person and one resource: those of a request for approval that was just refused, or as
they are named.

It prints an address for a browser of this machine, where you log in. Your ID token
carries a digest of what you open and of the reason. An alarm is raised, and somebody
else will review it.`,
		Example: `  sudo sallyport breakglass open "ward emergency" --request ap-7ck3n2v5q4hz6w2x2m7d --why "patient unconscious, bed 4"
  sudo sallyport breakglass open "ward emergency" --resource clinic --workload triage-agent --for dr-kim --lasts 30m --why "patient unconscious, bed 4"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeGlassName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := approval.CheckWhy(o.why); err != nil {
				return configError(fmt.Errorf("--why: %w", err))
			}
			if request != "" {
				if err := openingOf(cmd, request, &want); err != nil {
					return err
				}
			}
			return o.open(cmd, args[0], &want)
		},
	}
	f := cmd.Flags()
	f.StringVar(&request, "request", "", "request for approval that says whose and where")
	f.StringVar(&want.Resource, "resource", "", "resource on which rules do not ask")
	f.StringVar(&want.Workload, "workload", "", "workload whose statements run")
	f.StringVar(&want.For, "for", "", "whom it acts for; if it acts for nobody, the subject of its own token")
	f.StringVar(&want.ForIssuer, "for-issuer", "", "issuer of that one's token; default: the only one of the configuration")
	f.DurationVar(&want.Lasts, "lasts", 0, "how long (default 15m, or the policy's longest if that is less)")
	cmd.MarkFlagsMutuallyExclusive("request", "resource")
	cmd.MarkFlagsMutuallyExclusive("request", "workload")
	cmd.MarkFlagsMutuallyExclusive("request", "for")
	cmd.MarkFlagsOneRequired("request", "resource")
	cmd.MarkFlagsRequiredTogether("resource", "workload")
	_ = cmd.RegisterFlagCompletionFunc("request", completeApproval)
	for _, n := range []string{"resource", "workload", "for", "for-issuer", "lasts"} {
		_ = cmd.RegisterFlagCompletionFunc(n, cobra.NoFileCompletions)
	}
	o.flags(cmd)
	return cmd
}

// openingOf takes from a request for approval whose it is, and where.
func openingOf(cmd *cobra.Command, request string, o *approval.Opening) error {
	a, err := askApprovals(cmd, &desk.Ask{Do: desk.Show, ID: request})
	if err != nil {
		return err
	}
	e := &a.Entries[0]
	o.Resource, o.Workload, o.For, o.ForIssuer = e.Where.Resource, e.Who.Workload, e.Who.Principal, e.Who.PrincipalIssuer
	if o.For == "" {
		o.For, o.ForIssuer = e.Who.Subject, e.Who.Issuer
	}
	return nil
}

// onlyIssuer is the issuer of agents' and people's tokens, where there is one.
func onlyIssuer(cfg *config.Config) (string, error) {
	if n := len(cfg.Identity.Issuers) + len(cfg.Identity.SAML); n != 1 {
		return "", configError(fmt.Errorf("--for needs --for-issuer: the configuration has %d issuers", n))
	}
	for _, is := range cfg.Identity.Issuers {
		return is.URL, nil
	}
	return cfg.Identity.SAML[0].EntityID, nil
}

func (o *glassOptions) open(cmd *cobra.Command, name string, want *approval.Opening) error {
	cfg, err := commandConfig(cmd)
	if err != nil {
		return err
	}
	if want.For != "" && want.ForIssuer == "" {
		if want.ForIssuer, err = onlyIssuer(cfg); err != nil {
			return err
		}
	}
	a, err := askApprovals(cmd, &desk.Ask{Do: desk.GlassBegin, Name: name})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(a.Provided, func(g policy.BreakGlass) bool { return g.Name == name })
	if i < 0 || a.Opening == nil {
		return errors.New("the running sallyport's answer is not understood: it is of another version")
	}
	of, g := &a.Provided[i], a.Opening
	g.Resource, g.Workload, g.For, g.ForIssuer, g.Lasts = want.Resource, want.Workload, want.For, want.ForIssuer, want.Lasts
	if g.Lasts == 0 {
		g.Lasts = min(glassLasts, of.Longest)
	}
	if err := g.Fits(of); err != nil { // before anybody logs in
		return err
	}
	// What is signed is what is shown.
	if err := showGlass(cmd.ErrOrStderr(), g, nil); err != nil {
		return err
	}
	return o.prove(cmd, a, g, of.By, approval.OpenGlass, &desk.Ask{Do: desk.GlassOpen, Glass: g})
}

// toDo are steps in words.
var toDo = map[string]string{
	approval.OpenGlass: "have it opened", approval.CloseGlass: "have it closed",
	approval.Justified: "find it justified", approval.Unjustified: "find it unjustified",
}

// prove has a person log in for a step, and brings it to the running sallyport.
func (o *glassOptions) prove(cmd *cobra.Command, a *desk.Answer, g *approval.Opening, by []policy.Approver, verb string, q *desk.Ask) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	is, err := approverIssuer(a.Issuers, by, fmt.Sprintf("break_glass %q", g.Name), o.issuer)
	if err != nil {
		return err
	}
	nonce, err := approval.GlassNonce(g, verb, o.why)
	if err != nil {
		return err
	}
	if q.Token, err = proveDecision(ctx, cmd, is, toDo[verb], nonce); err != nil {
		return err
	}
	q.Why = o.why
	done, err := askApprovals(cmd, q)
	if err != nil {
		return err
	}
	if len(done.Glasses) != 1 {
		return errors.New("the running sallyport's answer is not understood: it is of another version")
	}
	n := &done.Glasses[0]
	if o.asJSON {
		return printJSON(cmd.OutOrStdout(), n)
	}
	text := fmt.Sprintf("%s is %s", n.ID, n.State)
	switch n.State {
	case approval.GlassOpen:
		text += " until " + n.Ends.Local().Format(time.RFC3339) + "; it must be reviewed by " + n.ReviewBy.Local().Format(time.RFC3339)
	case approval.GlassClosed:
		text += "; it must be reviewed by " + n.ReviewBy.Local().Format(time.RFC3339)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), render.Line(text))
	return err
}
