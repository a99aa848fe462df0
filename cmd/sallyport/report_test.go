package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/cmd/internal/report"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

const planted = "PLANTED-123-45-6789"

var reportDay = time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)

// reportKey is the key that names subjects, in hex.
const reportKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func reportSubject(id string) events.Subject {
	k, err := events.ParseSubjectKey([]byte(reportKey))
	if err != nil {
		panic(err)
	}
	return k.Subject("patient", []byte(id))
}

// reportEvents is a day of a host: what stands on its record, in order.
func reportEvents() []*events.Event {
	a := &events.Session{
		ID: "s-a", Host: "h1", Protocol: "postgres", Resource: "clinic", Workload: "billing-agent", Actor: "<script>alert(1)</script>",
		Principal: "dr.grey", Proof: "oidc+pidfd", ClientTLS: events.TLS{Version: "1.3"}, Database: "clinic", Opened: reportDay,
	}
	b := &events.Session{ID: "s-b", Host: "h1", Protocol: "postgres", Resource: "clinic", Workload: "triage-bot", Actor: "agent-b", Principal: "nurse", Proof: "spiffe", Opened: reportDay}
	at := func(minutes int) time.Time { return reportDay.Add(time.Duration(minutes) * time.Minute) }
	ssn := []events.Field{{Schema: "public", Relation: "patients", Column: "ssn"}}
	return []*events.Event{
		{Kind: events.Lifecycle, Time: at(-600), Status: "start", Message: "the daemon started: 1 resources, policy 0000old"},
		{Kind: events.Lifecycle, Time: at(-60), Status: "reload", Message: "policy 1111force"},
		{Kind: events.Login, Time: at(1), Session: a, Verdict: events.Allow, Rules: []string{"agents"}},
		{Kind: events.SessionOpen, Time: at(1), Session: a},
		{
			Kind: events.Statement, Time: at(2), Session: a, Number: 1, Command: "select", Normalized: "select name, ssn from patients where id = $1", Verdict: events.Mask,
			Rules: []string{"mask-ids"}, Objects: []string{"public.patients"}, Masked: ssn, Masks: []string{"partial"},
		},
		{Kind: events.Subjects, Time: at(2), Session: a, Number: 1, Subjects: []events.Subject{reportSubject("123")}},
		{Kind: events.Response, Time: at(2), Session: a, Number: 1, Status: "ok", Rows: 7, Bytes: 700},
		{
			Kind: events.Statement, Time: at(3), Session: a, Number: 2, Command: "select", Normalized: "select ssn from patients", Verdict: events.Allow,
			Rules: []string{"reveal-ids"}, Objects: []string{"public.patients"}, Revealed: ssn, Justification: "claim 4711", Untold: "an aggregate", Status: "ok", Rows: 2, Bytes: 20,
		},
		{Kind: events.Block, Time: at(4), Session: a, Number: 3, Command: "delete", Normalized: "delete from patients", Writes: true, Verdict: events.Blocked, Rules: []string{"no-destruction"}, Reason: "not yours", Objects: []string{"public.patients"}},
		{Kind: events.Lifecycle, Time: at(5), Status: "reload", Message: "policy 2222new"},
		{Kind: events.Login, Time: at(6), Session: b, Verdict: events.Deny, Reason: "no token"},
		{Kind: events.SessionOpen, Time: at(6), Session: b},
		{Kind: events.Statement, Time: at(7), Session: b, Number: 1, Command: "update", Normalized: "update visits set note = $1", Writes: true, Verdict: events.Allow, Rules: []string{"triage"}, Objects: []string{"public.visits"}},
		{Kind: events.Response, Time: at(7), Session: b, Number: 1, Status: "ok", Rows: 1},
		{Kind: events.ApprovalRequest, Time: at(7), Approval: &events.Approval{ID: "a-1", Step: "requested", Rule: "big-reads", Workload: "billing-agent", Session: "s-a"}},
		{Kind: events.Bypass, Time: at(8), Message: "a packet went round the passage and was dropped"},
		{Kind: events.Statement, Time: at(24 * 60), Session: a, Number: 4, Command: "select", Normalized: "select 'the next day'", Verdict: events.Allow, Objects: []string{"public.patients"}},
	}
}

// reportStore0 makes a recorder's store of a host's journal.
func reportStore0(t *testing.T) (dir string) {
	t.Helper()
	return reportStoreOf(t, "h1")
}

// reportStoreOf is one to which another host publishes that journal.
func reportStoreOf(t *testing.T, host string) (dir string) {
	t.Helper()
	dir, _ = reportStoreSigned(t, host, 0)
	return dir
}

// reportStoreSigned is one whose host signs its chain so often, once at least, and whose
// transcripts are apart; 0: never while it is written, and they are not.
func reportStoreSigned(t *testing.T, host string, every time.Duration) (dir string, key ed25519.PublicKey) {
	t.Helper()
	return reportStoreVouched(t, host, every, nil)
}

// reportStoreVouched is one whose notes over heads vouch adds to.
func reportStoreVouched(t *testing.T, host string, every time.Duration, vouch func(string) string) (dir string, key ed25519.PublicKey) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal"), journal.Options{Host: "h1", CheckpointEvery: every, Vouch: vouch, Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var last events.Ticket
	for _, e := range reportEvents() {
		if last, err = j.Append(e); err != nil {
			t.Fatal(err)
		}
		if e.Kind == events.Statement {
			if last, err = j.Record(&events.Chunk{Session: e.Session, Number: e.Number, Kind: events.ChunkStatement, Time: e.Time, Data: []byte("select '" + planted + "'")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := last.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var batch []recorder.Message
	signed := every == 0
	for r := j.Reader(1); uint64(len(batch)) < j.Last() || !signed; {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		signed = every == 0 || rec.Kind == events.Checkpoint // nothing is behind the last signature
		rec.Payload = bytes.Clone(rec.Payload)
		batch = append(batch, recorder.Message{Host: host, Record: rec})
	}
	s, err := recorder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if every > 0 {
		s.KeepTranscripts(recorder.Transcripts{Store: transcripts.OpenFiles(recorder.TranscriptsFolder(dir))})
	}
	if _, alarms, err := s.Add(t.Context(), batch, time.Now()); err != nil || len(alarms) > 0 {
		t.Fatal(alarms, err)
	}
	return dir, j.HostKey()
}

func sallyport(t *testing.T, want int, args ...string) {
	t.Helper()
	if code := run(args); code != want {
		t.Fatalf("sallyport %s: exit code %d, want %d", strings.Join(args, " "), code, want)
	}
}

// unzip returns the files of a bundle.
func unzip(t *testing.T, file string) map[string]string {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string]string{}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		in.Close()
		out[f.Name] = string(b)
	}
	return out
}

func reportOf(t *testing.T, files map[string]string) (r report.Report) {
	t.Helper()
	if err := json.Unmarshal([]byte(files["report.json"]), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReport(t *testing.T) {
	store, out := reportStore0(t), filepath.Join(t.TempDir(), "day.zip")
	args := []string{"report", "--no-log", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", out}
	sallyport(t, 0, args...)
	sallyport(t, 2, args...) // the file is there
	files := unzip(t, out)
	r := reportOf(t, files)
	if !r.Sound || len(r.Accesses) != 3 || len(r.Refused) != 1 || len(r.Chains) != 1 || len(r.Reads) != 0 {
		t.Fatalf("%+v", r)
	}
	if a := r.Accesses[0]; a.Rows != 7 || a.Outcome != "ok" || a.Verdict != "mask" || a.Masked[0] != "public.patients.ssn" || a.Workload != "billing-agent" || a.Principal != "dr.grey" {
		t.Errorf("%+v", a)
	}
	if a := r.Accesses[1]; a.Rows != 2 || a.Revealed[0] != "public.patients.ssn" || a.Justification != "claim 4711" {
		t.Errorf("%+v", a)
	}
	if s := r.Identities[0]; s.Name != "billing-agent" || s.Sessions != 1 || s.Statements != 2 || s.Masked != 1 || s.Refused != 1 || s.Rows != 9 {
		t.Errorf("%+v", s)
	}
	if s := r.Principals[1]; s.Name != "nurse" || s.Rows != 1 {
		t.Errorf("%+v", s)
	}
	var policies []string
	for _, n := range r.Policies {
		policies = append(policies, n.Text)
	}
	if !slices.Equal(policies, []string{"policy 1111force", "policy 2222new"}) {
		t.Errorf("policies in force: %q", policies)
	}
	if len(r.Hosts) != 1 || r.Hosts[0].What != "bypass" {
		t.Errorf("%+v", r.Hosts)
	}
	all := ""
	for _, c := range r.Controls {
		all += c.Citation + "\n"
	}
	for _, want := range []string{"164.312(a)(1)", "164.312(b)", "164.312(c)(1)", "164.312(d)", "164.312(e)(1)", "164.308(a)(1)(ii)(D)", "164.528", "AU-2", "AU-3", "AU-6", "AU-9", "AU-10", "AU-11", "AU-12"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not answered", want)
		}
	}
	page := files["report.html"]
	if strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") || strings.Count(page, "default-src 'none'") != 1 {
		t.Error("the page is not escaped")
	}
	if !strings.HasPrefix(files["report.pdf"], "%PDF-") || !strings.HasSuffix(strings.TrimSpace(files["report.pdf"]), "%%EOF") {
		t.Error("no PDF")
	}
	for name, text := range files {
		if strings.Contains(text, planted) {
			t.Errorf("%s has the text of a statement", name)
		}
	}
	if fi, err := os.Stat(out); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	sallyport(t, 0, "report", "verify", out)
	sallyport(t, 0, "verify", "--journal", filepath.Join(store, "reads"))
}

func TestReportOfSome(t *testing.T) {
	store := reportStore0(t)
	for filter, want := range map[string]int{
		"--identity triage-bot": 1, "--identity agent-b": 1, "--principal dr.grey": 2, "--relation patients": 2, "--relation public.visits": 1,
		"--relation other.patients": 0, "--resource clinic": 3, "--resource other": 0, "--identity billing-agent --relation visits": 0,
	} {
		out := filepath.Join(t.TempDir(), "some.zip")
		sallyport(t, 0, append([]string{"report", "--no-log", "--store", store, "--from", "2026-11-10T00:00:00Z", "--to", "2026-11-11", "-o", out}, strings.Fields(filter)...)...)
		files := unzip(t, out)
		if r := reportOf(t, files); len(r.Accesses) != want {
			t.Errorf("%s: %d accesses", filter, len(r.Accesses))
		}
		if filter == "--identity triage-bot" {
			for name, text := range files {
				if strings.Contains(text, "billing-agent") || strings.Contains(text, "claim 4711") {
					t.Errorf("%s tells of others", name)
				}
			}
		}
		sallyport(t, 0, "report", "verify", out)
	}
}

// Who reads the evidence is on the record, and in the next report; where that
// can't be, there is no report.
func TestReadingIsRecorded(t *testing.T) {
	store, dir := reportStore0(t), t.TempDir()
	now := time.Now().UTC()
	span := []string{"--from", now.Add(-time.Hour).Format(time.RFC3339), "--to", now.Add(time.Hour).Format(time.RFC3339)}
	for i := range 2 {
		out := filepath.Join(dir, fmt.Sprint(i))
		sallyport(t, 0, append([]string{"report", "--no-log", "--store", store, "--identity", "triage-bot", "-o", out}, span...)...)
		r := reportOf(t, unzip(t, out))
		if len(r.Reads) != i || i > 0 && !strings.Contains(r.Reads[0].Text, `identity "triage-bot"`) {
			t.Errorf("report %d: %+v", i, r.Reads)
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
	out := filepath.Join(dir, "none")
	sallyport(t, 1, append([]string{"report", "--no-log", "--store", store, "-o", out}, span...)...)
	if _, err := os.Lstat(out); err == nil {
		t.Error("a report was made that is on no record")
	}
}

// Whatever is changed in a bundle shows.
func TestReportThatWasEdited(t *testing.T) {
	store, dir := reportStore0(t), t.TempDir()
	out := filepath.Join(dir, "day.zip")
	sallyport(t, 0, "report", "--no-log", "--store", store, "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	files := unzip(t, out)
	const chain = "chain/001.jsonl"
	lines := strings.SplitAfter(files[chain], "\n")
	for name, edit := range map[string]func(map[string]string){
		"page": func(f map[string]string) { f["report.html"] += " " },
		"more": func(f map[string]string) { f["extra.txt"] = "x" },
		"less": func(f map[string]string) { delete(f, "report.pdf") },
		"who": resealed(func(f map[string]string) {
			replace(f, "report.json", `"principal": "dr.grey"`, `"principal": "dr.who"`)
		}),
		"rows":    resealed(func(f map[string]string) { replace(f, "report.json", `"rows": 7`, `"rows": 1`) }),
		"policy":  resealed(func(f map[string]string) { replace(f, "report.json", "policy 1111force", "policy 9999") }),
		"record":  resealed(func(f map[string]string) { replace(f, chain, "dr.grey", "dr.who ") }),
		"removed": resealed(func(f map[string]string) { f[chain] = strings.Join(slices.Delete(slices.Clone(lines), 3, 4), "") }),
		"reordered": resealed(func(f map[string]string) {
			l := slices.Clone(lines)
			l[3], l[4] = l[4], l[3]
			f[chain] = strings.Join(l, "")
		}),
		"cut":        resealed(func(f map[string]string) { f[chain] = strings.Join(lines[:len(lines)-2], "") }),
		"no payload": resealed(func(f map[string]string) { f[chain] = strings.ReplaceAll(f[chain], `,"payload":`, `,"other":`) }),
		"left out": resealed(func(f map[string]string) {
			r := reportOf(t, f)
			r.Refused = nil
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			f["report.json"] = string(b)
		}),
	} {
		changed := maps.Clone(files)
		edit(changed)
		file := zipped(t, changed)
		if _, err := report.Check(file, ""); err == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

// zipped makes a bundle of files.
func zipped(t *testing.T, files map[string]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edited.zip")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	z := zip.NewWriter(w)
	for _, n := range slices.Sorted(maps.Keys(files)) {
		f, err := z.Create(n)
		if err == nil {
			_, err = io.WriteString(f, files[n])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func replace(f map[string]string, name, from, to string) {
	if !strings.Contains(f[name], from) {
		panic(name + " does not have " + from)
	}
	f[name] = strings.Replace(f[name], from, to, 1)
}

// resealed is an editor who makes the manifest anew.
func resealed(edit func(map[string]string)) func(map[string]string) {
	return func(f map[string]string) {
		edit(f)
		var list []string
		for n, text := range f {
			if n != "MANIFEST.sha256" {
				list = append(list, fmt.Sprintf("%x  %s\n", sum256(text), n))
			}
		}
		f["MANIFEST.sha256"] = strings.Join(list, "")
	}
}

func sum256(s string) [32]byte { return sha256.Sum256([]byte(s)) }
