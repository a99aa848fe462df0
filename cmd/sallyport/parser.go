package main

import (
	"errors"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/protocols/postgres/parser"
)

var errParser = errors.New("the parser could not confine itself")

func init() { commands = append(commands, parserCmd) }

// parserCmd is what the daemon starts to parse SQL; nobody else has a use for
// it.
func parserCmd() *cobra.Command {
	return &cobra.Command{
		Use:    parser.Command,
		Short:  "Parse SQL for the daemon, without privileges",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := parser.Main(); code != 0 {
				return &exitError{code: code, err: errParser}
			}
			return nil
		},
	}
}
