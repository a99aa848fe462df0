package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// The statements are those that the rewriting is held to, with their clinic;
// here they go through the whole passage.
const corpus = "../../../protocols/postgres/rewrite/testdata/"

// entry is a case of a corpus file.
type entry struct {
	name       string
	statements []string
	want       string
}

func entries(t *testing.T, file string) []entry {
	t.Helper()
	b, err := os.ReadFile(corpus + file)
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	for _, part := range strings.Split(string(b), "\n-- case: ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		e := entry{name: name}
		var sql strings.Builder
		for line := range strings.Lines(body + "\n") {
			if w, ok := strings.CutPrefix(line, "-- want: "); ok {
				e.want = strings.TrimSpace(w)
			} else {
				sql.WriteString(line)
			}
		}
		for s := range strings.SplitSeq(sql.String(), "\n;;\n") {
			if s = strings.TrimSpace(s); s != "" {
				e.statements = append(e.statements, s)
			}
		}
		out = append(out, e)
	}
	return out
}

// canaries are the protected values of that clinic, and what is left of them
// in slices, in lower case; and its dates in binary form.
var canaries = func() [][]byte {
	var out [][]byte
	for _, c := range []string{
		"canary", "yranac", "91147", "92258", "93369", "99991", "911-4", "922-5", "933-6", "999-9",
		"03-17", "04-28", "05-19", "09-09", "7781", "7782", "7783", "7789",
		"43414e415259", "q0foqvj", "nbtkfs", "dqu5bu", // CANARY in hex and base64
	} {
		out = append(out, []byte(c))
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, d := range []string{"1951-03-17", "1962-04-28", "1973-05-19", "1949-09-09"} {
		day, err := time.Parse(time.DateOnly, d)
		if err != nil {
			panic(err)
		}
		// A whole date value: its length, then days since 2000.
		b := []byte{0, 0, 0, 4}
		out = append(out, bytes.ToLower(binary.BigEndian.AppendUint32(b, uint32(int32(day.Sub(epoch).Hours()/24)))))
	}
	return out
}()

// sessionID is what refusals name, and may look like anything.
var sessionID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

func leaks(b []byte) string {
	low := bytes.ToLower(sessionID.ReplaceAll(b, nil))
	for _, c := range canaries {
		if i := bytes.Index(low, c); i >= 0 {
			return fmt.Sprintf("%q in ...%q", c, b[max(0, i-40):min(len(b), i+60)])
		}
	}
	return ""
}

// corpusStand has that clinic, in a database of its own, and an agent that is
// the superuser: nothing but policy is in its way.
func corpusStand(t *testing.T) *stand.Stand {
	t.Helper()
	policy, err := os.ReadFile("testdata/corpus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(corpus + "clinic.sql")
	if err != nil {
		t.Fatal(err)
	}
	return startStand(t, stand.Options{Policy: policy, NoRecorder: true, Patients: 1, Prepare: func(ctx context.Context, s *stand.Stand) error {
		if err := s.PG.Exec(ctx, "postgres", "ALTER ROLE agent SUPERUSER"); err != nil {
			return err
		}
		if err := s.PG.Exec(ctx, "postgres", "CREATE DATABASE corpus"); err != nil {
			return err
		}
		s.PG.Database = "corpus"
		return s.PG.Exec(ctx, "corpus", string(schema))
	}})
}

// clients makes a copy of this program that agents can run, and returns its
// name in their path.
func clients(t *testing.T) string {
	t.Helper()
	const name = "client"
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	f, err := os.OpenFile(filepath.Join(bin, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, self)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// hold has a client hold conversations.
func hold(t *testing.T, cmd *exec.Cmd, in []conversation) []answer {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out, msg bytes.Buffer
	cmd.Env = append(cmd.Env, clientEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(b), &out, &msg
	if err := stand.Run(cmd); err != nil {
		t.Fatalf("%v: %s", err, msg.String())
	}
	var answers []answer
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil || len(answers) != len(in) {
		t.Fatalf("%d answers of %d: %v", len(answers), len(in), err)
	}
	return answers
}

func conversations(all []entry) (out []conversation) {
	for _, e := range all {
		for w := simple; w <= extendedBinary; w++ {
			out = append(out, conversation{e.name, w, e.statements})
		}
	}
	return out
}

// TestCorpus runs one server for all of it. What runs without us comes last: it
// changes things.
func TestCorpus(t *testing.T) {
	s, self := corpusStand(t), clients(t)
	through := func(t *testing.T, in []conversation) []answer {
		return hold(t, s.Guarded(t.Context(), s.Agents["agent-a"], self), in)
	}
	direct := func(t *testing.T, in []conversation) []answer {
		cmd, err := s.Direct(t.Context(), s.Agents["agent-a"], self)
		if err != nil {
			t.Fatal(err)
		}
		return hold(t, cmd, in)
	}
	evasions, harmless := entries(t, "evasions.sql"), entries(t, "harmless.sql")
	if len(evasions) < 60 || len(harmless) < 40 {
		t.Fatalf("%d evasions, %d harmless statements", len(evasions), len(harmless))
	}

	// What touches nothing protected comes back byte for byte as without us.
	t.Run("harmless", func(t *testing.T) {
		in := conversations(harmless)
		next := nextOID(t, s)
		got, want := through(t, in), direct(t, in)
		for i, c := range in {
			t.Run(fmt.Sprintf("%s/%v", c.Name, c.Way), func(t *testing.T) { same(t, got[i], want[i], next) })
		}
	})

	// Whatever an agent sends, in either protocol and format, no byte of what
	// comes back is of a protected value.
	t.Run("evasions", func(t *testing.T) {
		in := conversations(evasions)
		for i, a := range through(t, in) {
			t.Run(fmt.Sprintf("%s/%v", in[i].Name, in[i].Way), func(t *testing.T) { holds(t, evasions[i/3], in[i].Way, a) })
		}
	})

	// The corpus finds what it looks for: without us, most of it leaks.
	t.Run("without us", func(t *testing.T) {
		n := 0
		answers := direct(t, conversations(evasions))
		for _, a := range answers {
			if leaks(a.Received) != "" {
				n++
			}
		}
		t.Logf("%d of %d leak", n, len(answers))
		if n < 200 { // the others are refused by the server, or tell by what they do not show
			t.Errorf("only %d of %d leak", n, len(answers))
		}
	})
}

// nextOID returns a number above those of all relations that there are.
func nextOID(t *testing.T, s *stand.Stand) uint32 {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), s.PG.Admin(s.PG.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	r := c.ExecParams(t.Context(), "SELECT max(oid) FROM pg_class", nil, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	n, err := strconv.ParseUint(string(r.Rows[0][0]), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n) + 1
}

// timeless clears the numbers of relations from next on in each RowDescription:
// a relation that a conversation makes has another one each time.
func timeless(b []byte, next uint32) []byte {
	b = bytes.Clone(b)
	for m := b; len(m) >= 5; {
		n := int(binary.BigEndian.Uint32(m[1:])) + 1
		if n < 5 || n > len(m) {
			break
		}
		if m[0] == 'T' {
			for f := m[7:n]; len(f) > 18; {
				f = f[bytes.IndexByte(f, 0)+1:]
				if binary.BigEndian.Uint32(f) >= next {
					binary.BigEndian.PutUint32(f, 0)
				}
				f = f[18:]
			}
		}
		m = m[n:]
	}
	return b
}

func same(t *testing.T, got, want answer, next uint32) {
	if got.Failed != "" || want.Failed != "" || got.Refused != "" {
		t.Fatalf("through: %s %s, direct: %s", got.Failed, got.Refused, want.Failed)
	}
	if !bytes.Equal(timeless(got.Received, next), timeless(want.Received, next)) {
		t.Errorf("through:\n%q\ndirect:\n%q", got.Received, want.Received)
	}
}

func holds(t *testing.T, e entry, w way, a answer) {
	if l := leaks(a.Received); l != "" {
		t.Error(l)
	}
	if a.Failed != "" {
		t.Errorf("the session failed: %s", a.Failed)
	}
	several := strings.Contains(strings.Join(e.statements, "\n"), "; ")
	switch {
	case e.want == "refused" && a.Refused == "" && (w == simple || !several):
		t.Errorf("not refused:\n%s", a.Rows)
	case w != simple || e.want == "" || e.want == "refused":
	case a.Refused != "":
		t.Errorf("refused: %s", a.Refused)
	case e.want == "none" && !strings.Contains("\n"+a.Rows, "\nSELECT 0\n"):
		t.Errorf("rows came back:\n%s", a.Rows)
	case e.want != "ok" && e.want != "none" && !strings.Contains("\n"+a.Rows, "\n"+strings.ReplaceAll(e.want, ",", "\n")+"\n"):
		t.Errorf("want %s:\n%s", e.want, a.Rows)
	}
}
