// Package clitest holds documents against the commands that they show.
package clitest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	block = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```|((?:^    [^\n]*\n)+)")
	span  = regexp.MustCompile("`([^`\n]+)`")
	word  = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)
)

// Documents fails the test for each command of root's program, in the Markdown
// files that the patterns match, that root would not take: one that is not there,
// an unknown flag, wrong arguments. At least n commands must be found. Nothing is
// run.
func Documents(t *testing.T, root func() *cobra.Command, n int, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", p, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n -= document(t, root, file, string(text))
		}
	}
	if n > 0 {
		t.Errorf("%d commands fewer than there should be in %s", n, patterns)
	}
}

func document(t *testing.T, root func() *cobra.Command, file, text string) (n int) {
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(strings.ReplaceAll(m[1]+m[2], "\\\n", " ")) {
			args, ok := call(strings.TrimSpace(line), root().Name())
			if !ok {
				continue
			}
			n++
			c, rest, err := root().Find(args)
			if err == nil {
				err = c.ParseFlags(rest)
			}
			if err == nil {
				err = c.ValidateArgs(c.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %s: %v", file, strings.TrimSpace(line), err)
			}
		}
	}
	// In running text a command may stand without its arguments.
	for _, m := range span.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		args, ok := call(m[1], root().Name())
		if !ok || strings.Contains(args[len(args)-1], "|") {
			continue
		}
		n++
		c, rest, _ := root().Find(args)
		if c.HasSubCommands() && len(rest) > 0 {
			t.Errorf("%s: %s: there is no such command", file, m[1])
		}
		for _, w := range rest {
			if name, ok := strings.CutPrefix(w, "--"); ok && name != "" && c.Flag(name) == nil {
				t.Errorf("%s: %s: there is no flag --%s", file, m[1], name)
			}
		}
	}
	return n
}

// before is what may stand in front of a program's name: a prompt, its folder, a
// service's key, or a command that runs it as somebody else.
var before = regexp.MustCompile(`^(?:\$ |sudo |ExecStart=|setpriv .* --clear-groups +)*(?:/usr/local/sbin/)?`)

// call returns the arguments of a line that calls the program.
func call(line, program string) (args []string, ok bool) {
	line, ok = strings.CutPrefix(line[len(before.FindString(line)):], program+" ")
	if !ok {
		return nil, false
	}
	for _, w := range word.FindAllString(line, -1) {
		if strings.ContainsAny(w[:1], "|>#&;") {
			break
		}
		args = append(args, strings.Trim(w, `"'`))
	}
	return args, len(args) > 0
}
