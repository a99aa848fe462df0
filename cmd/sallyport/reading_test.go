package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/reads"
)

// whoRead returns what is on the record of a store, or of another folder.
func whoRead(t *testing.T, store, folder string) (out []string) {
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

// Each command that shows evidence is on the record first, and shows nothing where it
// can't be.
func TestEachReadingIsRecorded(t *testing.T) {
	store, dir := reportStore0(t), t.TempDir()
	public, key := withLog(t, store), written(t, reportKey)
	log := written(t, "") // a server's log without a session
	good, _ := manualExamples(t)
	config := policyFiles(t, good, "127.0.0.1:1", "")
	export := filepath.Join(dir, "export")
	if err := os.CopyFS(export, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says string // "": it is no reading
	}{
		{[]string{"sessions", "ls", "--store", store}, ""},
		{[]string{"sessions", "show", "s-a", "--store", store}, "sessions show: session s-a"},
		{[]string{"sessions", "show", "s-a", "--json", "--store", store}, "sessions show: session s-a"},
		{[]string{"sessions", "replay", "s-a", "--speed", "0", "--store", store}, "sessions replay: session s-a"},
		{[]string{"sessions", "export", "s-a", "-o", filepath.Join(dir, "x.csv"), "--store", store}, "sessions export: session s-a as csv"},
		{[]string{"sessions", "ls", "--subject", "patient=123", "--subject-key", key, "--store", store}, "sessions ls: subjects [\"" + reportSubject("123").String() + "\"]"},
		{[]string{"sessions", "ls", "--text", "ssn", "--table", "patients", "--store", store}, "sessions ls: statements that touch \"patients\", statements with a text"},
		{[]string{"correlate", log, "--store", store}, "correlate: all sessions"},
		{[]string{"correlate", log, "--store", store, "--resource", "clinic", "--since", "2026-11-10T00:00:00Z"}, "correlate: sessions with the resource \"clinic\" since 2026-11-10T00:00:00Z"},
		{[]string{"policy", "replay", "-c", config, "--store", store, "--limit", "3", "--workload", "nobody"}, "policy replay: all sessions of the workload \"nobody\" the newest 3"},
		{[]string{"policy", "replay", "-c", config, "--store", store, "--session", "s-a"}, "policy replay: sessions [\"s-a\"]"},
		{[]string{"verify", "--store", store}, ""},
		{[]string{"verify", "--export", export, "--log-key", written(t, public)}, "verify: the whole export"},
	} {
		of := store
		if slices.Contains(c.args, export) {
			of = export
		}
		own := filepath.Join(t.TempDir(), "own")
		for _, folder := range []string{"", own} {
			before := whoRead(t, of, folder)
			args := c.args
			if folder != "" && c.says != "" {
				args = append(slices.Clone(args), "--reads", folder)
			}
			// What can't be decided again, without the server, is no matter here.
			if code := run(args); code != 0 && args[0] != "policy" {
				t.Fatalf("sallyport %q: exit code %d", args, code)
			}
			got := whoRead(t, of, folder)[len(before):]
			if c.says == "" {
				if len(got) > 0 {
					t.Errorf("%q: %q", args, got)
				}
				break
			}
			if len(got) != 1 || !strings.Contains(got[0], "(uid ") || !strings.HasSuffix(got[0], "sallyport "+c.says) {
				t.Errorf("%q: %q, want %q", args, got, c.says)
			}
		}
	}
	sallyport(t, 0, "verify", "--journal", filepath.Join(store, "reads"))

	if err := os.RemoveAll(filepath.Join(store, "reads")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/nowhere", filepath.Join(store, "reads")); err != nil {
		t.Fatal(err)
	}
	reads.LockTime = time.Second
	t.Cleanup(func() { reads.LockTime = 30 * time.Second })
	file := filepath.Join(dir, "none.jsonl")
	sallyport(t, 1, "sessions", "export", "s-a", "-o", file, "--store", store)
	if _, err := os.Lstat(file); err == nil {
		t.Error("a session was exported without a record of it")
	}
	for _, args := range [][]string{
		{"correlate", log}, {"policy", "replay", "-c", config, "--workload", "nobody"}, {"sessions", "ls", "--text", "ssn"},
	} {
		if out, err := command(append(args, "--store", store)...); exitCode(err) != 1 || !strings.Contains(err.Error(), "can't go on the record") || out != "" {
			t.Errorf("%q: %q %v", args, out, err)
		}
	}
}
