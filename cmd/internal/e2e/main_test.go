// Package e2e tests a whole sallyport on this host: real agents, a real
// server, the kernel's guard, NATS and the recorder. The stories in testdata
// are written to be read; script_test.go says what their words do.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

var bin string // folder with the programs under test

func TestMain(m *testing.M) {
	switch os.Getenv(clientEnv) {
	case "":
	case "pq":
		os.Exit(pqClient(os.Stdout))
	default:
		os.Exit(client(os.Stdin, os.Stdout))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("the end-to-end tests need root and the kernel's cgroup2 hooks, and were not run: use `make test`")
		return 0
	}
	var err error
	if bin, err = os.MkdirTemp("", "sallyport-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(bin)
	// Agents run programs from here.
	if err := os.Chmod(bin, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := stand.Build(context.Background(), bin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// startStand starts a stand for a test; nothing of it may be left at the end.
func startStand(t *testing.T, o stand.Options) *stand.Stand {
	t.Helper()
	o.Bin = bin
	s, err := stand.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := s.Log(); err == nil {
				t.Logf("sallyport's log:\n%s", log)
			}
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}
