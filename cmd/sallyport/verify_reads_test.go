package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Who read the evidence can't be taken off its record again: against an earlier look at it
// an end that was cut off shows, and so does another record in its place.
func TestReadingsThatAreGone(t *testing.T) {
	store := reportStore0(t)
	out := func(name string) string { return filepath.Join(t.TempDir(), name) }
	read := func(want int) {
		t.Helper()
		sallyport(t, want, "report", "--store", store, "--from", "2026-01-01", "--to", "2027-01-01", "--no-log", "-o", out("bundle.zip"))
	}
	folder := filepath.Join(store, "reads")
	segment := filepath.Join(folder, "00000000000000000001.seg")
	// noted is an earlier look, in a file.
	noted := func() string {
		t.Helper()
		rep, err := verifyJournal(folder, nil)
		if err != nil || rep.Fault != nil || rep.Last == 0 {
			t.Fatalf("%+v %v", rep, err)
		}
		b, err := json.Marshal(verifyReport{Sound: true, Journal: rep})
		if err != nil {
			t.Fatal(err)
		}
		return written(t, string(b))
	}
	read(0)
	early, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	first := noted()
	read(0)
	now := noted()
	sallyport(t, 0, "verify", "--journal", folder, "--expect", first)
	sallyport(t, 0, "verify", "--journal", folder, "--expect", now)
	sallyport(t, 2, "verify", "--store", store, "--expect", now)
	if err := os.WriteFile(segment, early, 0o600); err != nil {
		t.Fatal(err)
	}
	sallyport(t, 0, "verify", "--journal", folder)
	sallyport(t, 1, "verify", "--journal", folder, "--expect", now)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	read(0) // which makes another
	sallyport(t, 1, "verify", "--journal", folder, "--expect", first)
}
