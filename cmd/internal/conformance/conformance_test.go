//go:build conformance

package conformance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// allowAll names what "*" does not stand for.
const allowAll = `
rules:
  - name: all
    effect: allow
    identity: "*"
    resource: "*"
    commands: ["*", function_call, replication]
    relations: ["*.*"]
`

// results are what became of tests, by name: "pass", "fail", "skip".
type results map[string]string

// compare runs a suite at a server of its own, and at another through a passage.
// What comes out differently is run once more, both ways: there are tests that
// depend on the time of day, or on luck.
func compare(t *testing.T, setup string, run func(t *testing.T, host, port string) results) {
	var direct, through results
	for attempt := range 2 {
		d, p := at(t, setup, false, run), at(t, setup, true, run)
		if attempt == 0 {
			direct, through = d, p
		} else {
			for name := range maps.Keys(through) {
				if d[name] == p[name] {
					direct[name], through[name] = d[name], p[name]
				}
			}
		}
		if maps.Equal(direct, through) {
			break
		}
	}
	if len(direct) == 0 {
		t.Fatal("no test ran")
	}
	t.Logf("direct: %s; through the passage: %s", counts(direct), counts(through))
	names := maps.Clone(direct)
	maps.Copy(names, through)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if direct[name] != through[name] {
			t.Errorf("%s: direct %q, through the passage %q", name, direct[name], through[name])
		}
	}
}

func counts(r results) string {
	n := map[string]int{}
	for _, what := range r {
		n[what]++
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped", n["pass"], n["fail"], n["skip"])
}

// at runs a suite at a fresh server.
func at(t *testing.T, setup string, passage bool, run func(t *testing.T, host, port string) results) (out results) {
	t.Helper()
	name := "direct"
	if passage {
		name = "passage"
	}
	t.Run(name, func(t *testing.T) {
		server, err := postgrestest.Start("", "max_connections=200", "max_prepared_transactions=2")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Stop()
		cmd := exec.Command("/usr/bin/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", server.DSN("postgres"))
		cmd.Stdin = strings.NewReader(setup)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v: %s", err, b)
		}
		address := server.Addr.String()
		if passage {
			address = open(t, server).Addr
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		out = run(t, host, port)
	})
	return out
}

func open(t *testing.T, server *postgrestest.Server) *protocoltest.Passage {
	engine, err := rules.Parse(rules.File{Name: "policy.yaml", Data: []byte(allowAll)})
	if err != nil {
		t.Fatal(err)
	}
	return protocoltest.Open(t, protocoltest.Options{
		Protocol: postgres.New(postgres.Options{
			Analyzer: func(context.Context, string, string) (query.Analyzer, func(), error) {
				return nil, nil, errors.New("nothing is analysed where everything is allowed")
			},
			Digest: func(b []byte) events.Digest { s := sha256.Sum256(b); return events.Digest(s[:8]) },
		}),
		Engine: engine, Server: server.Addr,
	})
}

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// keep writes what a suite said to a folder of the repository that is not
// committed, for whoever looks for the reason of a difference.
func keep(t *testing.T, b []byte) {
	t.Helper()
	keepAs(t, strings.ReplaceAll(t.Name(), "/", "-")+".log", b)
}

func keepAs(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(keepIn(t), name), b, 0o644); err != nil {
		t.Error(err)
	}
}

// keepIn makes that folder.
func keepIn(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(root(t), ".cache", "conformance", "said")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
