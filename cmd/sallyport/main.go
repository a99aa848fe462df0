// Command sallyport is the host daemon and its command line.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli"
	"sallyport.dev/sallyport/cmd/internal/render"
)

// exitError carries an exit code and a hint to main: 1 for a refusal or a
// failure (the default), 2 for bad usage, configuration or policy.
type exitError struct {
	code int
	hint string
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// configError marks err as the user's to correct: exit code 2.
func configError(err error) error { return &exitError{code: 2, err: err} }

// badConfig and badPolicy say besides where to read on.
func badConfig(err error) error {
	return &exitError{code: 2, hint: "docs/operations.md lists the fields of the configuration", err: err}
}

func badPolicy(err error) error {
	return &exitError{code: 2, hint: "docs/policy.md is the manual of the language", err: fmt.Errorf("the policy is refused, as a whole:\n%w", err)}
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := rootCmd()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sallyport:", render.Text(err.Error()))
	code := 1
	var ee *exitError
	if errors.As(err, &ee) {
		code = ee.code
		if ee.hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", ee.hint)
		}
	}
	return code
}

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "Turn agents' connections into a passage that knows, decides, masks and records",
		Example: `  sallyport doctor
  sallyport run --config /etc/sallyport/sallyport.yaml
  sallyport sessions ls --since 1h`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringP("config", "c", "/etc/sallyport/sallyport.yaml", "configuration file")
	for _, c := range commands {
		root.AddCommand(c())
	}
	cli.Strict(root, configError)
	return root
}

// commands is the one table of subcommands; each stands in a file of its name.
var commands []func() *cobra.Command
