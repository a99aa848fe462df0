package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// codes is a table of values that are awkward to write, and one like it that is empty.
func codes(t *testing.T) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db.Exec(context.Background(), "DROP SCHEMA codes CASCADE")
		db.Close(context.Background())
	})
	if _, err := db.Exec(t.Context(), `DROP SCHEMA IF EXISTS codes CASCADE; CREATE SCHEMA codes;
		CREATE TABLE codes.t (code text, n int4, note varchar(40), u uuid, k int);
		CREATE TABLE codes.back (LIKE codes.t);
		INSERT INTO codes.t VALUES
			('CANARY,1', 91147001, 'a,b', '91147000-0000-0000-0000-000000000001', 1),
			(E'CANARY"2\n', -91147002, E'a\tb\\', '91147000-0000-0000-0000-000000000002', 2),
			(E'CANARY\\3\t', NULL, E'"\r\n''', NULL, 3),
			(NULL, 91147004, '', '91147000-0000-0000-0000-000000000004', 4),
			('', 91147005, NULL, '91147000-0000-0000-0000-000000000005', 5),
			('\N', 91147006, '\N', '91147000-0000-0000-0000-000000000006', 6),
			('\.', 91147007, '\.', '91147000-0000-0000-0000-000000000007', 7),
			('code', 91147008, 'note', '91147000-0000-0000-0000-000000000008', 8),
			(repeat('CANARY', 20000), 91147009, repeat('é', 40), '91147000-0000-0000-0000-000000000009', 9);
		GRANT ALL ON SCHEMA codes TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA codes TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	return db
}

const codesPolicy = keyedPolicy + "      codes.t.code: token\n      codes.t.n: token\n      codes.t.u: token\n"

// What COPY writes can be read back, and is what a SELECT shows, in all of its forms.
func TestKeyedCopy(t *testing.T) {
	db := codes(t)
	p := start(t, codesPolicy)
	back := func(t *testing.T, table string) (rows []string) {
		t.Helper()
		found, err := db.Query(t.Context(), "SELECT k, code, n, note, u::text FROM "+table+" ORDER BY k")
		if err != nil {
			t.Fatal(err)
		}
		for found.Next() {
			v, err := found.Values()
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, fmt.Sprintf("%#v", v))
		}
		return rows
	}
	session := p.raw()
	shown := session.get(1, q("SELECT k, code, n, note, u FROM codes.t ORDER BY k"))
	if len(shown.rows) != 9 || !strings.Contains(shown.rows[0], "tok_") {
		t.Fatal(shown.text)
	}
	var want []string
	for _, options := range []string{
		"", "(FORMAT text)", "(DELIMITER '|')", "(DELIMITER 'T', NULL '\\N')", "(FORMAT csv)", "CSV HEADER", "(FORMAT csv, HEADER, DELIMITER ';', QUOTE '''')",
		"(FORMAT csv, FORCE_QUOTE *)", "(FORMAT csv, FORCE_QUOTE (code, n))", "(FORMAT csv, NULL 'none', ESCAPE '!')", "(FORMAT csv, QUOTE '_', DELIMITER 'o')",
		"(FORMAT csv, HEADER false)", "BINARY", "(FORMAT binary)",
	} {
		for _, from := range []string{"codes.t (k, code, n, note, u)", "(SELECT k, code, n, note, u FROM codes.t)", "(SELECT * FROM codes.t)", "codes.t", "(TABLE codes.t UNION ALL SELECT * FROM codes.t WHERE false)"} {
			for how, say := range map[string]func(string) []message{"simple": func(s string) []message { return []message{q(s)} }, "extended": func(s string) []message { return extended(s) }} {
				sql := "COPY " + from + " TO STDOUT " + options
				t.Run(how+" "+sql, func(t *testing.T) {
					out := session.get(1, say(sql)...)
					data := strings.Join(out.data, "")
					if len(out.data) < 9 || strings.Contains(out.text, "E S") || strings.Contains(data, "CANARY") || strings.Contains(data, "91147") {
						t.Fatalf("%s", out.text)
					}
					columns := "codes.back"
					if strings.Contains(from, "k, code") {
						columns += " (k, code, n, note, u)"
					}
					if _, err := db.PgConn().Exec(t.Context(), "TRUNCATE codes.back").ReadAll(); err != nil {
						t.Fatal(err)
					}
					// FORCE_QUOTE is of COPY TO only.
					reading := options
					if strings.Contains(options, "FORCE_QUOTE") {
						reading = "(FORMAT csv)"
					}
					if _, err := db.PgConn().CopyFrom(t.Context(), strings.NewReader(data), "COPY "+columns+" FROM STDIN "+reading); err != nil {
						t.Fatalf("%v: %q", err, clip(data))
					}
					rows := back(t, "codes.back")
					if want == nil {
						want = rows
						if stored := back(t, "codes.t"); len(rows) != len(stored) || slices.ContainsFunc(rows, func(r string) bool { return slices.Contains(stored, r) }) {
							t.Errorf("%q", rows)
						}
						for i, r := range shown.rows {
							k, rest, _ := strings.Cut(r, "|")
							code, _, _ := strings.Cut(rest, "|")
							if !strings.Contains(rows[i], k) || code != "NULL" && !strings.Contains(rows[i], code) || (code == "NULL") != strings.Contains(rows[i], "interface {}(nil), ") && i != 2 && i != 4 {
								t.Errorf("%s was copied as %s", r, rows[i])
							}
						}
					}
					if !slices.Equal(rows, want) {
						t.Errorf("%q\nand not\n%q", rows, want)
					}
				})
			}
		}
	}
	j := p.settled()
	for _, e := range j.Events(events.Statement) {
		if e.Command == "copy_to" && (len(e.Masked) != 3 || e.Masked[0].String() != "codes.t.code") {
			t.Fatalf("%+v", e)
		}
	}
	if resp := j.Events(events.Response); resp[len(resp)-1].Rows < 9 {
		t.Errorf("%+v", resp[len(resp)-1])
	}
	for _, ch := range j.Chunks() {
		if ch.Kind == events.ChunkResult && (strings.Contains(string(ch.Data), "CANARY") || strings.Contains(string(ch.Data), "91147")) {
			t.Fatalf("the transcript has %q", clip(string(ch.Data)))
		}
	}
}

// Where NULL can't be told from a value, or the form is not understood, the columns are
// redacted.
func TestKeyedCopyRedacted(t *testing.T) {
	codes(t)
	p := start(t, codesPolicy)
	for _, sql := range []string{
		"COPY codes.t (code) TO STDOUT (NULL 'CANARY,1')",
		"COPY codes.t (code) TO STDOUT (NULL '')",
		"COPY (SELECT code FROM codes.t) TO STDOUT NULL 'CANARY,1'",
		"COPY (SELECT code || '' FROM codes.t) TO STDOUT",
		"COPY (SELECT code FROM codes.t ORDER BY code) TO STDOUT CSV",
		"COPY (SELECT code FROM codes.t UNION ALL SELECT 'x') TO STDOUT CSV HEADER",
		"COPY (SELECT NULL UNION ALL SELECT code FROM codes.t) TO STDOUT CSV HEADER",
		"COPY (SELECT DISTINCT code FROM codes.t) TO STDOUT BINARY",
		"COPY codes.t (code) TO STDOUT; SELECT 1",
	} {
		out := p.raw().get(1, q(sql))
		// NULL is what the client has it be.
		if data := strings.Join(out.data, ""); strings.Count(data, "CANARY") > strings.Count(sql, "CANARY") || strings.Contains(data, "tok_") || !strings.Contains(data, "[redacted]") {
			t.Errorf("%s: %s", sql, clip(out.text))
		}
	}
	for _, sql := range []string{
		"COPY codes.t (code) TO STDOUT (FORMAT csv, HEADER match)",
		"COPY codes.t (code) TO STDOUT (FORMAT csv, FORMAT text)",
		"COPY codes.t (code) TO STDOUT (FORMAT csv, HEADER, HEADER false)",
		"COPY codes.t (code) TO STDOUT (FORMAT csv, DELIMITER 'ab')",
		"COPY (SELECT code, NULL, NULL FROM codes.t) TO STDOUT (FORMAT csv, QUOTE E'\\n', DELIMITER '-')",
		"COPY (SELECT k, code FROM codes.t) TO STDOUT (FORMAT csv, QUOTE E'\\r')",
		"COPY (SELECT k, code FROM codes.t) TO STDOUT (FORMAT csv, ESCAPE E'\\n')",
	} {
		if out := p.raw().get(1, q(sql)); len(out.data) > 0 || !strings.Contains(out.text, "E S") {
			t.Errorf("%s: %s", sql, clip(out.text))
		}
	}
	if alarms := p.settled().Events(events.Alarm); len(alarms) > 0 {
		t.Errorf("%+v", alarms)
	}
}

// What a detector looks for is not looked for in what a mask shows.
func TestKeyedCopyAndDetectors(t *testing.T) {
	p := start(t, keyedPolicy+"  - {name: net, effect: mask, identity: \"*\", resource: \"*\", detect: \"*\", on: \"*\"}\n")
	for _, options := range []string{"", "CSV", "CSV HEADER", "BINARY"} {
		out := p.raw().get(1, q("COPY (SELECT ssn, 'SSN 219-09-9847' AS note, email FROM clinic.patients WHERE city = 'Austin') TO STDOUT "+options))
		data := strings.Join(out.data, "")
		if planted.MatchString(out.text) || strings.Contains(data, "219-09") || strings.Count(data, "[ssn]") != 1 || strings.Contains(data, "[redacted]") {
			t.Errorf("%s: %s", options, out.text)
		}
	}
	p.settled()
}

// Data that is not what was asked for ends the session, and nothing of it goes out.
func TestKeyedCopyAgainstTheServer(t *testing.T) {
	begins := func(format byte, columns ...byte) []byte {
		b := binary.BigEndian.AppendUint16([]byte{format}, uint16(len(columns)))
		for _, c := range columns {
			b = append(b, 0, c)
		}
		return msg('H', string(b))
	}
	row := func(s string) []byte { return msg('d', s) }
	const copied = "COPY clinic.patients (city, ssn) TO STDOUT"
	end := join(msg('c', ""), msg('C', "COPY 1\x00"), postgrestest.Ready())
	for _, c := range []struct {
		name, sql string
		answer    []byte
		fine      bool
	}{
		{"as it was analysed", copied, join(begins(0, 0, 0), row("Boston\tCANARY-SECRET\n")), true},
		{"with a header", copied + " CSV HEADER", join(begins(0, 0, 0), row("city,ssn\n"), row("Boston,CANARY-SECRET\n")), true},
		{"without its header", copied + " CSV HEADER", join(begins(0, 0, 0), row("Boston,CANARY-SECRET\n")), false},
		{"another header", copied + " CSV HEADER", join(begins(0, 0, 0), row("ssn,city\n"), row("Boston,CANARY-SECRET\n")), false},
		{"a column more", copied, join(begins(0, 0, 0, 0), row("x\tBoston\tCANARY-SECRET\n")), false},
		{"a column less", copied, join(begins(0, 0), row("CANARY-SECRET\n")), false},
		{"a row of three", copied, join(begins(0, 0, 0), row("x\tBoston\tCANARY-SECRET\n")), false},
		{"a row of one", copied, join(begins(0, 0, 0), row("CANARY-SECRET\n")), false},
		{"a row without its end", copied, join(begins(0, 0, 0), row("Boston\tCANARY-SECRET")), false},
		{"half an escape", copied, join(begins(0, 0, 0), row("Boston\tCANARY-SECRET\\\n")), false},
		{"binary", copied, join(begins(1, 1, 1), row("Boston\tCANARY-SECRET\n")), false},
		{"one of binary", copied, join(begins(0, 0, 1), row("Boston\tCANARY-SECRET\n")), false},
		{"text for binary", copied + " BINARY", join(begins(1, 1, 1), row("Boston\tCANARY-SECRET\n")), false},
		{"data without a beginning", copied, row("Boston\tCANARY-SECRET\n"), false},
		{"data behind the end", copied, join(begins(0, 0, 0), msg('c', ""), msg('C', "COPY 0\x00"), row("CANARY-SECRET\tBoston\n")), false},
		{"rows", copied, join(rowDescription(described{oid: 25}, described{oid: 25}), values("Boston", "CANARY-SECRET")), false},
		{"rows without a description", copied, values("Boston", "CANARY-SECRET"), false},
		{"a quote that does not end", copied + " CSV", join(begins(0, 0, 0), row("Boston,\"CANARY-SECRET\n")), false},
		{"more behind a quote", copied + " CSV", join(begins(0, 0, 0), row("Boston,\"CANARY\"-SECRET\n")), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			answersWith(t, join(c.answer, end), c.fine, q(c.sql))
		})
	}
}
