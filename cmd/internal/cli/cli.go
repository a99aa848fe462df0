// Package cli is what the command lines of the programs have in common.
package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Strict completes a tree of commands. All bad usage is then told through usage,
// which marks an error as the caller's to correct: flags that are unknown or
// missing, wrong arguments, and commands that are not there, within groups too. A
// group by itself shows its help.
func Strict(root *cobra.Command, usage func(error) error) {
	root.Version = version()
	root.InitDefaultVersionFlag()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	examples(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	strict(root, usage)
}

// version is what the program was built from.
func version() string {
	v := "dev"
	if bi, ok := debug.ReadBuildInfo(); ok {
		if m := bi.Main.Version; m != "" && m != "(devel)" {
			v = m
		}
	}
	return v + " (" + runtime.Version() + ")"
}

func strict(c *cobra.Command, usage func(error) error) {
	for _, sub := range c.Commands() {
		strict(sub, usage)
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.DisableFlagsInUseLine, c.SuggestionsMinimumDistance = true, 2
		c.Args = known
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	args := c.Args
	c.Args = func(c *cobra.Command, given []string) error {
		err := c.ValidateRequiredFlags()
		if err == nil {
			err = c.ValidateFlagGroups()
		}
		if err == nil && args != nil {
			err = args(c, given)
		}
		if err != nil {
			return usage(err)
		}
		return nil
	}
}

// known refuses what cobra took for an argument because no command is called so.
func known(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q for %q: did you mean %q?", args[0], c.CommandPath(), near[0])
	}
	return fmt.Errorf("unknown command %q for %q: see %[2]s --help", args[0], c.CommandPath())
}

// examples gives those commands examples that cobra makes itself.
func examples(root *cobra.Command) {
	load := map[string]string{
		"bash":       "source <(%s completion bash)",
		"zsh":        "source <(%s completion zsh)",
		"fish":       "%s completion fish | source",
		"powershell": "%s completion powershell | Out-String | Invoke-Expression",
	}
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Example = "  " + root.Name() + " help run"
		case "completion":
			c.Example = "  " + fmt.Sprintf(load["bash"], root.Name())
			for _, shell := range c.Commands() {
				shell.Example = "  " + fmt.Sprintf(load[shell.Name()], root.Name())
			}
		}
	}
}
