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

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// decideTime is how long an approver has for the login.
const decideTime = 5 * time.Minute

func approvalsDecide(verb, short string) *cobra.Command {
	var why string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   verb + " REQUEST --why TEXT",
		Short: short,
		Long: short + `.

It shows the request and prints an address for a browser of this machine, where you
log in at your issuer. Your ID token carries a digest of the request as it is shown,
of the decision and of the reason: the running sallyport verifies it. The reason stands
in the record, with your name.`,
		Example: fmt.Sprintf(`  sudo sallyport approvals %[1]s ap-7ck3n2v5q4hz6w2x2m7d --why "ticket 4711, agreed with ward 3"
  sallyport approvals %[1]s ap-7ck3n2v5q4hz6w2x2m7d --why "ticket 4711, agreed with ward 3" --nats tls://nats.example.com --nkey approvals.nk --host db1`, verb),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeApproval,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := approval.CheckWhy(why); err != nil {
				return configError(fmt.Errorf("--why: %w", err))
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return decideApproval(ctx, cmd, args[0], verb, why, asJSON)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for the record")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("why")
	_ = cmd.RegisterFlagCompletionFunc("why", cobra.NoFileCompletions)
	return cmd
}

func decideApproval(ctx context.Context, cmd *cobra.Command, id, verb, why string, asJSON bool) error {
	d, err := doorOf(cmd)
	if err != nil {
		return err
	}
	if d.device {
		return configError(errors.New("a log-in by device code can't carry what is decided: leave --device out, and log in with a browser of this machine"))
	}
	a, err := askApprovals(cmd, &desk.Ask{Do: desk.Show, ID: id})
	if err != nil {
		return err
	}
	e := &a.Entries[0]
	// What is signed is what is shown.
	if err := showApproval(cmd.ErrOrStderr(), e); err != nil {
		return err
	}
	is, err := approverIssuer(a.Issuers, e.By, fmt.Sprintf("rule %q", e.Rule), d.issuer)
	if err != nil {
		return err
	}
	nonce, err := approval.Nonce(&e.Subject, verb, why)
	if err != nil {
		return err
	}
	token, err := proveDecision(ctx, cmd, is, verb, nonce)
	if err != nil {
		return err
	}
	done, err := askApprovals(cmd, &desk.Ask{Do: verb, ID: id, Why: why, Token: token})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), done.Entries[0])
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", render.Line(id), render.Line(done.Entries[0].State))
	return err
}

// proveDecision has a person log in, and returns their ID token with a nonce.
func proveDecision(ctx context.Context, cmd *cobra.Command, is *desk.Issuer, verb, nonce string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTime)
	defer cancel()
	login := oidc.CodeLogin{Client: is.Client, Scopes: is.Scopes, Nonce: nonce, Tell: func(uri string) error {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "\nto %s, open %s\nin a browser of this machine, and log in\n", verb, render.Line(uri))
		return err
	}}
	return login.IDToken(ctx, is.At(is.Client))
}

// approverIssuer finds where an approver logs in: at an issuer of those who may.
func approverIssuer(all []desk.Issuer, by []policy.Approver, what, want string) (*desk.Issuer, error) {
	var found []*desk.Issuer
	for i := range all {
		is := &all[i]
		if slices.ContainsFunc(by, func(a policy.Approver) bool { return a.Issuer == is.URL }) && (want == "" || want == is.URL) {
			found = append(found, is)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("nobody can prove that they may approve this: the issuer that %s names is not among approvals.issuers of the configuration", render.Line(what))
	}
	return nil, configError(fmt.Errorf("several issuers may vouch for an approver: choose one with --issuer"))
}
