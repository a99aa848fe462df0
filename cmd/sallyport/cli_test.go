package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli/clitest"
)

// Every command that people see says what it is for, with an example; what lists
// something does so for machines too.
func TestCommandsAreExplained(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		n++
		if c.Short == "" || !strings.Contains(c.Example, c.Root().Name()+" ") {
			t.Errorf("%s: no short description, or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(rootCmd())
	if n < 20 {
		t.Errorf("%d commands found", n)
	}
	for _, list := range []string{
		"discover", "doctor", "trust show", "trust install", "trust uninstall", "trust probe", "guard status", "sessions ls", "sessions show", "events tail", "verify", "policy check", "policy explain", "policy suggest", "policy test", "policy replay",
	} {
		c, _, err := rootCmd().Find(strings.Fields(list))
		if err != nil || c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json (%v)", list, err)
		}
	}
}

// Bad usage is exit code 2, whoever finds it.
func TestBadUsage(t *testing.T) {
	for args, want := range map[string]string{
		"frobnicate":          `unknown command "frobnicate" for "sallyport"`,
		"doctro":              `did you mean "doctor"?`,
		"sessions lst":        `unknown command "lst" for "sallyport sessions": did you mean "ls"?`,
		"policy frobnicate":   `see sallyport policy --help`,
		"guard frobnicate":    `unknown command`,
		"events follow":       `unknown command`,
		"completion ksh":      `unknown command`,
		"doctor now":          `"now"`,
		"run --frobnicate":    `unknown flag`,
		"sessions ls --limit": `needs an argument`,
		"sessions show":       `exactly one SESSION`,
		"policy check a b":    `at most 1`,
		"policy test":         `name the files`,
		"policy suggest":      `--database DB`,
		"exec -- true":        `--token-file`,
		"verify":              `--store`,
	} {
		_, err := command(strings.Fields(args)...)
		if err == nil || exitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: exit code %d, %v; want 2 and %q", args, exitCode(err), err, want)
		}
	}
	for _, group := range []string{"", "sessions", "policy"} {
		if out, err := command(strings.Fields(group)...); err != nil || !strings.Contains(out, "Available Commands:") {
			t.Errorf("%q: %v, %q", group, err, out)
		}
	}
	if out, err := command("completion", "bash"); err != nil {
		t.Errorf("completion: %v, %q", err, out)
	}
}

func TestDocumentedCommands(t *testing.T) {
	clitest.Documents(t, rootCmd, 30, "../../*.md", "../../docs/*.md")
}
