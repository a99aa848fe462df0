package rewrite_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// FuzzAnalyze: no text makes the analysis panic, and none that reads a
// protected relation goes out as it came.
func FuzzAnalyze(f *testing.F) {
	a := newAnalyzer(f)
	for _, file := range []string{"[0-9]*.sql", "harmless.sql"} {
		for _, c := range cases(f, file) {
			for _, s := range c.Statements {
				f.Add(s)
			}
		}
	}
	protected := map[string]bool{"clinic.patients": true, "clinic.archived": true, "clinic.claims": true, "clinic.m_patients": true}
	f.Fuzz(func(t *testing.T, sql string) {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked(), Simple: true})
		if err != nil || an.Opaque != "" || an.SQL != "" {
			return
		}
		written := map[string]bool{} // and read only in columns that are free
		for _, o := range an.Objects {
			written[o.String()] = written[o.String()] || o.Access != policy.Read
		}
		for _, o := range an.Objects {
			if strings.HasPrefix(o.Name, "v_") {
				return // a view's open columns go out as they come
			}
			if o.Access == policy.Read && !written[o.String()] && protected[o.String()] {
				t.Fatalf("%q goes out as it came: %v", sql, an.Objects)
			}
		}
	})
}

// changing is a catalog whose snapshot a test exchanges.
type changing struct{ s *catalog.Snapshot }

func (c *changing) Snapshot() *catalog.Snapshot   { return c.s }
func (c *changing) Refresh(context.Context) error { return nil }

func analyze(t *testing.T, a *rewrite.Analyzer, sql string) *query.Analysis {
	t.Helper()
	an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked()})
	if err != nil {
		t.Fatal(err)
	}
	return an
}

// A renamed column or relation stays protected, and the drift is told.
func TestDrift(t *testing.T) {
	c := &changing{}
	reload := func() { c.s = openCatalog(t).Snapshot() }
	exec := func(sql string) {
		t.Helper()
		if _, err := connect(t).Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE clinic.moving (id int, secret text)")
	defer exec("DROP TABLE IF EXISTS clinic.moving, clinic.moved")
	reload()
	a := rewrite.New(rewrite.Options{Parser: pool, Catalog: c})
	sc := masked()
	sc.Masks[policy.Relation{Schema: "clinic", Name: "moving"}] = map[string]policy.Mask{"secret": {Kind: "null"}}
	sc.Masks[policy.Relation{Schema: "clinic", Name: "absent"}] = map[string]policy.Mask{"x": {Kind: "null"}}
	check := func(sql string, refused bool, unbound int) {
		t.Helper()
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc})
		if err != nil {
			t.Fatal(err)
		}
		if (an.Opaque != "") != refused || !refused && an.SQL == "" {
			t.Errorf("%s: opaque %q, SQL %q", sql, an.Opaque, an.SQL)
		}
		if u := a.Unbound(sc); len(u) != unbound {
			t.Errorf("unbound: %v", u)
		}
	}
	check("SELECT secret FROM clinic.moving", false, 0)

	exec("ALTER TABLE clinic.moving RENAME COLUMN secret TO open")
	reload()
	check("SELECT open FROM clinic.moving", true, 1)
	exec("ALTER TABLE clinic.moving ADD COLUMN secret text")
	reload()
	check("SELECT open FROM clinic.moving", true, 1)
	exec("ALTER TABLE clinic.moving DROP COLUMN secret; ALTER TABLE clinic.moving RENAME COLUMN open TO secret")
	reload()
	check("SELECT secret FROM clinic.moving", false, 0)

	exec("ALTER TABLE clinic.moving RENAME TO moved")
	reload()
	check("SELECT secret FROM clinic.moved", true, 0)
	exec("CREATE TABLE clinic.moving (id int, secret text)")
	reload()
	check("SELECT secret FROM clinic.moved", true, 0)
	check("SELECT secret FROM clinic.moving", false, 0)
}

// What was a part of a protected relation stays protected when it is detached, and so
// does what is read through what it becomes a part of, also after a restart.
func TestDriftOfParts(t *testing.T) {
	c := &changing{}
	exec := func(sql string) {
		t.Helper()
		if _, err := connect(t).Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		c.s = openCatalog(t).Snapshot()
	}
	exec("CREATE TABLE clinic.years (y int, secret text) PARTITION BY RANGE (y); CREATE TABLE clinic.y1 PARTITION OF clinic.years FOR VALUES FROM (1) TO (2);" +
		"CREATE TABLE clinic.y2 PARTITION OF clinic.years FOR VALUES FROM (2) TO (3); CREATE TABLE clinic.heir () INHERITS (clinic.patients); CREATE VIEW clinic.v_y1 AS SELECT secret AS s FROM clinic.y1;" +
		"CREATE TABLE clinic.rest (y int, secret text) PARTITION BY RANGE (y); CREATE TABLE clinic.keeps (r clinic.y1)")
	defer exec("DROP TABLE IF EXISTS clinic.keeps, clinic.years, clinic.y1, clinic.y2, clinic.heir, clinic.rest CASCADE")
	sc := masked()
	years := policy.Relation{Schema: "clinic", Name: "years"}
	sc.Masks[years] = map[string]policy.Mask{"secret": {Kind: "null"}}
	a := rewrite.New(rewrite.Options{Parser: pool, Catalog: c})
	ask := func(sql string) *query.Analysis {
		t.Helper()
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc})
		if err != nil {
			t.Fatal(err)
		}
		return an
	}
	asked := []string{"SELECT secret FROM clinic.y1", "SELECT y1 FROM clinic.y1", "SELECT s FROM clinic.v_y1", "SELECT ssn FROM clinic.heir", "SELECT r FROM clinic.keeps"}
	for _, sql := range asked {
		if an := ask(sql); an.Opaque != "" || an.SQL == "" {
			t.Errorf("%s: opaque %q, SQL %q", sql, an.Opaque, an.SQL)
		}
	}
	exec("ALTER TABLE clinic.years DETACH PARTITION clinic.y1; ALTER TABLE clinic.heir NO INHERIT clinic.patients; ALTER TABLE clinic.y1 RENAME TO old_y1; ALTER TABLE clinic.old_y1 RENAME COLUMN secret TO plain; ALTER TABLE clinic.rest RENAME COLUMN secret TO plain")
	asked = []string{"SELECT plain FROM clinic.old_y1", "SELECT o FROM clinic.old_y1 o", "TABLE clinic.old_y1", "SELECT s FROM clinic.v_y1", "SELECT ssn FROM clinic.heir", "COPY clinic.old_y1 TO STDOUT"}
	refused := func() {
		t.Helper()
		for _, sql := range asked {
			if an := ask(sql); an.Opaque == "" {
				t.Errorf("%s: not refused, SQL %q", sql, an.SQL)
			}
		}
		if an := ask("SELECT r FROM clinic.keeps"); an.Opaque == "" && an.SQL == "" {
			t.Error("stored rows of what was a part are shown")
		}
		if an := ask("SELECT secret FROM clinic.y2"); an.Opaque != "" || an.SQL == "" {
			t.Errorf("what is still a part: %q", an.Opaque)
		}
	}
	refused()
	exec("ALTER TABLE clinic.rest ATTACH PARTITION clinic.old_y1 FOR VALUES FROM (1) TO (2)")
	asked = append(asked, "SELECT plain FROM clinic.rest")
	refused()

	// As after a restart.
	b, err := json.Marshal(a.Pins())
	if err != nil {
		t.Fatal(err)
	}
	var before rewrite.Pins
	if err := json.Unmarshal(b, &before); err != nil {
		t.Fatal(err)
	}
	a = rewrite.New(rewrite.Options{Parser: pool, Catalog: c, Before: before})
	refused()

	// The policy's own word on it counts, and who is under no mask sees it.
	sc = masked()
	sc.ID += " that names it"
	sc.Masks[years] = map[string]policy.Mask{"secret": {Kind: "null"}}
	sc.Masks[policy.Relation{Schema: "clinic", Name: "old_y1"}] = map[string]policy.Mask{"plain": {Kind: "null"}}
	if an := ask("SELECT plain FROM clinic.old_y1"); an.Opaque != "" || an.SQL == "" {
		t.Errorf("named by the policy: opaque %q, SQL %q", an.Opaque, an.SQL)
	}
	sc = masked()
	sc.ID += " without it"
	if an := ask("SELECT plain FROM clinic.old_y1"); an.Opaque != "" || an.SQL != "" {
		t.Errorf("not protected: opaque %q, SQL %q", an.Opaque, an.SQL)
	}
}

// The session's second layer asks by what a RowDescription says.
func TestProtected(t *testing.T) {
	cat := openCatalog(t)
	a := rewrite.New(rewrite.Options{Parser: pool, Catalog: cat})
	for name, want := range map[string][]string{
		"patients": {"name", "ssn", "birth_date", "phone", "email", "name_upper"}, "v_patients": {"name", "ssn"},
		"v_derived": {"s", "x", "d"}, "m_patients": {"name", "ssn"}, "claims": {"ssn"}, "encounters": nil,
		"archived": {"name", "ssn", "birth_date", "phone", "email", "name_upper"},
	} {
		r := cat.Snapshot().ByName[name][0]
		var got []string
		for _, c := range r.Columns {
			if a.Protected(r.OID, c.Num, masked()) {
				got = append(got, c.Name)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if !a.Protected(4_000_000_000, 1, masked()) {
		t.Error("a relation that is not known is not protected")
	}
}

// What rules on statements see.
func TestDescription(t *testing.T) {
	a := newAnalyzer(t)
	for sql, want := range map[string]string{
		"DELETE FROM clinic.encounters WHERE id = 1":                                      "delete clinic.encounters/delete clinic.encounters/read writes",
		"WITH d AS (DELETE FROM clinic.encounters RETURNING id) SELECT * FROM d":          "select,delete clinic.encounters/delete clinic.encounters/read writes",
		"EXPLAIN ANALYZE DELETE FROM products":                                            "explain,delete public.products/delete writes",
		"SELECT * FROM clinic.v_by_patient":                                               "select clinic.v_by_patient/read clinic.encounters/read",
		"SELECT 1 FROM visits":                                                            "select other.visits/read clinic.visits/read",
		"COPY (INSERT INTO products (id) VALUES (3) RETURNING id) TO STDOUT":              "copy_to,insert public.products/insert public.products/read writes",
		"INSERT INTO products (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'":  "insert,update public.products/insert public.products/update writes",
		"INSERT INTO products (id) VALUES (1) ON CONFLICT DO NOTHING":                     "insert public.products/insert writes",
		"COPY products FROM STDIN":                                                        "copy_from public.products/insert writes",
		"TRUNCATE products":                                                               "truncate public.products/truncate writes",
		"DROP TABLE products":                                                             "drop_table public.products/define writes ddl",
		"SELECT id FROM products FOR UPDATE":                                              "select public.products/read public.products/lock",
		"BEGIN; INSERT INTO products (id) SELECT id FROM clinic.encounters; COMMIT":       "begin,insert,commit public.products/insert clinic.encounters/read writes",
		"LOCK TABLE products":                                                             "lock public.products/lock",
		"PREPARE x AS UPDATE products SET name = ''":                                      "prepare public.products/update writes",
		"UPDATE products SET price = 1 FROM clinic.encounters e WHERE e.id = products.id": "update public.products/update clinic.encounters/read public.products/read writes",
	} {
		an := analyze(t, a, sql)
		got := strings.Join(an.Commands, ",")
		for _, o := range an.Objects {
			got += " " + o.String() + "/" + o.Access.String()
		}
		if an.Writes {
			got += " writes"
		}
		if an.DDL {
			got += " ddl"
		}
		if got != want || an.Opaque != "" {
			t.Errorf("%s:\n got  %s (%s)\n want %s", sql, got, an.Opaque, want)
		}
	}
}

// A scope without masks still sees through, and functions that could read
// stay opaque; the catalog is open.
func TestNoMasks(t *testing.T) {
	a := newAnalyzer(t)
	sc := &policy.Scope{ID: "rules only"}
	for sql, opaque := range map[string]bool{
		"SELECT ssn FROM clinic.patients":                  false,
		"SELECT * FROM pg_stats":                           false,
		"CREATE VIEW v AS SELECT ssn FROM clinic.patients": false,
		"SELECT helpers.dynamic('x')":                      true,
		"SELECT public.leak(1)":                            false,
		"SELECT * FROM clinic.v_fn":                        false,
		"SELECT query_to_xml('SELECT 1', true, true, '')":  true,
		"DO 'BEGIN END'":                                   true,
		"SELECT * FROM nowhere":                            true,
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc})
		if err != nil {
			t.Fatal(err)
		}
		if (an.Opaque != "") != opaque || an.SQL != "" {
			t.Errorf("%s: opaque %q SQL %q", sql, an.Opaque, an.SQL)
		}
	}
	// What a function reads is told, so that rules on relations see it.
	for _, sql := range []string{"SELECT public.leak(1)", "SELECT x FROM clinic.v_fn", "SELECT helpers.notices()"} {
		if an := asked(t, a, sc, sql); !reads(an, "clinic", "patients") {
			t.Errorf("%s: %v", sql, an.Objects)
		}
	}
	declared := &policy.Scope{ID: "declared", Masks: masked().Masks, Functions: map[string]bool{"helpers.dynamic": true}}
	an, err := a.Analyze(t.Context(), query.Input{SQL: "SELECT helpers.dynamic('patients')", Scope: declared})
	if err != nil || an.Opaque != "" {
		t.Errorf("a declared function: %v %v", an, err)
	}
}

// Many sessions share one Analyzer, while the catalog changes.
func TestConcurrent(t *testing.T) {
	a := newAnalyzer(t)
	all := cases(t, "[0-9]*.sql")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j := range all {
				c := all[(i*31+j)%len(all)]
				if _, err := a.Analyze(t.Context(), query.Input{SQL: c.Statements[0], Scope: masked(), Simple: true}); err != nil {
					t.Errorf("%s: %v", c.Name, err)
					return
				}
			}
		})
	}
	conn := connect(t)
	for range 5 {
		if _, err := conn.Exec(t.Context(), "CREATE TABLE public.churn (id int); DROP TABLE public.churn"); err != nil {
			t.Error(err)
		}
		if err := a.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}
