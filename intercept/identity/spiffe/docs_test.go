package spiffe_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// The example of docs/identity-spiffe.md, line for line: an agent configured as
// it says, its commands, and a daemon that is what it says.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/identity-spiffe.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	if len(blocks["hcl"]) != 1 || len(blocks["sh"]) != 2 {
		t.Fatalf("the page has %d blocks of hcl and %d of sh", len(blocks["hcl"]), len(blocks["sh"]))
	}
	var at func(string) string // the page's paths, in the test's folder
	s := spiretest.Start(t, spiretest.Options{TrustDomain: "example.org", Group: daemonUID, AgentConf: func(s *spiretest.Spire, port int) string {
		at = strings.NewReplacer(
			"/run/spire/server/api.sock", s.Server, "/run/spire/agent/api.sock", s.Workload,
			"/run/spire/admin/api.sock", s.Admin, "/run/spire/broker/api.sock", s.Broker,
			"/etc/spire", s.Dir, "/var/lib/spire", s.Dir, `"spire.example.org"`, `"127.0.0.1"`, `"8081"`, fmt.Sprintf("%q", fmt.Sprint(port)),
			"/usr/bin/psql", "/usr/bin/sleep").Replace
		return at(blocks["hcl"][0])
	}})
	run := func(script string) {
		t.Helper()
		// The users of the page are not on this machine.
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", `id() { case "$2" in sallyport) echo 65532;; billing) echo 65534;; esac; }
`+at(script))
		cmd.Env = append(os.Environ(), "PATH="+spiretest.Bin(t)+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run(blocks["sh"][0])
	child, out := confined(t, s.Dir, spiffe.Config{
		Agent: at("unix:///run/spire/agent/api.sock"), Admin: at("unix:///run/spire/admin/api.sock"), Broker: at("unix:///run/spire/broker/api.sock"),
	}, peerOf(t, agent(t, uidA)), "hold")
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != "spiffe://example.org/agent/billing broker" {
		t.Fatalf("%q %v", line, err)
	}
	run(blocks["sh"][1])
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, spiffe.ErrWithdrawn.Error()) {
		t.Fatalf("%q %v", line, err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}
