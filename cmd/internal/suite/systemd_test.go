package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// No unit takes the guard away, and each can be enabled.
func TestUnits(t *testing.T) {
	root := t.TempDir()
	names, err := plantUnits(root, unitFiles)
	if err != nil || len(names) != 6 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, "etc/systemd/system", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "ExecStop") || strings.HasPrefix(line, "Exec") && strings.Contains(line, "guard down") {
				t.Errorf("%s: %s", name, line)
			}
		}
		for _, m := range execLine.FindAllSubmatch(text, -1) {
			if fi, err := os.Stat(filepath.Join(root, string(m[1]))); err != nil || fi.Mode()&0o111 == 0 {
				t.Errorf("%s: %s was not planted: %v", name, m[1], err)
			}
		}
		if !regexp.MustCompile(`(?m)^\[Install\]\nWantedBy=`).Match(text) {
			t.Errorf("%s can't be enabled", name)
		}
	}
}

func TestExposureIsHeldAgainstTheManual(t *testing.T) {
	const doc = "| unit | exposure level |\n|---|---|\n| `a.service` | 4.0 |\n"
	said := "...\n→ Overall exposure level for a.service: %s OK 🙂\n"
	if err := sameExposure("a.service", strings.Replace(said, "%s", "4.0", 1), doc); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"another figure": sameExposure("a.service", strings.Replace(said, "%s", "9.6", 1), doc),
		"another unit":   sameExposure("b.service", strings.Replace(said, "%s", "4.0", 1), doc),
		"no figure":      sameExposure("a.service", "Unit not found", doc),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
