package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
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
)

// remade is an editor who has this program: all forms of the report are made anew
// of what they changed.
func remade(t *testing.T, edit func(r *report.Report)) func(map[string]string) {
	return resealed(func(f map[string]string) {
		r := reportOf(t, f)
		edit(&r)
		b, err := json.MarshalIndent(&r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		page, err := report.HTML(&r)
		if err != nil {
			t.Fatal(err)
		}
		paper, err := report.PDF(&r)
		if err != nil {
			t.Fatal(err)
		}
		f["report.json"], f["report.html"], f["report.pdf"] = string(b)+"\n", string(page), string(paper)
	})
}

// What does not follow from the chains is named, with all forms of the report and
// the manifest made anew.
func TestReportThatWasForged(t *testing.T) {
	out := filepath.Join(t.TempDir(), "day.zip")
	sallyport(t, 0, "report", "--no-log", "--store", reportStore0(t), "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	files := unzip(t, out)
	later := func(at *time.Time) { *at = at.Add(time.Hour) }
	const data, html, pdf, readme, chain = "report.json", "report.html", "report.pdf", "README.txt", "chain/001.jsonl"
	of := func(edit func(r *report.Report)) func(map[string]string) { return remade(t, edit) }
	text := func(name, from, to string) func(map[string]string) {
		return resealed(func(f map[string]string) { replace(f, name, from, to) })
	}
	for _, forged := range []struct {
		what, names string
		edit        func(map[string]string)
	}{
		{"page", html, resealed(func(f map[string]string) { f[html] = "<p>nothing to see</p>" })},
		{"number on the page", html, text(html, "<td>9</td>", "<td>0</td>")},
		{"paper", pdf, resealed(func(f map[string]string) { f[pdf] = "%PDF-1.3\n%%EOF" })},
		{"instructions", readme, resealed(func(f map[string]string) { f[readme] = "Call 555-0100" })},
		{"another file", "of no report", resealed(func(f map[string]string) { f["more.html"] = "x" })},
		{"space", data, resealed(func(f map[string]string) { f[data] += " " })},
		{"folded name", data, text(data, `"accesses": [`, `"accesses": [], "Accesses": [`)},
		{"folded name after it", data, text(data, `"refused": [`, `"Accesses": [], "refused": [`)},
		{"rules", data, of(func(r *report.Report) { r.Accesses[0].Rules = []string{"other"} })},
		{"reason", data, of(func(r *report.Report) { r.Refused[0].Reason = "a mistake" })},
		{"outcome", data, of(func(r *report.Report) { r.Accesses[0].Outcome = "error" })},
		{"proof", data, of(func(r *report.Report) { r.Accesses[0].Proof = "spiffe" })},
		{"actors", data, of(func(r *report.Report) { r.Accesses[0].Actors = []string{"other"} })},
		{"approvals of one", data, of(func(r *report.Report) { r.Accesses[0].Approvals = []string{"a-1"} })},
		{"resource", data, of(func(r *report.Report) { r.Accesses[0].Resource = "other" })},
		{"database", data, of(func(r *report.Report) { r.Accesses[0].Database = "other" })},
		{"writes", data, of(func(r *report.Report) { r.Accesses[2].Writes = false })},
		{"host of one", data, of(func(r *report.Report) { r.Accesses[0].Host = "h9" })},
		{"host of all", chain, text(data, `"host": "h1",
      "chain"`, `"host": "h9",
      "chain"`)},
		{"requirement", data, of(func(r *report.Report) { r.Controls[0].Shows = "all is well" })},
		{"no identities", data, of(func(r *report.Report) { r.Identities = []report.Sum{} })},
		{"no principals", data, of(func(r *report.Report) { r.Principals = nil })},
		{"time of a note", data, of(func(r *report.Report) { later(&r.Policies[0].Time) })},
		{"what of a note", data, of(func(r *report.Report) { r.Hosts[0].What = "lifecycle" })},
		{"host of a note", data, of(func(r *report.Report) { r.Hosts[0].Host = "h9" })},
		{"time of an approval", data, of(func(r *report.Report) { later(&r.Approvals[0].Time) })},
		{"host of an approval", data, of(func(r *report.Report) { r.Approvals[0].Host = "h9" })},
		{"not sound", data, of(func(r *report.Report) { r.Sound = false })},
		{"transport", data, of(func(r *report.Report) { r.Transport = map[string]int{"agent TLS 1.3, server TLS 1.3": 2} })},
		{"proofs", data, of(func(r *report.Report) { r.Proofs["mtls"] = 1 })},
		{"refused as access", data, of(func(r *report.Report) { r.Accesses, r.Refused = append(r.Accesses, r.Refused...), []report.Access{} })},
		{"access as refused", data, of(func(r *report.Report) {
			r.Refused, r.Accesses = append(r.Refused, r.Accesses[2]), r.Accesses[:2]
		})},
		{"access twice", data, of(func(r *report.Report) { r.Accesses = append(r.Accesses, r.Accesses[2]) })},
		{"chain twice", "chain/002.jsonl", of(func(r *report.Report) { r.Chains = append(r.Chains, r.Chains[0]) })},
		{"rows taken out", "outcome", func(f map[string]string) {
			bare(t, f, events.Response, `"rows":7`)
			of(func(r *report.Report) {
				a := &r.Accesses[0]
				r.Identities[0].Rows, r.Principals[0].Rows = r.Identities[0].Rows-a.Rows, r.Principals[0].Rows-a.Rows
				a.Outcome, a.Rows, a.Bytes = "", 0, 0
				r.Controls[1].Shows = strings.Replace(r.Controls[1].Shows, "; 0 accesses", "; 1 accesses", 1)
			})(f)
		}},
	} {
		changed := maps.Clone(files)
		forged.edit(changed)
		_, err := report.Check(zipped(t, changed), "")
		if err == nil || !strings.Contains(err.Error(), forged.names) {
			t.Errorf("%s: %v", forged.what, err)
		}
	}
}

// bare takes the content of a record out of its chain, as of those that a report
// does not speak of.
func bare(t *testing.T, f map[string]string, k events.Kind, with string) {
	t.Helper()
	lines := strings.SplitAfter(f["chain/001.jsonl"], "\n")
	i := slices.IndexFunc(lines, func(l string) bool {
		return strings.Contains(l, fmt.Sprintf(`"kind":%d,`, k)) && strings.Contains(strings.ReplaceAll(l, `\"`, `"`), with)
	})
	if i < 0 {
		t.Fatalf("no record of kind %s has %s", k, with)
	}
	a, b := strings.Index(lines[i], `"protocol"`), strings.Index(lines[i], `"prev"`)
	lines[i] = lines[i][:a] + lines[i][b:strings.Index(lines[i], `,"payload"`)] + "}\n"
	f["chain/001.jsonl"] = strings.Join(lines, "")
}

// The chains do not prove all: what they do not shows against the SHA-256.
func TestReportAgainstItsSHA256(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "two.zip")
	// The statement of the second day has not ended.
	sallyport(t, 0, "report", "--no-log", "--store", reportStore0(t), "--from", "2026-11-10", "--to", "2026-11-12", "-o", out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sum256(string(b)))
	sallyport(t, 1, "report", "verify", out)
	sallyport(t, 0, "report", "verify", "--sha256", sum, out)
	sallyport(t, 0, "report", "verify", "--sha256", strings.ToUpper(sum), out)
	for _, bad := range []string{"", "abc", sum + "00", strings.Repeat("x", 64)} {
		sallyport(t, 2, "report", "verify", "--sha256", bad, out)
	}
	files := unzip(t, out)
	remade(t, func(r *report.Report) { r.Reads = []report.Note{{What: "read", Text: "nobody"}} })(files)
	sallyport(t, 1, "report", "verify", "--sha256", sum, zipped(t, files))
}

// A bundle of evidence that was not sound says so when it is verified.
func TestReportOfFaults(t *testing.T) {
	out := filepath.Join(t.TempDir(), "day.zip")
	sallyport(t, 0, "report", "--no-log", "--store", reportStore0(t), "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	files := unzip(t, out)
	remade(t, func(r *report.Report) {
		r.Sound, r.Faults = false, []recorder.Fault{{Host: "h1", What: "invented", Detail: "a line"}}
		for i := range r.Controls {
			r.Controls[i].Shows = strings.Replace(r.Controls[i].Shows, "every record of the store is there, unchanged and in its place", "NOT SOUND: 1 faults", 1)
		}
	})(files)
	out = zipped(t, files)
	if c, err := report.Check(out, ""); err != nil || c.Faults != 1 {
		t.Error(c, err)
	}
	sallyport(t, 1, "report", "verify", out)
}

// Events that name another host than the one that published them are a fault, and
// their bundle does not pass.
func TestReportOfAnotherHost(t *testing.T) {
	out := filepath.Join(t.TempDir(), "day.zip")
	sallyport(t, 1, "report", "--no-log", "--store", reportStoreOf(t, "h2"), "--from", "2026-11-10", "--to", "2026-11-11", "-o", out)
	if r := reportOf(t, unzip(t, out)); r.Sound || len(r.Faults) == 0 || r.Faults[0].Host != "h2" {
		t.Errorf("%v %v", r.Sound, r.Faults)
	}
	if _, err := report.Check(out, ""); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Error(err)
	}
}

// The outcome and the subjects of what a report speaks of go along with it.
func TestReportKeepsOutcomes(t *testing.T) {
	out := filepath.Join(t.TempDir(), "day.zip")
	sallyport(t, 0, "report", "--no-log", "--store", reportStore0(t), "--from", "2026-11-10", "--to", "2026-11-11", "--identity", "billing-agent", "-o", out)
	with := map[events.Kind]int{}
	for l := range strings.Lines(unzip(t, out)["chain/001.jsonl"]) {
		var r struct {
			Kind    events.Kind `json:"kind"`
			Payload *string     `json:"payload"`
		}
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		if r.Payload != nil {
			with[r.Kind]++
		}
	}
	if with[events.Response] != 1 || with[events.Subjects] != 1 || with[events.Statement] != 2 {
		t.Error(with)
	}
}

// What a bundle makes its reader inflate is bounded.
func TestReportThatIsTooMuch(t *testing.T) {
	for what, fill := range map[string]func(add func(name string, size uint64)){
		"too many files": func(add func(string, uint64)) {
			for i := range 10_001 {
				add(fmt.Sprint(i), 0)
			}
		},
		"too much in all":  func(add func(string, uint64)) { add("a", 9<<30); add("b", 9<<30) },
		"more than can be": func(add func(string, uint64)) { add("a", 1<<63); add("b", 1<<63) },
		"too much in one":  func(add func(string, uint64)) { add("MANIFEST.sha256", 2<<30) },
	} {
		file := filepath.Join(t.TempDir(), "much.zip")
		w, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(w)
		fill(func(name string, size uint64) {
			if _, err := z.CreateRaw(&zip.FileHeader{Name: name, UncompressedSize64: size}); err != nil {
				t.Fatal(err)
			}
		})
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := report.Check(file, ""); err == nil || !strings.Contains(err.Error(), "more in it than is looked at") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A file that says it is smaller than it is does not pass, whatever of it is read.
func TestReportWithMoreInIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "more.zip")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	z := zip.NewWriter(w)
	var packed bytes.Buffer
	d, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	d.Close()
	f, err := z.CreateRaw(&zip.FileHeader{Name: "MANIFEST.sha256", Method: zip.Deflate, UncompressedSize64: 10, CompressedSize64: uint64(packed.Len())})
	if err == nil {
		_, err = f.Write(packed.Bytes())
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Check(file, ""); !errors.Is(err, zip.ErrFormat) {
		t.Error(err)
	}
}
