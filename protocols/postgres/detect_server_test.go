package postgres_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

const everythingPolicy = `
rules:
  - {name: all, effect: allow, identity: "*", resource: "*", commands: "*", relations: "*"}
  - {name: everything, effect: mask, identity: "*", resource: "*", detect: [ssn, email], on: "*"}
`

// saying is a server that answers each Query, and each Sync, with what it is given,
// in pieces.
func saying(answer []byte, piece int) func(net.Conn) {
	return func(s net.Conn) {
		postgrestest.Admit(s)
		for {
			typ, _, err := postgrestest.Read(s)
			if err != nil {
				return
			}
			if typ != 'Q' && typ != 'S' {
				continue
			}
			for b := answer; len(b) > 0; {
				n := min(piece, len(b))
				if _, err := s.Write(b[:n]); err != nil {
					return
				}
				b = b[n:]
				if piece < 64 {
					time.Sleep(time.Microsecond) // so that they are pieces
				}
			}
		}
	}
}

// A value that comes in pieces is looked at as a whole, wherever it is cut.
func TestDetectorsOnPieces(t *testing.T) {
	text := described{oid: 25}
	long := strings.Repeat("the patient was well ", 4000)
	answer := join(rowDescription(described{oid: 23}, text, text), values("1", "it is 219-09-9847 and", "x"), values("2", long+"ann.walker@example.org", ""),
		msg('N', "SNOTICE\x00C00000\x00Mit is 219-09-9847\x00\x00"), msg('S', "application_name\x00219-09-9847\x00"), msg('A', "\x00\x00\x00\x01c\x00219-09-9847\x00"),
		msg('C', "SELECT 2\x00"), postgrestest.Ready())
	var whole string
	for _, piece := range []int{1 << 20, 1, 7, 4096} {
		p := against(t, everythingPolicy, saying(answer, piece))
		r := p.raw()
		r.send(enc(q("SELECT 1")))
		out := r.until('Z', 1)
		r.Close()
		if undeclared([]byte(out)) != "" || strings.Count(out, "[ssn]") != 4 || strings.Count(out, "[email]") != 1 || !strings.Contains(out, long) {
			t.Errorf("in pieces of %d: %q", piece, strings.ReplaceAll(out, long, "..."))
		}
		if whole == "" {
			whole = out
		} else if out != whole {
			t.Errorf("in pieces of %d it is another answer", piece)
		}
	}
}

// What can't be looked at, or is not what was analysed, does not go out: the
// session ends.
func TestDetectorsAgainstTheServer(t *testing.T) {
	text, end := described{oid: 25}, join(msg('C', "SELECT 1\x00"), postgrestest.Ready())
	const secret = "219-09-9847"
	large := values(strings.Repeat("x", 17<<20) + secret)
	largeCopy := msg('d', strings.Repeat("x", 17<<20)+secret+"\n")
	textOut, binaryOut := msg('H', "\x00\x00\x01\x00\x00"), msg('H', "\x01\x00\x01\x00\x01")
	done := join(msg('c', ""), msg('C', "COPY 1\x00"), postgrestest.Ready())
	for _, c := range []struct {
		name, sql string
		answer    []byte
		alarm     bool
	}{
		{"a row without a description", "SELECT 1", join(values(secret), end), true},
		{"a row of another width", "SELECT 1", join(rowDescription(text), values("a", secret), end), true},
		{"a row that is too large", "SELECT 1", join(rowDescription(text), large, end), false},
		{"a field that is larger than the row", "SELECT 1", join(rowDescription(text), msg('D', "\x00\x01\x00\x00\x00\x40"+secret), end), true},
		{"COPY data without its beginning", "COPY t TO STDOUT", join(msg('d', secret+"\n"), done), true},
		{"COPY data where none was asked for", "SELECT 1", join(textOut, msg('d', secret+"\n"), done), true},
		{"COPY data behind a description", "SELECT 1", join(rowDescription(text), msg('d', secret+"\n"), end), true},
		{"COPY data in another format", "COPY t TO STDOUT", join(binaryOut, msg('d', secret+"\n"), done), true},
		{"a second COPY", "COPY t TO STDOUT", join(textOut, msg('c', ""), msg('C', "COPY 0\x00"), textOut, msg('d', secret+"\n"), done), true},
		{"COPY data without the end of its line", "COPY t TO STDOUT", join(textOut, msg('d', secret), done), true},
		{"CSV cut off", "COPY t TO STDOUT CSV", join(textOut, msg('d', "\""+secret+"\n"), done), true},
		{"COPY data in binary without its head", "COPY t TO STDOUT (FORMAT binary)", join(binaryOut, msg('d', "\x00\x01\x00\x00\x00\x0b"+secret), done), true},
		{"COPY data that is too large", "COPY t TO STDOUT", join(textOut, largeCopy, done), false},
		{"a row behind the end of its result", "SELECT 1; SELECT 2", join(rowDescription(described{oid: 23}), values("1"), msg('C', "SELECT 1\x00"), values(secret), end), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := against(t, everythingPolicy, saying(c.answer, 1<<20))
			r := p.raw()
			r.send(enc(q(c.sql)))
			out := r.until('Z', 1)
			if strings.Contains(out, "-9847") || !strings.Contains(out, "sallyport: ") || bytes.Contains([]byte(out), []byte("Z I")) {
				t.Fatalf("%.400q", out)
			}
			r.Close()
			p.settled()
			alarms := p.Journal.Events(events.Alarm)
			if (len(alarms) == 1) != c.alarm || strings.Contains(fmt.Sprintf("%+v", alarms), "-9847") {
				t.Errorf("alarms: %+v", alarms)
			}
		})
	}
}
