package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The test binary also plays who stays connected.
func init() {
	if path := os.Getenv("SALLYPORT_TEST_HOLD"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Exit(1)
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		c.Close()
		os.Exit(0)
	}
}

// A covered process that has been connected to a protected unix socket since
// before the guard is named; one that is not covered is nobody's concern.
func TestDoctorNamesOlderUnixConnections(t *testing.T) {
	file, _ := guardFile(t, "")
	covered, other := redirecttest.Cgroup(t), redirecttest.Cgroup(t)
	path := filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "cgroups: [/sallyport.guarded]", "cgroups: ["+covered+"]", 1)
	text = regexp.MustCompile(`addresses: \[[^]]*\]`).ReplaceAllString(text, fmt.Sprintf("unix: [%q]", path))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SALLYPORT_TEST_HOLD", path)
	stay(t, other, "/proc/self/exe")
	said := func() string {
		out, _ := command("doctor", "-c", file)
		for line := range strings.Lines(out) {
			if strings.Contains(line, "unix connections: ") {
				return line
			}
		}
		return ""
	}
	if s := said(); s != "" {
		t.Errorf("without a guard: %s", s)
	}
	stay(t, covered, "/proc/self/exe")
	if out, err := command("guard", "up", "-c", file); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if s := said(); !strings.HasPrefix(s, "FAIL  ") || !strings.Contains(s, covered+")") || strings.Contains(s, other+")") {
		t.Errorf("%s", s)
	}
}
