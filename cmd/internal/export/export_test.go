package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/cmd/internal/export"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

var began = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

func messages(ms ...interface{ Encode([]byte) ([]byte, error) }) (b []byte) {
	for _, m := range ms {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return b
}

var answer = messages(
	&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id"), DataTypeOID: 23, Format: 1}, {Name: []byte("=name"), DataTypeOID: 25}}},
	&pgproto3.DataRow{Values: [][]byte{{0, 0, 0, 7}, []byte("=cmd|' /C calc'!A0")}},
	&pgproto3.DataRow{Values: [][]byte{{0xff, 0xff, 0xff, 0xff}, nil}},
	&pgproto3.CommandComplete{CommandTag: []byte("SELECT 2")})

var refusal = messages(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "refused\x1b[2J"})

func chunks(size int) iter.Seq2[events.Chunk, error] {
	return func(yield func(events.Chunk, error) bool) {
		at := began
		say := func(n uint64, kind events.ChunkKind, b []byte) bool {
			at = at.Add(time.Second)
			return yield(events.Chunk{Number: n, Kind: kind, Time: at, Data: b}, nil)
		}
		if !say(1, events.ChunkStatement, []byte("select id, name from patients -- \x1b]0;owned\x07")) {
			return
		}
		for piece := range slices.Chunk(answer, size) {
			if !say(1, events.ChunkResult, piece) {
				return
			}
		}
		_ = say(3, events.ChunkStatement, []byte("delete from patients")) && say(3, events.ChunkResult, refusal)
	}
}

func session(size int) *export.Session {
	s := &export.Session{Chunks: chunks(size)}
	s.ID, s.Opened = "0198c2", began
	s.Protocol, s.Resource, s.Destination, s.Workload = "postgres", "clinic", "10.0.0.5:6432", "agent-a"
	s.Requests = []recorder.Statement{
		{Facts: recorder.Facts{Number: 1, Time: began, Verdict: "mask", Rules: []string{"masks"}, Rows: 2}, Exact: "select id, name from patients -- \x1b]0;owned\x07"},
		{Facts: recorder.Facts{Number: 2, Time: began, Verdict: "allow"}}, // without a transcript
		{Facts: recorder.Facts{Number: 3, Time: began, Verdict: "block", Code: "42501"}, Exact: "delete from patients"},
	}
	return s
}

func write(t *testing.T, format string, s *export.Session) string {
	t.Helper()
	var b bytes.Buffer
	if err := export.Write(&b, format, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSONL(t *testing.T) {
	for _, size := range []int{1, 5, 1 << 20} { // however the transcript is cut
		var got []string
		s := session(size)
		s.Workload = "a\u009b2J\u202e\U000e0041"
		if out := write(t, "jsonl", s); strings.ContainsAny(out, "\x1b\u009b\u202e\U000e0041") || !strings.Contains(out, `"a\u009b2J\u202e\udb40\udc41"`) {
			t.Errorf("a terminal obeys it, or it is lost: %s", out)
		}
		for line := range strings.Lines(write(t, "jsonl", session(size))) {
			var l struct {
				Type      string
				Number    uint64
				Row       []*string
				Columns   []string
				Tag       string
				Error     map[string]string
				Statement *recorder.Statement
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			s := fmt.Sprint(l.Type, l.Number, l.Columns, l.Tag, l.Error["message"])
			for _, v := range l.Row {
				if v == nil {
					s += " null"
				} else {
					s += " " + *v
				}
			}
			if l.Statement != nil {
				s += " " + l.Statement.Verdict
			}
			got = append(got, s)
		}
		want := []string{
			"session0 []", "statement1 [] mask", "result1 [id =name]", "result1 [] 7 =cmd|' /C calc'!A0", "result1 [] -1 null", "result1 []SELECT 2",
			"statement2 [] allow", "statement3 [] block", "result3 []refused\x1b[2J",
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d:\n%q\n%q", size, got, want)
		}
	}
}

// A spreadsheet runs nothing of what was recorded.
func TestCSV(t *testing.T) {
	s := session(3)
	s.Workload = "@SUM(1)"
	lines, err := csv.NewReader(strings.NewReader(write(t, "csv", s))).ReadAll()
	if err != nil || len(lines) != 4 || lines[1][3] != "'@SUM(1)" || lines[3][8] != "block" {
		t.Errorf("%q, %v", lines, err)
	}
	s.Statement = 1
	lines, err = csv.NewReader(strings.NewReader(write(t, "csv", s))).ReadAll()
	want := [][]string{{"id", "'=name"}, {"7", "'=cmd|' /C calc'!A0"}, {"-1", ""}}
	if err != nil || fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("%q, %v", lines, err)
	}
	s.Statement = 2
	if err := export.Write(&bytes.Buffer{}, "csv", s); err == nil || !strings.Contains(err.Error(), "no recorded result") {
		t.Error(err)
	}
}

func TestAsciicast(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(write(t, "asciicast", session(40))), "\n")
	var head struct{ Version, Timestamp int64 }
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil || head.Version != 3 || head.Timestamp != began.Unix() {
		t.Errorf("%s: %v", lines[0], err)
	}
	var all string
	var waited float64
	for _, l := range lines[1:] {
		var e []any
		if err := json.Unmarshal([]byte(l), &e); err != nil || len(e) != 3 || e[1] != "o" {
			t.Fatalf("%s: %v", l, err)
		}
		waited += e[0].(float64)
		all += e[2].(string)
	}
	if strings.ContainsAny(all, "\x1b\x07") || !strings.Contains(all, `\x1b]0;owned`) || !strings.Contains(all, "refused") || waited < 4 {
		t.Errorf("after %v s: %q", waited, all)
	}
}

// Wireshark's own program decodes what was said.
func TestPcapng(t *testing.T) {
	for _, destination := range []string{"10.0.0.5:6432", "[fd00::5]:5432", "/run/postgresql"} {
		s := session(1 << 20)
		s.Destination, s.Workload = destination, strings.Repeat("x", 70_000)
		file := filepath.Join(t.TempDir(), "session.pcapng")
		if err := os.WriteFile(file, []byte(write(t, "pcapng", s)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tshark", "-r", file, "-Y", "pgsql", "-T", "fields", "-E", "separator=|", "-e", "pgsql.type", "-e", "pgsql.query", "-e", "pgsql.val.data", "-e", "pgsql.code", "-e", "_ws.malformed", "-e", "tcp.analysis.flags").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Simple query|select id, name from patients", "Row description,Data row,Data row,Command completion", "Simple query|delete from patients", "42501"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", destination, want, out)
			}
		}
		// The connection is one that a host could have had.
		bad, err := exec.Command("tshark", "-r", file, "-o", "tcp.check_checksum:TRUE", "-Y", "_ws.malformed or tcp.analysis.flags or tcp.checksum.status == 0").Output()
		if err != nil || len(bad) != 0 {
			t.Errorf("%s: %v %s", destination, err, bad)
		}
	}
}

// A spreadsheet that takes semicolons or tabs for separators, and so no quotes before
// them, finds no formula in a cell or a row that it begins within a field.
func TestFormulasWithinFields(t *testing.T) {
	s := session(100)
	s.Requests[0].Exact = "select ';=cmd|x', '\t@a', 1;-2\n+3; =4, a-1, 'a=b' ;\"=5"
	out := write(t, "csv", s)
	for _, at := range []string{";=", "\t@", ";-", "\n+", "; =", `;"=`, `;""=`} {
		if strings.Contains(out, at) {
			t.Errorf("it has %q in\n%s", at, out)
		}
	}
	for _, stays := range []string{"a-1", "'a=b'"} {
		if !strings.Contains(out, stays) {
			t.Errorf("%s does not stay", stays)
		}
	}
}

// What a host says of a session is no order to a terminal or a viewer.
func TestNamesAreInert(t *testing.T) {
	const odd = "\x1b]0;owned\x07\u009b2J\u202e\u3164"
	for _, format := range []string{"jsonl", "asciicast", "pcapng"} {
		s := session(100)
		s.ID, s.Workload, s.Resource, s.Actor = "s"+odd, "w"+odd, "r"+odd, "a"+odd
		out := write(t, format, s)
		if format == "pcapng" {
			out = strings.ReplaceAll(out, "patients -- \x1b]0", "") // of the statement, which is data
		}
		for _, c := range []string{"\x1b]0", `\u001b]0`, "\u009b", "\u202e", "\u3164"} {
			// In JSON the escape is of no effect on who reads it as such.
			if strings.Contains(out, c) && (format != "jsonl" || c[0] != '\\') {
				t.Errorf("%s has %q", format, c)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	s := session(9)
	if err := export.Write(&bytes.Buffer{}, "xlsx", s); err == nil || !strings.Contains(err.Error(), "asciicast, csv, jsonl, pcapng") {
		t.Error(err)
	}
	s.Protocol = "gopher"
	if err := export.Write(&bytes.Buffer{}, "pcapng", s); err == nil || !strings.Contains(err.Error(), "gopher") {
		t.Error(err)
	}
	if out := write(t, "jsonl", s); !strings.Contains(out, `"bytes":`) && !strings.Contains(out, `"text":`) {
		t.Error(out)
	}
}
