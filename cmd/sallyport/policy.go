package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/policy/rules"
)

func init() { commands = append(commands, policyCmd) }

func policyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check a policy, ask it, and test it",
		Long: `The policy says who may do what, and what they see of it. These commands read
its files and change nothing: a running daemon keeps the policy that it has until
it is told to reload. docs/policy.md describes the language.`,
		Example: `  sallyport policy check
  sallyport policy check ./policy.d
  sallyport policy explain --as billing-agent --resource clinic --database clinic "SELECT ssn FROM clinic.patients"
  sallyport policy test policy.test.yaml
  sallyport policy replay --policy new.yaml --since 24h
  sallyport policy schema > policy.schema.json`,
	}
	cmd.AddCommand(policyCheckCmd(), policyExplainCmd(), policyReplayCmd(), policySchemaCmd(), policySuggestCmd(), policyTestCmd())
	return cmd
}

// checkReport is what check prints with --json.
type checkReport struct {
	Path     string         `json:"path"`
	Good     bool           `json:"good"`
	Rules    []rules.Rule   `json:"rules"`
	Errors   []*rules.Error `json:"errors"`
	Warnings []*rules.Error `json:"warnings"`
	// Observing are the rules that are not enforced.
	Observing []*rules.Error `json:"observing,omitempty"`
}

func policyCheckCmd() *cobra.Command {
	var asJSON bool
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "check [PATH]",
		Short: "Say what is wrong with a policy, or that nothing is",
		Long: `Reads a policy, a file or a folder of *.yaml files, as the daemon would, and
prints each thing that is wrong with its file, its line and what to do. Without
PATH it is the policy of the configuration; resources and workloads that rules
name and the configuration does not have are then told as warnings.

With --database, what the policy masks on the resource is held against that
database: columns that are not there, and masks that show NULL because they are
not for the column's type, are then wrong too.

Exit codes: 0 the policy is good, 2 it is not.`,
		Example: `  sallyport policy check
  sallyport policy check policy.yaml
  sallyport policy check --resource clinic --database clinic --server /run/postgresql
  sallyport policy check policy.d --json | jq '.errors[].problem'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rep, err := checkPolicy(cmd, args, &o)
			out := cmd.OutOrStdout()
			if asJSON && rep != nil {
				if perr := printJSON(out, rep); perr != nil {
					return perr
				}
			} else if err == nil {
				printCheck(out, rep)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	f.StringVar(&o.database, "database", "", "database to hold the masks against")
	f.StringVar(&o.resource, "resource", "", "the database's resource (default: the only one)")
	f.StringVar(&o.server, "server", "", "where the server is reached: HOST:PORT, or the folder of its unix socket")
	cmd.MarkFlagDirname("server")
	return cmd
}

// checkPolicy returns a report wherever the policy was read, and an error
// unless it is good.
func checkPolicy(cmd *cobra.Command, args []string, o *explainOptions) (*checkReport, error) {
	var cfg *config.Config
	rep := &checkReport{Rules: []rules.Rule{}, Errors: []*rules.Error{}, Warnings: []*rules.Error{}}
	if len(args) == 0 || o.database != "" {
		var err error
		if cfg, err = commandConfig(cmd); err != nil {
			return nil, err
		}
		rep.Path = cfg.Policy
	}
	if len(args) == 1 {
		rep.Path = args[0]
	}
	p, err := rules.Load(rep.Path)
	if err != nil {
		for e := range policyErrors(err) {
			rep.Errors = append(rep.Errors, e)
		}
		if len(rep.Errors) == 0 {
			return nil, configError(err)
		}
		return rep, badPolicy(err)
	}
	if cfg != nil && cfg.MaskingKey() == nil {
		if err := p.NeedsKey(); err != nil {
			for e := range policyErrors(err) {
				rep.Errors = append(rep.Errors, e)
			}
			return rep, badPolicy(err)
		}
	}
	if cfg != nil && cfg.SubjectKey() == nil {
		if err := p.NeedsSubjectKey(); err != nil {
			for e := range policyErrors(err) {
				rep.Errors = append(rep.Errors, e)
			}
			return rep, badPolicy(err)
		}
	}
	rep.Good, rep.Rules = true, p.Rules()
	if cfg != nil {
		rep.Warnings = append(rep.Warnings, p.Unmatched(namesOf(cfg))...)
	}
	rep.Observing = p.Observing()
	if o.database != "" {
		return rep, rep.against(cmd.Context(), p, cfg, o)
	}
	return rep, nil
}

// policyErrors ranges over what is wrong in a policy's files.
func policyErrors(err error) func(func(*rules.Error) bool) {
	return func(yield func(*rules.Error) bool) {
		list := []error{err}
		if m, ok := err.(interface{ Unwrap() []error }); ok {
			list = m.Unwrap()
		}
		for _, e := range list {
			var pe *rules.Error
			if errors.As(e, &pe) && !yield(pe) {
				return
			}
		}
	}
}

func namesOf(cfg *config.Config) (resources, workloads []string) {
	for _, r := range cfg.Resources {
		resources = append(resources, r.Name)
	}
	for _, w := range cfg.Identity.Workloads {
		workloads = append(workloads, w.Name)
	}
	return resources, workloads
}

func printCheck(w io.Writer, rep *checkReport) {
	effects, files := map[string]int{}, map[string]bool{}
	for _, r := range rep.Rules {
		effects[r.Effect]++
		files[r.File] = true
	}
	fmt.Fprintf(w, "%s is good: %s", render.Line(rep.Path), count(len(rep.Rules), "rule"))
	for _, e := range slices.Sorted(maps.Keys(effects)) {
		fmt.Fprintf(w, ", %d %s", effects[e], e)
	}
	if len(files) > 1 {
		fmt.Fprintf(w, ", in %d files", len(files))
	}
	fmt.Fprintln(w)
	for _, e := range rep.Warnings {
		fmt.Fprintf(w, "warning: %s: the rule never applies to it\n", render.Line(e.Error()))
	}
	for _, e := range rep.Observing {
		fmt.Fprintf(w, "warning: %s\n", render.Line(e.Error()))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
