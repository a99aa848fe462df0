package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

func breakglassClose() *cobra.Command {
	var o glassOptions
	cmd := &cobra.Command{
		Use:   "close ID --why TEXT",
		Short: "Close emergency access before its time, once logged in",
		Long: `Closes emergency access before its time. Who may open it may close it, and so may who
reviews it. From then on rules ask again; it must be reviewed all the same.`,
		Example:           `  sudo sallyport breakglass close bg-4fz6w2x2m7d7ck3n2v5q --why "patient is stable"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeGlass,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.mend(cmd, args[0], approval.CloseGlass)
		},
	}
	o.flags(cmd)
	return cmd
}

func breakglassReview() *cobra.Command {
	var o glassOptions
	var found string
	verbs := []string{approval.Justified, approval.Unjustified}
	cmd := &cobra.Command{
		Use:   "review ID --found justified|unjustified --why TEXT",
		Short: "Say what a review of emergency access found, once logged in",
		Long: `Reviews emergency access that has ended. Look at the statements that ran under it
first: each has its ID in approvals on its record. Neither who opened it, nor whom it
was for, nor anybody whose statements ran can review it.`,
		Example: `  sudo sallyport breakglass review bg-4fz6w2x2m7d7ck3n2v5q --found justified --why "seen with ward 3, incident 88"
  sudo sallyport breakglass review bg-4fz6w2x2m7d7ck3n2v5q --found unjustified --why "no patient was in bed 4"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeGlass,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(verbs, found) {
				return configError(fmt.Errorf("--found %q: it is justified or unjustified", found))
			}
			return o.mend(cmd, args[0], found)
		},
	}
	cmd.Flags().StringVar(&found, "found", "", "justified or unjustified")
	_ = cmd.MarkFlagRequired("found")
	_ = cmd.RegisterFlagCompletionFunc("found", cobra.FixedCompletions(verbs, cobra.ShellCompDirectiveNoFileComp))
	o.flags(cmd)
	return cmd
}

// mend closes or reviews one.
func (o *glassOptions) mend(cmd *cobra.Command, id, verb string) error {
	if err := approval.CheckWhy(o.why); err != nil {
		return configError(fmt.Errorf("--why: %w", err))
	}
	a, err := askApprovals(cmd, &desk.Ask{Do: desk.GlassList})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(a.Glasses, func(g approval.Glass) bool { return g.ID == id })
	if i < 0 {
		return fmt.Errorf("%s: nothing is open or to be reviewed by this ID: sallyport breakglass ls lists what is", render.Line(id))
	}
	g := &a.Glasses[i]
	if err := showGlass(cmd.ErrOrStderr(), &g.Opening, g); err != nil {
		return err
	}
	by := slices.Clone(g.Entry.Review)
	for _, of := range a.Provided {
		if of.Name == g.Name {
			by = append(by, of.Review...)
		}
	}
	if verb == approval.CloseGlass {
		by = append(append([]policy.Approver{}, g.Entry.By...), by...)
	}
	return o.prove(cmd, a, &g.Opening, by, verb, &desk.Ask{Do: desk.GlassMend(verb), ID: id})
}
