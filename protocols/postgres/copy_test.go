package postgres_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

func copyFail(why string) message { return &pgproto3.CopyFail{Message: why} }

// COPY with everything a client may say around it is answered as the server
// answers it.
func TestCopyOddities(t *testing.T) {
	in := q("COPY cccc FROM STDIN")
	table := q("CREATE TEMP TABLE cccc (a int CHECK (a < 100))")
	ext := func(sql string) []message { return []message{parse("", sql), bind("", ""), execute("")} }
	tables := 0 // each run has one of its own: one that is going is not another's
	proxies := map[string]*proxy{
		"relayed": start(t, allowAll), "analysed": start(t, strings.Replace(maskPolicy, "[read, session, write]", "[read, session, write, ddl]", 1)),
	}
	for _, c := range []struct {
		name  string
		ready int
		say   []message
	}{
		{"data that nobody asked for", 3, []message{data("1\n"), copyDone, copyFail("x"), table, data("2\n"), q("SELECT 1"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"data behind an error", 3, []message{table, in, data("1\nx\n"), data("3\n"), data("4\n"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"data behind the end", 3, []message{table, in, data("1\n"), copyDone, data("2\n"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"the client gives up", 3, []message{table, in, data("1\n"), copyFail("never mind"), q("SELECT count(*) FROM cccc")}},
		{"no data", 3, []message{table, in, copyDone, q("SELECT count(*) FROM cccc")}},
		{"empty pieces", 3, []message{table, in, data(""), data("1"), data(""), data("\n"), data("2\n"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"no such table", 2, []message{in, data("1\n"), copyDone, q("SELECT 1")}},
		{"Sync and Flush in the middle", 3, []message{table, in, sync_, data("1\n"), flush, sync_, data("2\n"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"several in one text", 2, []message{
			table, q("COPY cccc FROM STDIN; SELECT 1; COPY cccc FROM STDIN; COPY cccc TO STDOUT; COPY cccc FROM STDIN; SELECT sum(a) FROM cccc"),
			data("1\n"), copyDone, data("2\n"), data("3\n"), copyDone, data("4\n"), copyDone,
		}},
		{"several, the second fails", 3, []message{table, q("COPY cccc FROM STDIN; COPY cccc FROM STDIN; COPY cccc FROM STDIN"), data("1\n"), copyDone, data("500\n"), copyDone, data("3\n"), copyDone, q("SELECT count(*) FROM cccc")}},
		{"behind other statements", 2, []message{table, q("/* first */ BEGIN; INSERT INTO cccc VALUES (1); COPY cccc FROM STDIN; COMMIT"), data("2\n"), copyDone}},
		{"extended", 2, append(append([]message{table}, ext("COPY cccc FROM STDIN")...), data("1\n"), copyDone, sync_)},
		{"extended, Sync first", 2, append(append([]message{table}, ext("COPY cccc FROM STDIN")...), sync_, data("1\n"), copyDone, sync_)},
		{"extended, an error", 3, append(append([]message{table}, ext("COPY cccc FROM STDIN")...), data("x\n"), data("1\n"), copyDone, sync_, q("SELECT count(*) FROM cccc"))},
		{"extended, the client gives up", 3, append(append([]message{table}, ext("COPY cccc FROM STDIN")...), data("1\n"), copyFail("no"), sync_, q("SELECT count(*) FROM cccc"))},
		{"extended, more in the batch", 3, append(append(append([]message{table}, ext("COPY cccc FROM STDIN")...), data("1\n"), copyDone), append(ext("SELECT sum(a) FROM cccc"), sync_, q("SELECT 1"))...)},
		{"out", 2, []message{table, q("COPY (SELECT 1 UNION SELECT 2 ORDER BY 1) TO STDOUT; SELECT 3; COPY cccc TO STDOUT")}},
		{"out, extended", 1, append(ext("COPY (SELECT generate_series(1, 1000)) TO STDOUT"), sync_)},
		{"out, an error in the middle", 1, []message{q("COPY (SELECT 10 / (5 - g) FROM generate_series(1, 9) g) TO STDOUT")}},
		{"binary", 2, []message{q("COPY (SELECT 1::int, 'x'::text) TO STDOUT (FORMAT binary)"), q("SELECT 1")}},
	} {
		for name, p := range proxies {
			if c.name == "no such table" && name == "analysed" {
				continue // refused in other words
			}
			t.Run(c.name+"/"+name, func(t *testing.T) {
				for _, stepwise := range []bool{false, true} {
					run := func(r *raw) string {
						defer r.Close()
						tables++
						b := bytes.ReplaceAll(enc(c.say...), []byte("cccc"), fmt.Appendf(nil, "c%03d", tables))
						for len(b) > 0 {
							n := len(b)
							if stepwise {
								n = 1 + int(binary.BigEndian.Uint32(b[1:]))
								time.Sleep(time.Millisecond)
							}
							r.send(b[:n])
							b = b[n:]
						}
						return ownTable.ReplaceAllString(r.until('Z', c.ready), "cccc")
					}
					got, want := run(p.raw()), run(dial(t, server.Addr.String()))
					got, want = ownSchema.ReplaceAllString(got, ""), ownSchema.ReplaceAllString(want, "")
					if name == "analysed" {
						got, want = ownPlaces.ReplaceAllString(got, ""), ownPlaces.ReplaceAllString(want, "")
					}
					if got != want {
						t.Errorf("stepwise %v: got\n%s\nwant\n%s", stepwise, got, want)
					}
				}
				p.settled()
			})
		}
	}
}

var (
	ownSchema = regexp.MustCompile(`spg_temp_\d+`)
	ownTable  = regexp.MustCompile(`c\d{3}`)
)

// During COPY the protocol knows few messages; another one ends the session.
func TestOtherMessagesDuringCopy(t *testing.T) {
	p := start(t, allowAll)
	for _, m := range []message{q("SELECT 1"), parse("", "SELECT 1"), bind("", ""), describe('S', ""), execute(""), closing('S', "")} {
		r := p.raw()
		r.send(enc(q("COPY w FROM STDIN"), data("never\n"), m))
		if out := r.until('Z', 1); !strings.Contains(out, "E SFATAL|VFATAL|C08P01") || !strings.HasSuffix(out, "EOF\n") {
			t.Errorf("%T: %s", m, out)
		}
		if err := p.End(); err == nil {
			t.Error("it ended as if nothing was wrong")
		}
	}
	if out := p.raw().ask(1, q("SELECT count(*) FROM w WHERE a = 'never'")); !strings.Contains(out, "0\nC SELECT 1") {
		t.Errorf("what was cut is there: %s", out)
	}
}

// What the client sends is in the transcript, up to the limit.
func TestCopyInput(t *testing.T) {
	p := start(t, maskPolicy)
	row := strings.Repeat("y", 99) + "\n"
	say := []message{q("COPY w FROM STDIN")}
	for range 20 {
		say = append(say, data(strings.Repeat(row, 1000)))
	}
	out := p.raw().ask(1, append(say, copyDone)...)
	if !strings.Contains(out, "C COPY 20000") {
		t.Fatal(out)
	}
	j := p.settled()
	in := j.Transcript(events.ChunkInput)
	if len(in) != 1<<20 || !strings.HasPrefix(in, row+row) {
		t.Errorf("%d bytes are recorded: %.200q", len(in), in)
	}
	if rs := j.Events(events.Response); len(rs) != 1 || rs[0].Rows != 20000 {
		t.Errorf("%+v", rs)
	}
	if ev := j.Events(events.Statement); len(ev) != 1 || ev[0].Command != "copy_from" || !ev[0].Writes || fmt.Sprint(ev[0].Objects) != "[public.w]" {
		t.Errorf("%+v", ev)
	}
}

// COPY shows masks, in every form.
func TestCopyMasked(t *testing.T) {
	p := start(t, maskPolicy)
	for _, sql := range []string{
		"COPY clinic.patients TO STDOUT", "COPY clinic.patients (ssn, name) TO STDOUT", "COPY (SELECT ssn FROM clinic.patients) TO STDOUT",
		"COPY (TABLE clinic.patients) TO STDOUT (FORMAT csv, HEADER)", "COPY clinic.patients (name, ssn) TO STDOUT (FORMAT binary)",
	} {
		for _, say := range [][]message{{q(sql)}, {parse("", sql), bind("", ""), execute(""), sync_}} {
			out := p.raw().ask(1, say...)
			if strings.Contains(out, "CANARY") || strings.Contains(out, "911-47") || !strings.Contains(out, "***-**-0001") {
				t.Errorf("%s: %s", sql, out)
			}
		}
	}
	if out := p.raw().ask(1, q("COPY clinic.patients FROM STDIN")); !strings.HasPrefix(out, "E ") {
		t.Error(out)
	}
}

// A client that is gone in the middle of COPY takes its rows with it, and
// nobody else.
func TestCopyCut(t *testing.T) {
	check := protocoltest.NoLeak(t)
	t.Run("cut", func(t *testing.T) {
		p := start(t, maskPolicy)
		other := p.raw()
		for i, leave := range []func(*raw){
			func(r *raw) { protocoltest.Reset(r.Conn) }, func(r *raw) { r.Close() }, func(r *raw) { r.send(enc(&pgproto3.Terminate{})); r.until('Z', 1) },
			func(r *raw) { r.send([]byte{'d', 0, 0, 1, 0, 'c', 'u'}); protocoltest.Reset(r.Conn) },
		} {
			r := p.raw()
			r.send(enc(q("COPY w FROM STDIN"), data("cut\n"), data("cut\n")))
			if typ, _ := r.next(); typ != 'G' {
				t.Fatalf("%c", typ)
			}
			time.Sleep(20 * time.Millisecond)
			leave(r)
			_ = p.End()
			if out := other.ask(1, q("SELECT count(*) FROM w WHERE a = 'cut'")); !strings.Contains(out, "0\nC SELECT 1") {
				t.Errorf("%d: %s", i, out)
			}
		}
		// The client stops to read COPY data.
		r := p.raw()
		r.send(enc(q("COPY (SELECT repeat('z', 1000) FROM generate_series(1, 100000)) TO STDOUT")))
		time.Sleep(50 * time.Millisecond)
		protocoltest.Reset(r.Conn)
		_ = p.End()
	})
	check()
}
