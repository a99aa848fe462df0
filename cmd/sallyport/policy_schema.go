package main

import (
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/policy/rules"
)

func policySchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of a policy, for editors",
		Long: `Prints a JSON Schema (draft 2020-12) of a policy file, with which editors complete
and check it while it is written. It is made by the same program that loads
policies, so that it fits this version. What it refuses policy check refuses too;
policy check refuses more.

An editor with the YAML language server finds it by a first line like

  # yaml-language-server: $schema=policy.schema.json`,
		Example: `  sallyport policy schema > policy.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(rules.Schema())
			return err
		},
	}
}
