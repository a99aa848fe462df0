package main

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/cli/clitest"
)

func TestCommandsAreExplained(t *testing.T) {
	for _, c := range append(rootCmd().Commands(), rootCmd()) {
		if c.Short == "" || !strings.Contains(c.Example, "sallyport-recorder ") {
			t.Errorf("%s: no short description, or no example", c.CommandPath())
		}
	}
}

func TestBadUsage(t *testing.T) {
	for _, args := range []string{"frobnicate", "run", "key", "run --frobnicate", "run --store /x now", "completion ksh", "run --store /x --log-format xml"} {
		if code := run(t.Context(), strings.Fields(args)); code != 2 {
			t.Errorf("%s: exit code %d", args, code)
		}
	}
	if code := run(t.Context(), []string{"completion", "bash"}); code != 0 {
		t.Errorf("completion: exit code %d", code)
	}
}

func TestDocumentedCommands(t *testing.T) {
	clitest.Documents(t, rootCmd, 2, "../../*.md", "../../docs/*.md")
}
