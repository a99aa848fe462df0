package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// described is a column of a RowDescription.
type described struct {
	table  uint32
	attnum uint16
	oid    uint32
	format uint16
}

func rowDescription(cols ...described) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(cols)))
	for _, c := range cols {
		b = binary.BigEndian.AppendUint32(append(b, "a\x00"...), c.table)
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, c.attnum), c.oid)
		b = binary.BigEndian.AppendUint16(append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), c.format)
	}
	return msg('T', string(b))
}

func values(vs ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(vs)))
	for _, v := range vs {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return msg('D', string(b))
}

// A server that answers with anything else than was analysed shows nothing of
// it: the session ends, with an alarm.
func TestKeyedMasksAgainstTheServer(t *testing.T) {
	ctx := context.Background()
	db, err := pgconn.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	rs, err := db.Exec(ctx, "SELECT attrelid, attnum FROM pg_attribute WHERE attrelid = 'clinic.patients'::regclass AND attname IN ('city', 'ssn') ORDER BY attname").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var oid uint32
	var cityNum, ssnNum uint16
	_, _ = fmt.Sscan(string(rs[0].Rows[0][0]), &oid)
	_, _ = fmt.Sscan(string(rs[0].Rows[0][1]), &cityNum)
	_, _ = fmt.Sscan(string(rs[0].Rows[1][1]), &ssnNum)
	city, ssn := described{table: oid, attnum: cityNum, oid: 25}, described{table: oid, attnum: ssnNum, oid: 25}
	good, row := rowDescription(city, ssn), values("Boston", "CANARY-SECRET")
	end := join(msg('C', "SELECT 1\x00"), postgrestest.Ready())
	one, two := msg('1', ""), msg('2', "")
	const sql = "SELECT city, ssn FROM clinic.patients"
	for _, c := range []struct {
		name   string
		say    []message
		answer []byte
		fine   bool
	}{
		{"as it was analysed", []message{q(sql)}, join(good, row, end), true},
		{"the same, extended", extended(sql), join(one, two, good, good, row, end), true},
		{"another order", []message{q(sql)}, join(rowDescription(ssn, city), row, end), false},
		{"an expression", []message{q(sql)}, join(rowDescription(city, described{oid: 25}), row, end), false},
		{"both expressions", []message{q(sql)}, join(rowDescription(described{oid: 25}, described{oid: 25}), row, end), false},
		{"another type", []message{q(sql)}, join(rowDescription(city, described{oid, ssnNum, 23, 0}), row, end), false},
		{"another format", []message{q(sql)}, join(rowDescription(city, described{oid, ssnNum, 25, 2}), row, end), false},
		{"a column more", []message{q(sql)}, join(rowDescription(city, ssn, city), row, end), false},
		{"the column twice", []message{q(sql)}, join(rowDescription(city, ssn, ssn), row, end), false},
		{"a column less", []message{q(sql)}, join(rowDescription(city), row, end), false},
		{"none", []message{q(sql)}, join(rowDescription(), row, end), false},
		{"no description", []message{q(sql)}, join(row, end), false},
		{"a row of one", []message{q(sql)}, join(good, values("CANARY-SECRET"), end), false},
		{"a row of three", []message{q(sql)}, join(good, values("a", "b", "CANARY-SECRET"), end), false},
		{"a field that is larger than the row", []message{q(sql)}, join(good, msg('D', "\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x40CANARY-SECRET"), end), false},
		{"a negative size", []message{q(sql)}, join(good, msg('D', "\x00\x02\xff\xff\xff\xfeCANARY-SECRET"), end), false},
		{"an empty row", []message{q(sql)}, join(good, msg('D', ""), end), false},
		{"COPY", []message{q(sql)}, join(msg('H', "\x00\x00\x02\x00\x00\x00\x00"), msg('d', "CANARY-SECRET\n"), end), false},
		{"COPY behind a description", []message{q(sql)}, join(good, msg('d', "CANARY-SECRET\n"), end), false},
		{"a row behind the end", []message{q(sql)}, join(good, row, msg('C', "SELECT 1\x00"), rowDescription(described{oid: 25}), values("CANARY-SECRET"), end), false},
		{"the answer to us is missing", extended(sql), join(one, two, good, row, end), false},
		{"no data for us", extended(sql), join(one, two, good, msg('n', ""), row, end), false},
		{"another answer to us", extended(sql), join(one, two, good, rowDescription(ssn, city), row, end), false},
		{"no data for both", extended(sql), join(one, two, msg('n', ""), msg('n', ""), row, end), false},
		{"a bad one for the client", extended(sql), join(one, two, rowDescription(city, described{oid: 25}), good, row, end), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			answersWith(t, c.answer, c.fine, c.say...)
		})
	}
}

// answersWith holds that a server which answers so, to what a client says, shows nothing
// secret; unless that is fine, the session ends with an alarm or is refused.
func answersWith(t *testing.T, answer []byte, fine bool, say ...message) {
	t.Helper()
	p := against(t, keyedPolicy, func(s net.Conn) {
		postgrestest.Admit(s)
		for {
			typ, _, err := postgrestest.Read(s)
			if err != nil {
				return
			}
			if typ == 'Q' || typ == 'S' {
				_, _ = s.Write(answer)
			}
		}
	})
	r := p.raw()
	r.send(enc(say...))
	out := r.until('Z', 1)
	if strings.Contains(out, "SECRET") || fine != strings.Contains(out, "Z I") || fine && !strings.Contains(out, "Boston") {
		t.Fatalf("%s", out)
	}
	if fine {
		return
	}
	if err := p.End(); err == nil {
		t.Error("it ended as if nothing was wrong")
	}
	ended := p.settled()
	if alarms := ended.Events(events.Alarm); len(alarms) == 0 && !strings.Contains(out, "not understood") {
		t.Errorf("no alarm: %s", out)
	}
	for _, ch := range ended.Chunks() {
		if bytes.Contains(ch.Data, []byte("SECRET")) {
			t.Errorf("the transcript has %q", ch.Data)
		}
	}
}

// Rows larger than any buffer come through whole, but for values that are too
// large to be masked.
func TestKeyedMasksLargeRows(t *testing.T) {
	ctx := context.Background()
	db, err := pgconn.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	run := func(sql string) {
		t.Helper()
		if _, err := db.Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE TABLE public.large (n int, a text, b text, c text)")
	defer run("DROP TABLE public.large")
	run(`INSERT INTO public.large VALUES
		(1, 'SECRET', repeat('b', 3000000), 'SECRET'), (2, repeat('SECRET', 20000), repeat('b', 70000), repeat('SECRET', 300000)),
		(3, NULL, NULL, 'SECRET'), (4, 'SECRET', repeat('b', 20000000), 'SECRET')`)
	p := start(t, keyedPolicy+"      public.large.a: token\n      public.large.c: token\n")
	for _, cols := range []string{"n, a, b, c", "n, b, c, a", "a, c, n, b", "c, b, n", "b, a, n", "*"} {
		r := p.raw()
		out := r.get(1, q("SELECT "+cols+" FROM public.large WHERE n < 4"))
		if len(out.rows) != 3 || strings.Contains(out.text, "SECRET") || !strings.Contains(out.rows[0], "tok_") || !strings.Contains(out.rows[0], strings.Repeat("b", 3000000)) || !strings.Contains(out.rows[1], "NULL") {
			t.Errorf("%s: %d rows, %.300s", cols, len(out.rows), out.text)
		}
		again := r.get(1, extended("SELECT "+cols+" FROM public.large WHERE n < 4")...)
		if strings.Join(again.rows, "\n") != strings.Join(out.rows, "\n") {
			t.Errorf("%s: extended it is another", cols)
		}
	}
	if out := p.raw().get(1, q("SELECT a, c, b FROM public.large WHERE n = 4")); len(out.rows) != 1 || !strings.Contains(out.rows[0], strings.Repeat("b", 20000000)) || strings.Contains(out.text, "SECRET") {
		t.Errorf("%.300s", out.text)
	}
	if out := p.raw().get(1, q("SELECT a, b, c FROM public.large WHERE n = 4")); len(out.rows) != 0 || strings.Contains(out.text, "SECRET") || !strings.Contains(out.text, "too large to be masked") {
		t.Errorf("%.300s", out.text)
	}
}

// A session that ends in the middle of a row says nothing more.
func TestKeyedMasksCutOff(t *testing.T) {
	p := against(t, keyedPolicy, func(s net.Conn) {
		postgrestest.Admit(s)
		_, _, _ = postgrestest.Read(s)
		_, _ = s.Write([]byte("D\x00\x00\x10\x00\x00\x02\x00\x00\x00\x06Boston\x00\x00\x00\x40SECRET"))
	})
	r := p.raw()
	r.send(enc(q("SELECT city, ssn FROM clinic.patients")))
	if out := r.until('Z', 1); strings.Contains(out, "SECRET") {
		t.Errorf("%s", out)
	}
}
