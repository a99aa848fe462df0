package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/events/recorder"
)

// What shows or copies evidence is on the record first, and does nothing where it can't
// be.
func TestEachReadingIsRecorded(t *testing.T) {
	dir := t.TempDir()
	store, own, key := filepath.Join(dir, "store"), filepath.Join(dir, "own"), filepath.Join(dir, "log.key")
	s, err := recorder.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if code := run(t.Context(), []string{"key", "--log", "--key", key}); code != 0 {
		t.Fatal(code)
	}
	noted := func(folder string) (out []string) {
		t.Helper()
		r, err := reads.Open(t.Context(), store, folder)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		all, err := r.Between(t.Context(), time.Time{}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			out = append(out, x.Text)
		}
		return out
	}
	copied := filepath.Join(dir, "copy")
	for _, c := range []struct {
		args []string
		says string
	}{
		// No log goes with this store, so that there is no copy; who wanted one is told.
		{[]string{"export", "--store", store, "--log-key", key, "--output", copied, "--wait", "1ms"}, "export: the whole store, into " + copied},
		{[]string{"prune", "--store", store, "--dry-run"}, "prune: what rules would delete"},
	} {
		for _, folder := range []string{"", own} {
			before := len(noted(folder))
			args := c.args
			if folder != "" {
				args = append(args, "--reads", folder)
			}
			run(t.Context(), args)
			got := noted(folder)[before:]
			if len(got) != 1 || !strings.Contains(got[0], "(uid ") || !strings.HasSuffix(got[0], "sallyport-recorder "+c.says) {
				t.Errorf("%q: %q, want %q", args, got, c.says)
			}
		}
	}

	if err := os.RemoveAll(filepath.Join(store, "reads")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/nowhere", filepath.Join(store, "reads")); err != nil {
		t.Fatal(err)
	}
	reads.LockTime = time.Second
	t.Cleanup(func() { reads.LockTime = 30 * time.Second })
	for _, args := range [][]string{
		{"export", "--store", store, "--log-key", key, "--output", copied}, {"prune", "--store", store, "--dry-run"},
	} {
		cmd := rootCmd()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "can't go on the record") || out.Len() > 0 {
			t.Errorf("%q: %q %v", args, out.String(), err)
		}
	}
	if _, err := os.Lstat(copied); err == nil {
		t.Error("the store was copied without a record of it")
	}
}
