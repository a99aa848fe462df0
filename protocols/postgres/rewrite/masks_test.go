package rewrite_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Columns of every type, each with the masks that it may have.
const typedSchema = `
CREATE SCHEMA typed;
CREATE COLLATION typed."no case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE typed.mood AS ENUM ('calm', 'tense');
CREATE TYPE typed.date AS ENUM ('1951');
CREATE EXTENSION citext SCHEMA typed;
CREATE EXTENSION hstore SCHEMA typed;
CREATE DOMAIN typed.uuid AS text NOT NULL;
CREATE DOMAIN typed.xml AS text NOT NULL;
CREATE DOMAIN typed.money AS text NOT NULL;
CREATE DOMAIN typed.code AS varchar(8) NOT NULL CHECK (VALUE ~ '^CAN[0-9]+$');
CREATE DOMAIN typed.dc AS text COLLATE "POSIX";
CREATE DOMAIN typed.codes AS typed.code;
CREATE TABLE typed.t (
	id int PRIMARY KEY, who name, dc typed.dc, nc text COLLATE typed."no case", short varchar(6), fixed char(9), code typed.codes, mood typed.mood, odd typed.date,
	n2 int2, n8 int8, price numeric(7,2), f4 float4, cash pg_catalog.money, born pg_catalog.date, at timestamptz(3), clock time(0), span interval hour to second(2), uid pg_catalog.uuid,
	doc jsonb, raw json, tags varchar(12)[], days pg_catalog.date[], bytes bytea, addr inet, ok bool, bits bit(3), x pg_catalog.xml,
	bag varbit(4), stay daterange, words tsvector, spot point, net cidr, ci typed.citext, kv typed.hstore, cis typed.citext[]
);
INSERT INTO typed.t VALUES (1, 'CANARY', 'CANARY', 'CANARY-1', '12345', '123456789', 'CAN91147', 'tense', '1951',
	12345, 4111111111111234, 12345.67, 12345.5, 42, '1951-03-17', '1951-03-17 10:11:12.345+00', '10:11:12', '10:11:12', '91147000-0000-0000-0000-000000000001',
	'{"a": 1, "b": [{"c": 2, "ssn": "CANARY"}], "ssn": "CANARY"}', '{"a":1,"ssn":"CANARY"}', '{CANARY-1,NULL}', '{1951-03-17}', 'CANARY', '9.1.1.47', true, '101', '<x>CANARY</x>',
	'1010', '[1951-03-17,1951-03-18)', 'canary', '(911,47)', '9.1.147.0/24', 'CANARY-1', '"ssn"=>"CANARY"', '{CANARY-1}');
INSERT INTO typed.t (id, code) SELECT g, 'CAN1' FROM generate_series(2, 2000) g;
ALTER TABLE typed.t ADD stays datemultirange; -- since: 14
UPDATE typed.t SET stays = '{[1951-03-17,1951-03-18)}' WHERE id = 1; -- since: 14
CREATE VIEW typed.v AS SELECT id, price AS amount, code, doc, nc FROM typed.t;
ANALYZE typed.t;
`

var typedMasks = map[string]struct {
	m    policy.Mask
	want string
}{
	"who":   {policy.Mask{Kind: "partial", First: 1}, "C*****"},
	"dc":    {policy.Mask{Kind: "partial", First: 1}, "C*****"},
	"nc":    {policy.Mask{Kind: "partial", Last: 1}, "******-1"},
	"short": {policy.Mask{Kind: "redact"}, "[redac"},
	"fixed": {policy.Mask{Kind: "ssn"}, "*****6789"},
	"code":  {policy.Mask{Kind: "redact"}, "[redacte"},
	"mood":  {policy.Mask{Kind: "redact", Constant: "calm"}, "calm"},
	"odd":   {policy.Mask{Kind: "year"}, "<null>"},
	"n2":    {policy.Mask{Kind: "bucket", Width: 1000}, "12000"},
	"n8":    {policy.Mask{Kind: "pan"}, "1234"},
	"price": {policy.Mask{Kind: "bucket", Width: 100}, "12300.00"},
	"f4":    {policy.Mask{Kind: "bucket", Width: 1000}, "12000"},
	"cash":  {policy.Mask{Kind: "redact"}, "<null>"},
	"born":  {policy.Mask{Kind: "year"}, "1951-01-01"},
	"at":    {policy.Mask{Kind: "bucket", Unit: "month"}, "1951-03-01 00:00:00+00"},
	"clock": {policy.Mask{Kind: "bucket", Unit: "hour"}, "10:00:00"},
	"span":  {policy.Mask{Kind: "null"}, "<null>"},
	"uid":   {policy.Mask{Kind: "redact"}, "<null>"},
	"doc":   {policy.Mask{Kind: "json", Keep: "a\nb[].c"}, `{"a": 1, "b": [{"c": 2}]}`},
	"raw":   {policy.Mask{Kind: "json", Keep: "a"}, `{"a": 1}`},
	"tags":  {policy.Mask{Kind: "partial", Last: 2}, `{******-1,NULL}`},
	"days":  {policy.Mask{Kind: "year"}, "{1951-01-01}"},
	"bytes": {policy.Mask{Kind: "redact", Constant: "none"}, `\x6e6f6e65`},
	"addr":  {policy.Mask{Kind: "redact", Constant: "0.0.0.0"}, "0.0.0.0"},
	"ok":    {policy.Mask{Kind: "redact", Constant: "false"}, "f"},
	"bits":  {policy.Mask{Kind: "redact", Constant: "000"}, "000"},
	"x":     {policy.Mask{Kind: "redact"}, "<redacted/>"},
	"bag":   {policy.Mask{Kind: "redact"}, ""},
	"stay":  {policy.Mask{Kind: "redact"}, "empty"},
	"stays": {policy.Mask{Kind: "redact"}, "{}"},
	"words": {policy.Mask{Kind: "redact"}, ""},
	"spot":  {policy.Mask{Kind: "redact", Constant: "(0,0)"}, "(0,0)"},
	"net":   {policy.Mask{Kind: "redact", Constant: "::/0"}, "::/0"},
	"ci":    {policy.Mask{Kind: "partial", First: 1}, "C*****-*"},
	"kv":    {policy.Mask{Kind: "redact"}, ""},
	"cis":   {policy.Mask{Kind: "partial", Last: 2}, "{******-1}"},
}

func typed(t *testing.T) (sc *policy.Scope, c *pgx.Conn, sent func(string) string) {
	c = connect(t)
	if _, err := c.Exec(t.Context(), postgrestest.Schema(typedSchema)+"SET TimeZone = 'UTC'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Exec(context.Background(), "DROP SCHEMA typed CASCADE") })
	if postgrestest.Major() < 14 {
		delete(typedMasks, "stays")
	}
	cols := map[string]policy.Mask{}
	for n, x := range typedMasks {
		cols[n] = x.m
	}
	sc = &policy.Scope{ID: "typed", Static: true, Masks: map[policy.Relation]map[string]policy.Mask{{Schema: "typed", Name: "t"}: cols}}
	a := newAnalyzer(t)
	return sc, c, func(sql string) string {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc})
		if err != nil || an.Opaque != "" || an.SQL == "" {
			t.Fatalf("%s: %+v, %v", sql, an, err)
		}
		return an.SQL
	}
}

func rowsOf(t *testing.T, c *pgx.Conn, sql string, format int16) *pgconn.Result {
	t.Helper()
	r := c.PgConn().ExecParams(t.Context(), sql, nil, nil, nil, []int16{format}).Read()
	if r.Err != nil {
		t.Fatalf("%s: %v", sql, r.Err)
	}
	return r
}

// What a masked column shows has the column's type and modifier, in text and
// in binary, and is what the mask says.
func TestMaskedTypes(t *testing.T) {
	_, c, sent := typed(t)
	for _, sql := range []string{"SELECT * FROM typed.t WHERE id = 1", "TABLE typed.t ORDER BY id LIMIT 1", "SELECT u.* FROM (SELECT t.* FROM typed.t JOIN typed.t o USING (id)) u WHERE id = 1"} {
		direct, masked := rowsOf(t, c, sql, 0), rowsOf(t, c, sent(sql), 0)
		if sql[0] != 'S' || sql[7] == '*' {
			rowsOf(t, c, sent(sql), 1)
		}
		for i, f := range masked.FieldDescriptions[:len(typedMasks)+1] {
			d := direct.FieldDescriptions[i]
			if f.Name != d.Name || f.DataTypeOID != d.DataTypeOID || f.TypeModifier != d.TypeModifier || f.DataTypeSize != d.DataTypeSize {
				t.Errorf("%s: %s is %+v, want %+v", sql, f.Name, f, d)
			}
			got := "<null>"
			if v := masked.Rows[0][i]; v != nil {
				got = string(v)
			}
			if x, ok := typedMasks[f.Name]; ok && got != x.want {
				t.Errorf("%s: %s is %q, want %q", sql, f.Name, got, x.want)
			}
		}
	}
	// And the column's collation, which decides what it can be compared with.
	const collations = "SELECT pg_collation_for(who), pg_collation_for(dc), pg_collation_for(nc), pg_collation_for(short), pg_collation_for(tags) FROM "
	inner := sent("SELECT who, dc, nc, short, tags FROM typed.t WHERE id = 1")
	if got, want := rowsOf(t, c, collations+"("+inner+") s", 0).Rows[0], rowsOf(t, c, collations+"typed.t WHERE id = 1", 0).Rows[0]; fmt.Sprintf("%s", got) != fmt.Sprintf("%s", want) {
		t.Errorf("collations are %s, want %s", got, want)
	}
	// Types of the same name in front of pg_catalog change nothing.
	all := sent("SELECT * FROM typed.t")
	for _, path := range []string{"typed", "typed, pg_catalog"} {
		if _, err := c.Exec(t.Context(), "SET search_path = "+path); err != nil {
			t.Fatal(err)
		}
		rowsOf(t, c, all, 0)
	}
	// Whatever is done with it.
	statements := []string{
		"SELECT row_to_json(t) FROM typed.t t", "SELECT t FROM typed.t t", "SELECT jsonb_path_query(doc, '$.**') FROM typed.t", "SELECT doc -> 'ssn', doc #>> '{b,0}' FROM typed.t",
		"SELECT unnest(tags), array_to_string(tags, ',') FROM typed.t", "SELECT string_agg(code, ',') FROM typed.t", "SELECT amount, code, doc, nc FROM typed.v",
		"SELECT max(price), min(born), sum(n8) FROM typed.t", "SELECT lower(nc), nc = 'canary-1' FROM typed.t ORDER BY nc",
		"SELECT encode(bytes, 'hex'), raw ->> 'ssn', extract(day FROM born) FROM typed.t", "SELECT jsonb_each(doc) FROM typed.t", "SELECT DISTINCT price, mood FROM typed.t",
		"SELECT count(*) FROM typed.t GROUP BY code, doc, tags, at",
		"SELECT bag::text, lower(stay), words::text, spot[0], host(net), ci || 'x', ci = 'canary-1', kv::text, cis::text, xpath('/x/text()', x) FROM typed.t",
		"SELECT ci FROM typed.t WHERE ci = 'canary-1' OR stay @> '1951-03-17'::pg_catalog.date OR words @@ 'canary'::tsquery", "SELECT a.id FROM typed.t a JOIN typed.t b ON a.nc = b.nc WHERE b.id = 1",
	}
	if postgrestest.Major() >= 14 {
		statements = append(statements, "SELECT stays::text, unnest(stays) FROM typed.t")
	}
	for _, sql := range statements {
		for _, row := range rowsOf(t, c, sent(sql), 0).Rows {
			for _, v := range row {
				s := strings.ToLower(string(v))
				for _, secret := range []string{"canary", "91147", "345.6", "03-17", "43414e", "9.1.1"} {
					if strings.Contains(s, secret) {
						t.Errorf("%s shows %s", sql, v)
					}
				}
			}
		}
	}
}

// A statement by another column of the relation is as fast as it was.
func TestMasksKeepIndexes(t *testing.T) {
	_, c, sent := typed(t)
	for _, sql := range []string{"SELECT * FROM typed.t WHERE id = 1", "SELECT t.doc, o.price FROM typed.t t JOIN typed.t o ON o.id = t.id WHERE t.id = 1", "SELECT nc, tags FROM typed.t ORDER BY id LIMIT 1"} {
		plan := ""
		for _, row := range rowsOf(t, c, "EXPLAIN "+sent(sql), 0).Rows {
			plan += string(row[0]) + "\n"
		}
		if !strings.Contains(plan, "Index Scan using t_pkey") || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Subquery Scan") {
			t.Errorf("%s:\n%s", sql, plan)
		}
	}
}

// Unfit tells which masks show NULL.
func TestUnfit(t *testing.T) {
	sc, _, _ := typed(t)
	a := newAnalyzer(t)
	var got []string
	for col, m := range sc.Masks[policy.Relation{Schema: "typed", Name: "t"}] {
		f := events.Field{Schema: "typed", Relation: "t", Column: col}
		if err := a.Unfit(f, m); err != nil {
			got = append(got, strings.TrimPrefix(err.Error(), "typed.t."))
		}
	}
	slices.Sort(got)
	want := []string{
		"cash: mask redact is not for type money: NULL is shown",
		"odd: mask year is not for type typed.date: NULL is shown", "uid: mask redact is not for type uuid: NULL is shown",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := a.Unfit(events.Field{Schema: "typed", Relation: "absent", Column: "x"}, policy.Mask{Kind: mask.Year}); err != nil {
		t.Error(err)
	}
	if err := a.Unfit(events.Field{Schema: "typed", Relation: "t", Column: "gone"}, policy.Mask{Kind: mask.Year}); err == nil || fmt.Sprint(err) != "typed.t.gone: the database has no such column: statements on its relation are refused" {
		t.Error(err)
	}
}
