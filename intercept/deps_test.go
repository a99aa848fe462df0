package intercept_test

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

// The room's vocabulary imports the standard library only. Its leaves know it,
// the events that they make, and no room above.
func TestImports(t *testing.T) {
	may := map[string]string{
		"intercept":                 "",
		"intercept/proc":            "",
		"intercept/cgroup":          "",
		"intercept/redirect":        "intercept intercept/cgroup intercept/proc events bpf",
		"intercept/privsep":         "intercept intercept/cgroup intercept/proc intercept/sandbox intercept/workload",
		"intercept/workload":        "intercept/proc",
		"intercept/sandbox":         "",
		"intercept/discover":        "intercept/proc bpf",
		"intercept/names":           "intercept/rootfile",
		"intercept/names/resolver":  "intercept/names",
		"intercept/rootfile":        "",
		"intercept/broker":          "intercept",
		"intercept/broker/rds":      "intercept/broker",
		"intercept/broker/vault":    "intercept/broker",
		"intercept/identity":        "intercept",
		"intercept/identity/oidc":   "intercept intercept/identity internal/loopback",
		"intercept/identity/saml":   "intercept intercept/identity internal/loopback",
		"intercept/identity/spiffe": "intercept intercept/identity intercept/proc",
		"intercept/tlsport":         "",
	}
	for pkg, allowed := range may {
		for _, p := range list(t, "-f", `{{join .Imports "\n"}}`, module+"/"+pkg) {
			first, _, _ := strings.Cut(p, "/")
			own, ours := strings.CutPrefix(p, module+"/")
			switch {
			case ours && !contains(allowed, own):
				t.Errorf("%s imports %s", pkg, own)
			case pkg == "intercept" && strings.Contains(first, "."):
				t.Errorf("%s imports %s: vocabulary needs the standard library only", pkg, p)
			}
		}
	}
	for _, pkg := range list(t, module+"/intercept/...") {
		own := strings.TrimPrefix(pkg, module+"/")
		if _, ok := may[own]; !ok && !strings.HasSuffix(own, "test") {
			t.Errorf("%s is not in this test: say what it may import", own)
		}
	}
}

func contains(words, word string) bool {
	return strings.Contains(" "+words+" ", " "+word+" ")
}

// Who proves and binds identities does so without a program in the kernel.
func TestLinksNoEBPF(t *testing.T) {
	for _, pkg := range []string{"names", "names/resolver", "privsep", "workload", "identity", "identity/oidc", "identity/saml", "identity/spiffe"} {
		deps := list(t, "-deps", "./"+pkg)
		if len(deps) < 10 {
			t.Fatalf("go list does not tell the imports of %s", pkg)
		}
		for _, p := range deps {
			if strings.HasPrefix(p, "github.com/cilium/") || p == module+"/bpf" {
				t.Errorf("intercept/%s links %s", pkg, p)
			}
		}
	}
}

// What the loader reads of names was never DNS: another process speaks it.
func TestLoaderSpeaksNoDNS(t *testing.T) {
	for pkg, speaks := range map[string]bool{"names": false, "privsep": false, "redirect": false, "names/resolver": true} {
		found := false
		for _, p := range list(t, "-deps", "./"+pkg) {
			found = found || strings.HasPrefix(p, "github.com/miekg/dns")
		}
		if found != speaks {
			t.Errorf("intercept/%s speaks DNS: %t", pkg, found)
		}
	}
}
