package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// COPY says whose rows it writes in each of its forms, and writes what it would without.
func TestSubjectsOfCopy(t *testing.T) {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, server.DSN("agent")+" dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.Exec(ctx, "CREATE TABLE public.forms (who text, v text)"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec(ctx, "DROP TABLE public.forms")
	if _, err := db.Exec(ctx, `INSERT INTO public.forms VALUES ('a,b', E'one\ntwo'), (E'c\\d\te', ','), ('"q"', '"x""'), (NULL, NULL), ('k31', E'\\.'), ('ü', E'\'\n"\n')`); err != nil {
		t.Fatal(err)
	}
	const whose = "\nsubjects:\n  - {relation: public.forms, key: who, name: someone}\n"
	masks := strings.Replace(hiddenKeyPolicy[:strings.Index(hiddenKeyPolicy, "\nsubjects:")], "clinic.patients.id: redact", "public.forms.who: redact", 1)
	plain, hidden, without := start(t, allowAll+whose), start(t, masks+whose), start(t, masks)
	direct := dial(t, server.Addr.String())
	var want []string
	for _, v := range []string{"a,b", "c\\d\te", `"q"`, "k31", "ü"} {
		want = append(want, subjectKey.Subject("someone", []byte(v)).String())
	}
	slices.Sort(want)
	for _, sql := range []string{
		"COPY public.forms TO STDOUT",
		"COPY public.forms (v) TO STDOUT",
		"COPY (SELECT v, who FROM public.forms) TO STDOUT",
		"COPY (SELECT * FROM public.forms ORDER BY 1) TO STDOUT",
		"COPY (SELECT v FROM public.forms ORDER BY 1) TO STDOUT CSV",
		"COPY public.forms TO STDOUT CSV HEADER",
		"COPY public.forms TO STDOUT (FORMAT csv, FORCE_QUOTE *, DELIMITER ';', QUOTE '''')",
		"COPY public.forms (v) TO STDOUT (FORMAT csv, ESCAPE '!', NULL 'k31', HEADER)",
		"COPY public.forms TO STDOUT (DELIMITER '|', NULL 'x')",
		"COPY public.forms TO STDOUT BINARY",
		"COPY public.forms (v) TO STDOUT (FORMAT binary)",
		"COPY (SELECT v FROM public.forms WHERE false) TO STDOUT (FORMAT binary)",
		"COPY (SELECT 1 FROM public.forms WHERE false) TO STDOUT (FORMAT csv, HEADER)",
	} {
		for _, say := range [][]message{{q(sql)}, extended(sql)} {
			for _, c := range []struct {
				name      string
				p         *proxy
				otherwise *raw
			}{{"plain", plain, direct}, {"masked", hidden, without.raw()}} {
				r := c.p.raw()
				got, should := r.get(1, say...), c.otherwise.get(1, say...)
				if got.text != should.text || strings.Contains(got.text, "E S") {
					t.Errorf("%s, %s:\n%q\nand not\n%q", c.name, sql, clip(got.text), clip(should.text))
				}
				named, untold := sights(t, c.p)
				if strings.Contains(sql, "false") != (named == nil) || named != nil && !slices.Equal(named, want) || untold != "" {
					t.Errorf("%s, %s: %d are named, and of %q it is not known", c.name, sql, len(named), untold)
				}
				r.Close()
			}
		}
	}
	for sql, why := range map[string]string{
		"COPY public.forms TO STDOUT (FORMAT csv, DELIMITER 'a')":                      "the form of COPY leaves no room for whose they are",
		"COPY (SELECT count(*) FROM public.forms) TO STDOUT":                           "an aggregate puts rows together",
		"COPY (SELECT v FROM (SELECT v FROM public.forms) x) TO STDOUT":                "in a query within another",
		"COPY (INSERT INTO public.forms SELECT 'a' WHERE false RETURNING *) TO STDOUT": "its rows do not go out as they are",
		"COPY public.forms TO STDOUT; SELECT 1":                                        "it is not alone in its text",
		"COPY (SELECT v FROM public.forms UNION SELECT v FROM public.forms) TO STDOUT": "in a set operation",
	} {
		want, got := direct.get(1, q(sql)), plain.raw().get(1, q(sql))
		if named, untold := sights(t, plain); got.text != want.text || named != nil || !strings.HasPrefix(untold, "public.forms: "+why) {
			t.Errorf("%s: %v, %q, %s", sql, named, untold, clip(got.text))
		}
	}
}
