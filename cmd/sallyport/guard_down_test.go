package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

// notes counts what is left for the next daemon to record.
func notes(t *testing.T, file string) int {
	t.Helper()
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(noteFolder(cfg.State))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(left)
}

// The guard of an older version is a guard: taking it down is on the record. One
// of a newer version is left alone, and nothing is told of it. Where there is
// none there is nothing to tell.
func TestGuardDownOfAnotherLayout(t *testing.T) {
	for _, step := range []struct {
		pins  string // what is pinned
		notes int
		stays bool
	}{
		{"", 0, false}, {"v1", 1, false}, {"v99", 0, true},
	} {
		t.Run(step.pins, func(t *testing.T) {
			file, pins := guardFile(t, "")
			dir := filepath.Join(pins, step.pins)
			if step.pins != "" {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(pins) })
			}
			_, err := command("guard", "down", "-c", file)
			if step.stays != errors.Is(err, redirect.ErrLayout) || !step.stays && err != nil {
				t.Errorf("guard down: %v", err)
			}
			if _, err := os.Stat(dir); (err == nil) != step.stays {
				t.Errorf("the pins: %v", err)
			}
			if n := notes(t, file); n != step.notes {
				t.Errorf("%d notes for the record, not %d", n, step.notes)
			}
		})
	}
}
