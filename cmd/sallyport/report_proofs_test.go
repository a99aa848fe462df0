package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/report"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// withLog gives a store its transparency log, and returns the log's public key.
func withLog(t *testing.T, store string) string {
	t.Helper()
	s, err := recorder.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	_, public, err := tlog.Signer(private, "evidence.example.org")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- follow.Run(ctx, s, follow.Options{Dir: recorder.LogFolder(store), Key: private, Origin: "evidence.example.org"})
	}()
	entries, err := s.Entries(t.Context(), 0, 1<<20)
	if err == nil {
		err = recorder.AwaitLog(t.Context(), recorder.LogFolder(store), tlog.Keys{Log: public}, uint64(len(entries)), 30*time.Second)
	}
	cancel()
	if err2 := <-done; err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return public
}

func written(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Each record of a bundle is proved to be in the log that a key has signed, and its
// chain to be the host's, offline; whoever makes a bundle anew, with all hashes, has
// neither key.
func TestReportProvesItsRecords(t *testing.T) {
	store, host := reportStoreSigned(t, "h1", time.Millisecond)
	public := withLog(t, store)
	out := filepath.Join(t.TempDir(), "b.zip")
	sallyport(t, 0, "report", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	files := unzip(t, out)
	r := reportOf(t, files)
	if r.Log == nil || r.Log.Origin != "evidence.example.org" || len(r.Chains) != 1 || r.Chains[0].Logged != r.Chains[0].Records {
		t.Fatalf("%+v %+v", r.Log, r.Chains)
	}
	keys, hosts := written(t, public), written(t, events.HostKeyLine("h1", host))
	sallyport(t, 0, "report", "verify", out)
	sallyport(t, 0, "report", "verify", out, "--log-key", keys, "--host-keys", hosts)
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32)))
	_, foreign, err := tlog.Signer(other, "evidence.example.org")
	if err != nil {
		t.Fatal(err)
	}
	sallyport(t, 1, "report", "verify", out, "--log-key", written(t, foreign))
	sallyport(t, 1, "report", "verify", out, "--host-keys", written(t, events.HostKeyLine("h1", other.Public().(ed25519.PublicKey))))
	sallyport(t, 1, "report", "verify", out, "--host-keys", written(t, events.HostKeyLine("h2", host)))
	plain := filepath.Join(t.TempDir(), "plain.zip")
	sallyport(t, 0, "report", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", plain, "--no-log")
	sallyport(t, 0, "report", "verify", plain)
	again := func(more ...string) []string {
		return append([]string{"report", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", filepath.Join(t.TempDir(), "b.zip")}, more...)
	}
	sallyport(t, 0, again("--host-keys", hosts)...)
	sallyport(t, 1, again("--host-keys", written(t, events.HostKeyLine("h1", other.Public().(ed25519.PublicKey))))...)
	checkpoint := filepath.Join(recorder.LogFolder(store), "checkpoint")
	signed, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(checkpoint); err != nil {
		t.Fatal(err)
	}
	sallyport(t, 1, again()...) // no report says less than it is taken to
	if err := os.WriteFile(checkpoint, signed, 0o600); err != nil {
		t.Fatal(err)
	}
	sallyport(t, 1, "report", "verify", plain, "--log-key", keys)

	must := report.Require{SHA256: "", Log: &tlog.Keys{Log: public}}
	for name, edit := range map[string]func(map[string]string){
		"another checkpoint": func(f map[string]string) {
			replace(f, "log/checkpoint", "evidence.example.org\n", "evidence.example.com\n")
		},
		"no entries":              func(f map[string]string) { f["log/001.jsonl"] = "" },
		"no files of the log":     func(f map[string]string) { delete(f, "log/001.jsonl") },
		"an entry twice":          func(f map[string]string) { f["log/001.jsonl"] += f["log/001.jsonl"] },
		"another mark":            func(f map[string]string) { replace(f, "log/001.jsonl", `\"n\":`, `\"n\":1`) },
		"another index":           func(f map[string]string) { replace(f, "log/001.jsonl", `{"index":0`, `{"index":1`) },
		"the report without them": func(f map[string]string) { replace(f, "report.json", `"logged":`, `"logget":`) },
		"a leaf":                  func(f map[string]string) { replace(f, "chain/001.jsonl", `"leaf":"`, `"leaf":"00`) },
	} {
		files := maps.Clone(files)
		resealed(edit)(files)
		if _, err := report.CheckWith(zipped(t, files), must); err == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

// A report of one patient has what was shown rows of them, and what could not tell.
func TestReportOfAPatient(t *testing.T) {
	store := reportStore0(t)
	key := written(t, reportKey)
	for id, want := range map[string][]string{
		"123": {"1 shown", "2 not told: an aggregate"},
		"124": {"2 not told: an aggregate"},
	} {
		out := filepath.Join(t.TempDir(), "b.zip")
		sallyport(t, 0, "report", "--no-log", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "--patient", id, "--subject-key", key, "-o", out)
		files := unzip(t, out)
		r := reportOf(t, files)
		var got []string
		for _, a := range r.Accesses {
			got = append(got, fmt.Sprint(a.Statement, " ", a.Subject))
		}
		if !slices.Equal(got, want) || len(r.Refused) > 0 {
			t.Errorf("patient %s: accesses %q, refused %d", id, got, len(r.Refused))
		}
		if want := []string{reportSubject(id).String()}; !slices.Equal(r.Filter.Subjects, want) {
			t.Errorf("%q", r.Filter.Subjects)
		}
		for name, text := range files {
			if strings.Contains(text, "triage-bot") && !strings.HasPrefix(name, "chain/") {
				t.Errorf("%s tells of others", name)
			}
		}
		sallyport(t, 0, "report", "verify", out)
		// What was shown is not turned into what was not, nor left out.
		for from, to := range map[string]string{`"subject": "not told`: `"subject": "told`, `"subjects": [`: `"subjects": ["x",`} {
			files := maps.Clone(files)
			resealed(func(f map[string]string) { replace(f, "report.json", from, to) })(files)
			if _, err := report.CheckWith(zipped(t, files), report.Require{}); err == nil {
				t.Errorf("%s: it passes", to)
			}
		}
	}
	out := filepath.Join(t.TempDir(), "none.zip")
	sallyport(t, 2, "report", "--no-log", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "--patient", "123", "--subject-key", filepath.Join(store, "none"), "-o", out)
}

// Every section and control that is promised is in a report.
func TestReportNamesItsRequirements(t *testing.T) {
	store, out := reportStore0(t), filepath.Join(t.TempDir(), "b.zip")
	sallyport(t, 0, "report", "--no-log", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	files := unzip(t, out)
	var cited []string
	for _, c := range reportOf(t, files).Controls {
		if c.Shows == "" || c.Where == "" || !strings.Contains(files["report.html"], c.Citation) {
			t.Errorf("%+v", c)
		}
		cited = append(cited, c.Citation)
	}
	all := strings.Join(cited, ", ") + ","
	for _, want := range []string{
		"164.312(a)(1)", "164.312(b)", "164.312(c)(1)", "164.312(d)", "164.312(e)(1)", "164.308(a)(1)(ii)(D)", "164.528",
		"AU-2", "AU-3", "AU-4", "AU-5", "AU-6", "AU-7", "AU-8", "AU-9", "AU-10", "AU-11", "AU-12", "AU-14",
	} {
		if !strings.Contains(all, want+",") {
			t.Errorf("%s is in no report: %s", want, all)
		}
	}
}
