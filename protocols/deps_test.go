package protocols_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "sallyport.dev/sallyport"

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	return strings.Fields(string(out))
}

// The seam imports the vocabulary of the other rooms and the standard library.
func TestImports(t *testing.T) {
	for _, p := range list(t, "-f", `{{join .Imports "\n"}}`, module+"/protocols") {
		first, _, _ := strings.Cut(p, "/")
		switch own := strings.TrimPrefix(p, module+"/"); {
		case own == "events" || own == "intercept" || own == "policy":
		case strings.Contains(first, "."):
			t.Errorf("protocols imports %s", p)
		}
	}
}

// A protocol knows nothing of NATS, of eBPF, of how rules are written, or of
// where an identity came from, not even by what it links.
func TestProtocolsLinkNoOtherLeaf(t *testing.T) {
	may := " events intercept intercept/sandbox policy policy/detect policy/mask "
	deps := list(t, "-deps", "./...")
	seen := map[string]bool{}
	for _, p := range deps {
		seen[p] = true
		own, ours := strings.CutPrefix(p, module+"/")
		if ours && own != "protocols" && !strings.HasPrefix(own, "protocols/") && !strings.Contains(may, " "+own+" ") {
			t.Errorf("a protocol links %s", own)
		}
		for _, other := range []string{"github.com/cilium/", "github.com/nats-io/", "cel.dev/", "github.com/coreos/", "modernc.org/"} {
			if strings.HasPrefix(p, other) {
				t.Errorf("a protocol links %s", p)
			}
		}
	}
	if !seen[module+"/protocols/postgres"] || !seen[module+"/policy"] {
		t.Fatal("go list does not tell what protocols link")
	}
}
