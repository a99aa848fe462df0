package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

// against opens a passage to a server that is serve.
func against(t *testing.T, pol string, serve func(net.Conn)) *proxy {
	return open(t, pol, protocoltest.Options{Dial: func(context.Context) (net.Conn, error) {
		door, far := protocoltest.Pair(t)
		go func() {
			serve(far)
			far.Close()
		}()
		return door, nil
	}})
}

var msg = postgrestest.Message

func columns(table uint32, attnum uint16) []byte {
	var b []byte
	b = append(b, 0, 1)
	b = append(b, "a\x00"...)
	b = binary.BigEndian.AppendUint32(b, table)
	b = binary.BigEndian.AppendUint16(b, attnum)
	return msg('T', string(append(b, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0)))
}

func join(ms ...[]byte) []byte { return bytes.Join(ms, nil) }

var row, complete = msg('D', "\x00\x01\x00\x00\x00\x06CANARY"), msg('C', "SELECT 1\x00")

// A server that does not answer what it was asked ends the session: nothing of
// it can be attributed, so nothing of it is shown.
func TestServerOutOfStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		say    []message
		answer []byte
		want   string // what the client gets before the end
	}{
		{"a row out of nowhere", nil, row, ""},
		{"ReadyForQuery out of nowhere", nil, postgrestest.Ready(), ""},
		{"two answers", []message{q("SELECT 1")}, join(complete, postgrestest.Ready(), row), "C Z I"},
		{"a COPY that nobody asked for", []message{q("SELECT 1")}, msg('G', "\x00\x00\x00"), ""},
		{"another message's answer", []message{parse("", "SELECT 1"), sync_}, msg('2', ""), ""},
		{"a row for Parse", []message{parse("", "SELECT 1"), sync_}, row, ""},
		{"a row for Bind", []message{parse("", "SELECT 1"), bind("", ""), sync_}, join(msg('1', ""), row), "1"},
		{"a row for Sync", []message{sync_}, row, ""},
		{"a refused statement runs", []message{q("DELETE FROM clinic.patients")}, join(columns(0, 0), row, complete, postgrestest.Ready()), ""},
		{"... and gives a row only", []message{q("DELETE FROM clinic.patients")}, row, ""},
		{"... or nothing", []message{q("DELETE FROM clinic.patients")}, join(msg('I', ""), postgrestest.Ready()), ""},
		{"... in a batch", extended("DELETE FROM clinic.patients"), msg('1', ""), ""},
		{"an impossible length", nil, []byte{'D', 0, 0, 0, 3, 0}, ""},
		{"a huge message", []message{q("SELECT 1")}, []byte{'T', 0x7f, 0, 0, 0}, ""},
		{"an unknown type", []message{q("SELECT 1")}, msg('!', "CANARY"), ""},
		{"CopyBoth", []message{q("SELECT 1")}, msg('W', "\x00\x00\x00"), ""},
		{"authentication again", []message{q("SELECT 1")}, msg('R', "\x00\x00\x00\x03"), ""},
		{"a ReadyForQuery that is too long", []message{q("SELECT 1")}, msg('Z', "ICANARY"), ""},
		{"an unreadable RowDescription", []message{q("SELECT 1")}, msg('T', "\x00\x05CANARY"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := against(t, maskPolicy, func(s net.Conn) {
				postgrestest.Admit(s)
				if len(c.say) > 0 {
					_, _ = s.Read(make([]byte, 1))
				}
				time.Sleep(20 * time.Millisecond) // all of it is under way
				_, _ = s.Write(c.answer)
				_, _ = s.Read(make([]byte, 64<<10))
				time.Sleep(time.Second)
			})
			r := p.raw()
			if c.say != nil {
				r.send(enc(c.say...))
			}
			out := r.until(0, 1)
			rest, ok := strings.CutSuffix(out, "EOF\n")
			i := strings.Index(rest, "E SFATAL")
			if !ok || strings.Contains(out, "CANARY") || i < 0 || skeleton(rest[:i]) != c.want {
				t.Errorf("%s", out)
			}
			if err := p.End(); err == nil {
				t.Error("it ended as if nothing was wrong")
			}
			p.settled()
		})
	}
}

// The second layer: a column that the server itself says is a protected one
// does not go out, whatever the analysis said.
func TestProtectedColumnIsNotShown(t *testing.T) {
	ctx := context.Background()
	db, err := pgconn.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	rs, err := db.Exec(ctx, "SELECT attrelid, attnum FROM pg_attribute WHERE attrelid = 'clinic.patients'::regclass AND attname IN ('ssn', 'id') ORDER BY attname").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var oid uint32
	var id, ssn uint16
	_, _ = fmt.Sscan(string(rs[0].Rows[0][0]), &oid)
	_, _ = fmt.Sscan(string(rs[0].Rows[0][1]), &id)
	_, _ = fmt.Sscan(string(rs[0].Rows[1][1]), &ssn)
	var shown []byte
	serve := func(s net.Conn) {
		postgrestest.Admit(s)
		for {
			typ, _, err := postgrestest.Read(s)
			switch {
			case err != nil:
				return
			case typ == 'Q':
				_, _ = s.Write(join(shown, row, complete, postgrestest.Ready()))
			case typ == 'S':
				_, _ = s.Write(join(msg('1', ""), msg('2', ""), shown, row, complete, postgrestest.Ready()))
			}
		}
	}
	for name, say := range map[string][]message{"simple": {q("SELECT a FROM m0")}, "extended": extended("SELECT a FROM m0")} {
		shown = columns(oid, id)
		p := against(t, maskPolicy, serve)
		if out := p.raw().ask(1, say...); !strings.Contains(out, "CANARY") {
			t.Errorf("%s: a column that is not protected: %s", name, out)
		}
		shown = columns(oid, ssn)
		p = against(t, maskPolicy, serve)
		r := p.raw()
		r.send(enc(say...))
		out := r.until(0, 1)
		if strings.Contains(out, "CANARY") || strings.Contains(out, "T a") || !strings.Contains(out, "E SFATAL") {
			t.Errorf("%s: %s", name, out)
		}
		if a := p.Journal.Events(events.Alarm); len(a) != 1 || a[0].Number != 1 || a[0].Message == "" {
			t.Errorf("%s: alarms %+v", name, a)
		}
		if err := p.End(); err == nil {
			t.Error("it ended as if nothing was wrong")
		}
	}
}

// What a server says beside its answers shows nothing where something is
// protected.
func TestServerTalks(t *testing.T) {
	note, warn := msg('A', "\x00\x00\x00\x01ch\x00CANARY\x00"), msg('N', "SNOTICE\x00VNOTICE\x00C00000\x00MCANARY\x00WCANARY\x00xCANARY\x00\x00")
	fail := join(msg('E', "SERROR\x00VERROR\x00C22P02\x00MCANARY\x00DCANARY\x00WCANARY\x00qCANARY\x00sCANARY\x00tCANARY\x00cCANARY\x00\x00"))
	last := msg('E', "SFATAL\x00VFATAL\x00C57P01\x00MCANARY\x00\x00")
	for _, c := range []struct {
		name   string
		say    []message
		answer []byte
		want   string
	}{
		{"idle", nil, join(note, warn, fail, last), "N E E EOF"},
		{"of a statement on protected data", []message{q("INSERT INTO clinic.patients (id, visits) VALUES (1, 2)")}, join(warn, note, fail, postgrestest.Ready(), last), "N E Z I E EOF"},
		{"of a refused one", []message{q("DELETE FROM clinic.patients")}, join(note, fail, postgrestest.Ready(), last), "E Z I E EOF"},
	} {
		serve := func(s net.Conn) {
			postgrestest.Admit(s)
			if c.say != nil {
				_, _ = s.Read(make([]byte, 4<<10))
			} else {
				time.Sleep(20 * time.Millisecond)
			}
			_, _ = s.Write(c.answer)
		}
		p := against(t, maskPolicy, serve)
		r := p.raw()
		if c.say != nil {
			r.send(enc(c.say...))
		}
		out := r.until(0, 1)
		got := strings.Join(strings.Fields(skeleton(strings.ReplaceAll(out, "EOF\n", ""))), " ") + " EOF"
		if strings.Contains(out, "CANARY") || got != c.want {
			t.Errorf("%s: %s\n%s", c.name, got, out)
		}
		// Relayed, it is what the server said.
		p = against(t, allowAll, serve)
		r = p.raw()
		if c.say != nil {
			r.send(enc(c.say...))
		}
		if out := r.until(0, 1); strings.Count(out, "CANARY") != bytes.Count(c.answer, []byte("CANARY")) {
			t.Errorf("%s, relayed: %s", c.name, out)
		}
	}
}

// What a login must not be answered with.
func TestServerLogin(t *testing.T) {
	ok, key := msg('R', "\x00\x00\x00\x00"), msg('K', "\x00\x00\x00\x01\x00\x00\x00\x02")
	for name, answer := range map[string][]byte{
		"ready before it is in": postgrestest.Ready(), "in twice": join(ok, ok), "Kerberos": msg('R', "\x00\x00\x00\x02"), "GSSAPI": msg('R', "\x00\x00\x00\x07"), "SSPI": msg('R', "\x00\x00\x00\x09"),
		"a row": join(ok, row), "a row first": row, "two keys": join(ok, key, key, postgrestest.Ready()), "no method": msg('R', ""), "nothing": nil, "nonsense": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"too long": {'R', 0, 1, 0, 1}, "asked again when in": join(ok, msg('R', "\x00\x00\x00\x03")),
	} {
		p := against(t, maskPolicy, func(s net.Conn) {
			_, _ = s.Read(make([]byte, 4<<10))
			_, _ = s.Write(answer)
			if answer != nil {
				time.Sleep(time.Second)
			}
		})
		r := &raw{t: t, Conn: p.Dial()}
		r.send(startup(3<<16, "user", "agent"))
		out := r.until(0, 1)
		if strings.Contains(out, "Z ") || strings.Contains(out, "D ") || answer != nil && strings.Count(out, "E SFATAL") != 1 || !strings.HasSuffix(out, "EOF\n") {
			t.Errorf("%s: %s", name, out)
		}
		if err := p.End(); err == nil {
			t.Errorf("%s: it ended as if nothing was wrong", name)
		}
	}
}

// A server that reads no more does not hold a session whose answers make no
// sense.
func TestServerThatDoesNotRead(t *testing.T) {
	for name, then := range map[string]func(*raw, net.Conn){
		"nonsense": func(_ *raw, s net.Conn) { _, _ = s.Write(msg('2', "")) }, "it goes": func(_ *raw, s net.Conn) { s.Close() },
	} {
		far := make(chan net.Conn, 1)
		p := against(t, allowAll, func(s net.Conn) {
			postgrestest.Admit(s)
			far <- s
			select {}
		})
		r := p.raw()
		s := <-far
		go r.Write(bytes.Repeat(enc(q("SELECT '"+strings.Repeat("x", 10_000)+"'")), 3000))
		time.Sleep(200 * time.Millisecond)
		then(r, s)
		select {
		case <-p.Ends:
		case <-time.After(2 * time.Minute):
			buf := make([]byte, 1<<20)
			t.Errorf("%s: the session does not end\n%s", name, buf[:runtime.Stack(buf, true)])
			s.Close()
		}
	}
}

// An error between a batch's messages (of a timeout) makes the server skip, as
// any other does.
func TestErrorBetweenMessages(t *testing.T) {
	for _, pol := range []string{allowAll, maskPolicy} {
		p := start(t, pol)
		run := func(r *raw) string {
			r.ask(1, q("SET statement_timeout = 100"))
			r.send(enc(parse("", "SELECT 1"), flush))
			time.Sleep(300 * time.Millisecond)
			return r.ask(2, bind("", ""), execute(""), sync_, q("SELECT 2"))
		}
		got, want := run(p.raw()), run(dial(t, server.Addr.String()))
		if skeleton(got) != skeleton(want) || !strings.Contains(want, "C57014") {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		p.settled()
	}
}
