package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// ask sends messages and returns what comes up to the nth ReadyForQuery.
func (r *raw) ask(ready int, ms ...message) string {
	r.t.Helper()
	r.send(enc(ms...))
	return r.until('Z', ready)
}

// extended is a statement in the extended protocol, whole.
func extended(sql string, values ...string) []message {
	return []message{parse("", sql), bind("", "", values...), describe('P', ""), execute(""), sync_}
}

// silent holds that no byte comes for a while.
func (r *raw) silent() {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, 1)
	if n, err := r.Read(b); err == nil {
		r.t.Errorf("a byte came: %q", b[:n])
	}
	_ = r.SetReadDeadline(time.Now().Add(2 * time.Minute))
}

// The transcript of a statement is what the client was given, its outcome the
// hash and the length of that.
func TestTranscript(t *testing.T) {
	for _, pol := range []string{allowAll, maskPolicy} {
		p := start(t, pol)
		for _, sql := range []string{
			"SELECT id, ssn FROM clinic.patients ORDER BY id", "SELECT 1/0", "SELECT generate_series(1, 30000)", "", "SELECT 1; SELECT 2; BEGIN; COMMIT",
			"COPY clinic.patients (id, name) TO STDOUT", "INSERT INTO w VALUES ('x')", "SELECT repeat('x', 3000000), 'the end'", "SELECT pg_sleep('x')", "SELECT 1 FROM nowhere",
		} {
			p.Journal.Forget()
			r := p.raw()
			r.send(enc(q(sql)))
			var saw []byte
			for typ := byte(0); typ != 'Z'; {
				var body []byte
				typ, body = r.next()
				saw = append(append(append(saw, typ), be32(len(body)+4)...), body...)
			}
			r.Close()
			holdTranscript(t, p.settled(), 1, saw)
		}
		// In the extended protocol the answers to Parse and Bind are of no
		// statement.
		p.Journal.Forget()
		r := p.raw()
		r.send(enc(extended("SELECT id, ssn FROM clinic.patients WHERE id < $1 ORDER BY id", "4")...))
		var saw []byte
		for typ := byte(0); typ != 'Z'; {
			var body []byte
			if typ, body = r.next(); !strings.ContainsRune("12Z", rune(typ)) {
				saw = append(append(append(saw, typ), be32(len(body)+4)...), body...)
			}
		}
		holdTranscript(t, p.settled(), 1, saw)
		if got := p.Journal.Transcript(events.ChunkBinds); !strings.Contains(got, "4") {
			t.Errorf("binds: %q", got)
		}
	}
}

func be32(n int) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

func holdTranscript(t *testing.T, j *protocoltest.Journal, number uint64, saw []byte) {
	t.Helper()
	var shown []byte
	for _, c := range j.Chunks() {
		if c.Kind == events.ChunkResult && c.Number == number {
			shown = append(shown, c.Data...)
		}
	}
	if refused := len(j.Events(events.Block)) > 0; refused {
		if !bytes.Equal(shown, saw) {
			t.Errorf("the transcript holds %q, the client saw %q", shown, saw)
		}
		return
	}
	rs := j.Events(events.Response)
	if len(rs) != 1 {
		t.Fatalf("%d outcomes", len(rs))
	}
	r := rs[0]
	const limit = 1 << 20
	if !bytes.Equal(shown, saw[:min(len(saw), limit)]) {
		t.Errorf("the transcript holds %d bytes, the client saw %d: %.300q, %.300q", len(shown), len(saw), shown, saw)
	}
	if r.Bytes != int64(len(saw)) || r.Recorded != int64(len(shown)) || r.Hash != sha256.Sum256(saw) {
		t.Errorf("the outcome tells of %d bytes, %d recorded, hash %x; the client saw %d bytes, hash %x", r.Bytes, r.Recorded, r.Hash, len(saw), sha256.Sum256(saw))
	}
}

// What an event says of a statement.
func TestEvents(t *testing.T) {
	p := start(t, maskPolicy)
	for _, c := range []struct {
		sql     string
		binds   []string
		command string
		objects string
		masked  int
		verdict events.Verdict
		writes  bool
		rows    int64
		status  string
		values  []string // of literals and binds
	}{
		{sql: "SELECT id FROM clinic.patients WHERE id = 1", command: "select", objects: "[clinic.patients clinic.archived]", verdict: events.Allow, rows: 1, status: "ok", values: []string{"1"}},
		{sql: "SELECT ssn FROM clinic.patients WHERE city = 'Boston' AND id < 100", command: "select", objects: "[clinic.patients clinic.archived]", masked: 1, verdict: events.Mask, rows: 3, status: "ok", values: []string{"Boston", "100"}},
		{sql: "/* exact */ SELECT 'it''s', 7", command: "select", objects: "[]", verdict: events.Allow, rows: 1, status: "ok", values: []string{"it's", "7"}},
		{sql: "SELECT 1e+5, .5, 'é', 12345678901", command: "select", objects: "[]", verdict: events.Allow, rows: 1, status: "ok", values: []string{"1e+5", ".5", "é", "12345678901"}},
		{sql: "SELECT a FROM m0 WHERE a = $1 OR a = 'y'", binds: []string{"m0"}, command: "select", objects: "[public.m0]", verdict: events.Allow, rows: 1, status: "ok", values: []string{"y", "m0"}},
		{sql: "INSERT INTO w VALUES ('v'), ('w')", command: "insert", objects: "[public.w]", verdict: events.Allow, writes: true, rows: 2, status: "ok", values: []string{"v", "w"}},
		{sql: "WITH d AS (DELETE FROM w WHERE a = 'v') SELECT 1", command: "select", objects: "[public.w public.w]", verdict: events.Allow, writes: true, rows: 1, status: "ok", values: []string{"v", "1"}},
		{sql: "DELETE FROM clinic.patients WHERE id = 1", command: "delete", objects: "[clinic.patients clinic.patients]", verdict: events.Blocked, writes: true, values: []string{"1"}},
		{sql: "DROP TABLE m0", command: "drop_table", objects: "[public.m0]", verdict: events.Deny, writes: true},
		{sql: "SELECT pg_read_file('x')", command: "select", objects: "[]", verdict: events.Blocked, writes: true, values: []string{"x"}},
		{sql: "SELECT 1/0", command: "select", objects: "[]", verdict: events.Allow, status: "error", values: []string{"1", "0"}},
		{sql: "COPY m0 TO STDOUT", command: "copy_to", objects: "[public.m0]", verdict: events.Allow, rows: 1, status: "ok"},
		{sql: "TABLE m0", command: "select", objects: "[public.m0]", verdict: events.Allow, rows: 1, status: "ok"},
	} {
		for _, ext := range []bool{false, true} {
			if c.binds != nil && !ext {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v", c.sql, ext), func(t *testing.T) {
				p.Journal.Forget()
				r := p.raw()
				if ext {
					r.ask(1, extended(c.sql, c.binds...)...)
				} else {
					r.ask(1, q(c.sql))
				}
				j := p.settled()
				ev := j.Events(events.Statement, events.Block)
				if len(ev) != 1 {
					t.Fatalf("%d decisions: %+v", len(ev), ev)
				}
				e := ev[0]
				if e.Number != 1 || e.Command != c.command || fmt.Sprint(e.Objects) != c.objects || len(e.Masked) != c.masked || e.Verdict != c.verdict || e.Writes != c.writes || e.Fingerprint == 0 {
					t.Errorf("%+v", e)
				}
				if len(e.Rules) == 0 || !c.verdict.Runs() && (e.Reason == "" || e.Remedy == "") {
					t.Errorf("nobody learns why: %+v", e)
				}
				for _, v := range []string{"Boston", "it's", "é", "100"} {
					if strings.Contains(e.Normalized, v) || strings.Contains(e.Reason, v) {
						t.Errorf("the event shows a value: %+v", e)
					}
				}
				if !ext && text(j) != c.sql {
					t.Errorf("the statement is recorded as %q", text(j))
				}
				var want []events.Digest
				for _, v := range c.values {
					want = append(want, digest([]byte(v)))
				}
				if fmt.Sprint(e.Literals) != fmt.Sprint(want) {
					t.Errorf("digests %x, want those of %q", e.Literals, c.values)
				}
				rs := j.Events(events.Response)
				if !c.verdict.Runs() {
					if len(rs) > 0 {
						t.Errorf("what did not run has an outcome: %+v", rs)
					}
					return
				}
				if len(rs) != 1 || rs[0].Number != 1 || rs[0].Rows != c.rows || rs[0].Status != c.status || rs[0].Duration <= 0 || (c.status == "error") != (rs[0].Code != "") {
					t.Errorf("outcome %+v", rs)
				}
			})
		}
	}
}

func text(j *protocoltest.Journal) string { return j.Transcript(events.ChunkStatement) }

// The server plans with the parameters at Bind, and runs stable functions for
// it: what it tells then is on the record before the client gets it.
func TestPlanningIsOnTheRecord(t *testing.T) {
	p := start(t, allowAll)
	r := p.raw()
	release := p.Journal.Hold()
	r.send(enc(parse("", "SELECT 1 FROM clinic.patients WHERE id = (table_to_xml('clinic.patients', true, false, '')::text::int)"), flush))
	if typ, _ := r.next(); typ != '1' {
		t.Fatalf("%c", typ)
	}
	r.send(enc(bind("", ""), sync_))
	r.silent()
	if ev := p.Journal.Events(events.Statement); len(ev) != 1 || !strings.Contains(ev[0].Normalized, "table_to_xml") {
		t.Fatalf("recorded: %+v", ev)
	}
	release()
	out := r.until('Z', 1)
	if !strings.Contains(out, "CANARY") { // it is allowed everything
		t.Fatal(out)
	}
	if rs := p.settled().Events(events.Response); len(rs) != 1 || rs[0].Status != "error" || rs[0].Code != "22P02" {
		t.Errorf("outcome %+v", rs)
	}
	if !strings.Contains(p.Journal.Transcript(events.ChunkResult), "CANARY") {
		t.Error("the transcript has not what the client saw")
	}
}

// A statement that may write goes to the server only when its record is
// durable; one that reads is answered only then.
func TestNothingBeforeItsRecord(t *testing.T) {
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		for name, say := range map[string][]message{
			"simple": {q("INSERT INTO w VALUES ('written')")}, "behind a read": {q("SELECT 1; INSERT INTO w VALUES ('written')")},
			"extended": extended("INSERT INTO w VALUES ($1)", "written"), "copy": {q("COPY w FROM STDIN"), data("written\n"), copyDone},
		} {
			t.Run(pol.name+"/"+name, func(t *testing.T) {
				tap := make(chan *protocoltest.Tap, 1)
				p := open(t, pol.text, protocoltest.Options{Dial: func(ctx context.Context) (net.Conn, error) {
					c, err := dialServer(ctx)
					if err != nil {
						return nil, err
					}
					d := &protocoltest.Tap{Conn: c}
					tap <- d
					return d, nil
				}})
				r, up := p.raw(), <-tap
				release := p.Journal.Hold()
				r.send(enc(say...))
				if name == "extended" { // Parse may be answered
					_ = r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					_, _ = r.Read(make([]byte, 5))
				}
				r.silent()
				if b := up.Written(); bytes.Contains(b, []byte("written")) {
					t.Errorf("the server got %q before the record was durable", b)
				}
				release()
				if out := r.until('Z', 1); strings.Contains(out, "E SERROR") {
					t.Error(out)
				}
				if b := up.Written(); !bytes.Contains(b, []byte("written")) {
					t.Errorf("the server got %q", b)
				}
			})
		}
	}
}

// A full journal refuses what is new in running sessions too, whatever the
// protocol and the transaction's state, and they go on when there is room.
func TestJournalFull(t *testing.T) {
	for _, pol := range []struct{ name, text string }{{"relayed", allowAll}, {"analysed", maskPolicy}} {
		t.Run(pol.name, func(t *testing.T) {
			p := start(t, pol.text)
			r := p.raw()
			r.ask(2, parse("s", "SELECT 1"), sync_, q("SELECT 1"))
			want := map[bool]string{false: "Z I\n", true: "Z E\n"}
			for _, inside := range []bool{false, true} {
				if inside {
					r.ask(1, q("BEGIN"))
				}
				p.Journal.Full(true)
				for i, say := range [][]message{
					{q("SELECT 1")},
					extended("SELECT 1"),
					{bind("", "s"), execute(""), sync_},
					{bind("", "s"), execute(""), bind("", "s"), execute(""), q("SELECT 2"), sync_},
				} {
					out := r.ask(1, say...)
					if full := strings.Count(out, "C53100"); full != 1 && !(inside && i > 0) || strings.Contains(out, "D ") || !strings.HasSuffix(out, want[inside]) {
						t.Errorf("%v: %s", inside, out)
					}
				}
				p.Journal.Full(false)
			}
			if out := r.ask(1, q("SELECT 1")); !strings.Contains(out, "C25P02") { // as behind any error
				t.Error(out)
			}
			if out := r.ask(2, q("ROLLBACK"), q("SELECT 'again'")); !strings.Contains(out, "again") {
				t.Error(out)
			}
		})
	}
}
