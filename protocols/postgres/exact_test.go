package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	pg_query "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/protocoltest"
)

// sentAs returns what the server was sent in place of a client's texts.
func sentAs(t *testing.T, b []byte) (texts []string) {
	t.Helper()
	b = b[binary.BigEndian.Uint32(b):] // the StartupMessage
	for len(b) >= 5 {
		n := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if b[0] == 'Q' {
			texts = append(texts, string(b[5:n-1]))
		}
		b = b[n:]
	}
	return texts
}

// A statement that is sent by its shape is the one that is sent when it is
// analysed by itself, and has the same verdict.
func TestShapeIsExact(t *testing.T) {
	var tap *protocoltest.Tap
	p := open(t, maskPolicy, protocoltest.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := dialServer(ctx)
		tap = &protocoltest.Tap{Conn: c}
		return tap, err
	}})
	r := p.raw()
	g := rand.New(rand.NewPCG(7, 7))
	pick := func(of ...string) string { return of[g.IntN(len(of))] }
	value := func() string {
		switch g.IntN(6) {
		case 0:
			return fmt.Sprint(g.IntN(1_000_000_000))
		case 1:
			return fmt.Sprint(g.IntN(5))
		case 2:
			return pick("'Boston'", "'it''s'", "''", "'***-**-0001'", "'é'", "'1962-04-28'", "'%'")
		case 3:
			return pick("1.5", "1e5", "12345678901", "NULL", "true", "-7")
		}
		return fmt.Sprintf("'%c'", 'a'+g.IntN(26))
	}
	column := func() string { return pick("id", "name", "ssn", "city", "birth_date", "p.ssn", "p.email", "visits") }
	expr := func() string {
		switch g.IntN(8) {
		case 0:
			return "coalesce(" + column() + "::text, " + value() + "::text)"
		case 1:
			return column() + "::text || " + value() + "::text"
		case 2:
			return "CASE WHEN " + column() + "::text = " + value() + "::text THEN " + value() + "::text ELSE " + value() + "::text END"
		case 3:
			return "substring(" + column() + "::text from 1 for " + fmt.Sprint(1+g.IntN(9)) + ")"
		case 4:
			return value()
		}
		return column()
	}
	const rounds = 400
	rewritten, allowed := 0, 0
	for range rounds {
		sql := "SELECT " + expr() + ", " + expr() + " FROM clinic.patients p WHERE " + expr() + "::text " + pick("=", "<", "LIKE", "IS DISTINCT FROM") + " " + value() + "::text"
		switch g.IntN(5) {
		case 0:
			sql += " ORDER BY " + pick("1", "2", "id") + " LIMIT " + fmt.Sprint(g.IntN(9))
		case 1:
			sql = "WITH x AS (" + sql + ") SELECT count(*), " + value() + " FROM x"
		case 2:
			sql += "; SELECT " + value()
		}
		shaped := skeleton(r.ask(1, q(sql)))
		exact := skeleton(r.ask(1, q("/**/"+sql)))
		texts := sentAs(t, tap.Written())
		if len(texts) < 2 {
			t.Fatal(texts)
		}
		a, b := texts[len(texts)-2], strings.TrimPrefix(texts[len(texts)-1], "/**/")
		if strings.Contains(a, "sallyport_refused") != strings.Contains(b, "sallyport_refused") || shaped != exact {
			t.Fatalf("%s\nby its shape: %s %s\nby itself: %s %s", sql, shaped, a, exact, b)
		}
		if strings.Contains(a, "sallyport_refused") {
			continue
		}
		allowed++
		if a != sql {
			rewritten++
		}
		if x, y := plain(t, a), plain(t, b); x != y {
			t.Fatalf("%s\nby its shape: %s\nby itself: %s", sql, a, b)
		}
	}
	t.Logf("%d of %d allowed, %d rewritten", allowed, rounds, rewritten)
	if allowed < rounds/2 || rewritten < rounds/4 {
		t.Error("too little of it ran to tell")
	}
	if bytes.Contains(tap.Written(), []byte("sallyport_"+"A")) {
		t.Error("a stand-in went to the server")
	}
}

// plain is a text as the grammar prints it: spellings of one number are one.
func plain(t *testing.T, sql string) string {
	t.Helper()
	tree, err := pg_query.Parse(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	out, err := pg_query.Deparse(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
