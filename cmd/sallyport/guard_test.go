package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// guardFile writes a configuration that guards an address of nobody's.
func guardFile(t *testing.T, more string) (file, pins string) {
	t.Helper()
	redirecttest.Lock(t)
	pins = redirecttest.TempPins(t)
	dir := t.TempDir()
	file = filepath.Join(dir, "sallyport.yaml")
	text := fmt.Sprintf(`host: test
state: %s/state
run: %[1]s/run
interception: {mode: cgroup, cgroups: [/sallyport.guarded], port: %[2]d, pins: %[3]s}
resources:
  - {name: clinic, protocol: postgres, addresses: ["127.0.0.1:%[4]d"]}
identity:
  issuers: [{url: "http://127.0.0.1:1", audience: test}]
%[5]s`, dir, redirecttest.Port(t), pins, redirecttest.Port(t), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, pins
}

func command(args ...string) (string, error) {
	var out bytes.Buffer
	root := rootCmd()
	root.SetArgs(args)
	root.SetOut(&out)
	err := root.Execute()
	return out.String(), err
}

func TestGuardUpStatusDown(t *testing.T) {
	file, _ := guardFile(t, "")
	if _, err := command("guard", "status", "-c", file); err == nil || !strings.Contains(err.Error(), "guard up") {
		t.Errorf("status before up: %v", err)
	}
	if out, err := command("doctor", "-c", file); err != nil || !strings.Contains(out, "note  guard: not up") {
		t.Errorf("doctor before up: %v\n%s", err, out)
	}
	if out, err := command("guard", "up", "-c", file); err != nil || !strings.Contains(out, "the guard is up") {
		t.Fatalf("up: %q, %v", out, err)
	}
	out, err := command("guard", "status", "--json", "-c", file)
	var s redirect.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if err != nil || !s.Up || s.Daemon || s.Mode != "cgroup" || len(s.Destinations) != 1 || s.Destinations[0].Prefix.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("status %+v, %v", s, err)
	}
	if out, err := command("guard", "status", "-c", file); err != nil || !strings.Contains(out, "covered connections are refused") {
		t.Errorf("status: %q, %v", out, err)
	}
	if out, err := command("doctor", "-c", file); err != nil || !regexp.MustCompile(`(?m)^pass  guard: up, [0-9]+ programs attached$`).MatchString(out) || strings.Contains(out, "FAIL") || !strings.Contains(out, "note  daemon: none") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	if out, err := command("guard", "down", "-c", file); err != nil || out != "the guard is down\n" {
		t.Errorf("down: %q, %v", out, err)
	}
	if _, err := command("guard", "status", "-c", file); err == nil {
		t.Error("status after down: no error")
	}
}

func TestDoctorFailsWithRemedy(t *testing.T) {
	file, _ := guardFile(t, "nonsense: 1\n")
	out, err := command("doctor", "--json", "-c", file)
	if err == nil {
		t.Error("a broken configuration: no error")
	}
	var list []finding
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.OK != (f.Check != "configuration") {
			t.Errorf("%+v", f)
		}
	}
	if f := list[0]; f.OK || f.Remedy == "" || !strings.Contains(f.Detail, "nonsense") {
		t.Errorf("%+v", f)
	}

	// A machine that lacks all of it: each once, and no program tried in vain.
	empty := t.TempDir()
	list = diagnose(redirect.Host{Proc: empty, Sys: empty}, file)
	guard := slices.IndexFunc(list, func(f finding) bool { return f.Check == "guard" })
	if guard < 1 || list[guard-1].Check != "programs" {
		t.Fatalf("%+v", list)
	}
	for _, f := range list[:guard] {
		if f.OK || f.Remedy == "" || f.Detail == "" {
			// The real one's pins are checked, and nothing of a machine.
			if f.Check != "bpffs" && f.Check != "enforcement" || !f.OK {
				t.Errorf("%+v", f)
			}
		}
	}
}
