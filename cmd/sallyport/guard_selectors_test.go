package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect"
)

// What a pattern selects, and what appears while no loader runs, is not covered:
// that is said where the guard is brought up and where it is looked at.
func TestSelectorsNeedALoader(t *testing.T) {
	file, pins := guardFile(t, "")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	with := func(cgroups string) {
		text := strings.Replace(string(b), "cgroups: [/sallyport.guarded]", cgroups, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const want = "only while sallyport runs"
	with(`cgroups: [/sallyport.guarded], workloads: [{systemd: "agent@*.service"}, {systemd: readers.slice}]`)
	out, err := command("guard", "up", "-c", file)
	if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "agent@*.service") || strings.Contains(out, "readers.slice") {
		t.Errorf("guard up: %v\n%s", err, out)
	}
	if out, err := command("doctor", "-c", file); err != nil || !strings.Contains(out, "note  selectors: ") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	// It is true: one that appears is not covered.
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root+"/agent@1.service", 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(root + "/agent@1.service")
	s, err := redirect.GetStatus(pins)
	if err != nil || slices.Contains(s.Covered, "/agent@1.service") || !slices.Contains(s.Covered, "/readers.slice") {
		t.Errorf("covered %q, %v", s.Covered, err)
	}

	with("cgroups: [/sallyport.guarded]")
	if out, err := command("guard", "up", "-c", file); err != nil || strings.Contains(out, want) {
		t.Errorf("guard up, of paths: %v\n%s", err, out)
	}
	if out, err := command("doctor", "-c", file); err != nil || strings.Contains(out, "selectors") {
		t.Errorf("doctor, of paths: %v\n%s", err, out)
	}
}
