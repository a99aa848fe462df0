package policy_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "sallyport.dev/sallyport"

// imports returns what a package imports, tests apart.
func imports(t *testing.T, of string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, of).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", of, err)
	}
	return strings.Fields(string(out))
}

// The room's vocabulary imports the standard library, events and intercept.
// Its leaves know the vocabulary, and touch nothing of the world: what decides
// depends on nothing but what it is asked. Only loading reads files.
func TestImports(t *testing.T) {
	world := []string{"os", "os/exec", "os/signal", "os/user", "net", "net/http", "syscall", "database/sql", "plugin", "unsafe", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"}
	for pkg, may := range map[string]struct{ own, others, world []string }{
		"policy":          {own: []string{"events", "intercept"}, world: world},
		"policy/mask":     {own: []string{"events", "policy"}, world: world},
		"policy/detect":   {world: world},
		"policy/approval": {own: []string{"events", "intercept", "policy", "internal/visible"}, others: []string{"golang.org/x/text/"}, world: world[:len(world)-1]}, // IDs are random
		"policy/rules":    {own: []string{"events", "intercept", "policy", "policy/detect", "policy/mask"}, others: []string{"cel.dev/cel-go/", "go.yaml.in/yaml/v3"}, world: world[1:]},
	} {
		for _, p := range imports(t, module+"/"+pkg) {
			first, _, _ := strings.Cut(p, "/")
			own, ours := strings.CutPrefix(p, module+"/")
			fine := !strings.Contains(first, ".")
			for _, o := range may.own {
				fine = fine || ours && own == o
			}
			for _, o := range may.others {
				fine = fine || strings.HasPrefix(p, o)
			}
			for _, w := range may.world {
				fine = fine && p != w
			}
			if !fine {
				t.Errorf("%s imports %s", pkg, p)
			}
		}
	}
}
