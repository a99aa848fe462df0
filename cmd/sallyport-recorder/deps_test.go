package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The recorder runs where no kernel is touched: it must not link eBPF, nor
// what parses an agent's bytes.
func TestLinksNoEBPF(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := string(out)
	if !strings.Contains(deps, "sallyport.dev/sallyport/events/recorder\n") {
		t.Fatal("go list does not tell the recorder's imports")
	}
	// The page of approvals verifies who logs in.
	for _, p := range []string{"sallyport.dev/sallyport/intercept/identity/oidc\n", "sallyport.dev/sallyport/intercept/identity/saml\n", "sallyport.dev/sallyport/intercept/identity\n"} {
		deps = strings.ReplaceAll(deps, p, "")
	}
	for _, p := range []string{
		"github.com/cilium/ebpf", "github.com/google/gopacket", "sallyport.dev/sallyport/bpf",
		"sallyport.dev/sallyport/intercept/", "sallyport.dev/sallyport/protocols/", "github.com/pganalyze/",
	} {
		if strings.Contains(deps, p) {
			t.Errorf("the recorder links %s", p)
		}
	}
}
