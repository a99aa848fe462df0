package rewrite_test

import (
	"context"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// A write is refused where its outcome tells of a masked column: where something can
// fail that is computed of that and of what is written, in the relation, in those whose
// rows are its rows, and in those that foreign keys write along with it.
func TestOutcomesOfWrites(t *testing.T) {
	define := func(sql string) {
		t.Helper()
		if _, err := connect(t).PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	define(`
		CREATE SCHEMA outcomes;
		CREATE TABLE outcomes.secured (id int PRIMARY KEY, n int, secret int);
		ALTER TABLE outcomes.secured ENABLE ROW LEVEL SECURITY;
		CREATE POLICY below ON outcomes.secured USING (true) WITH CHECK (n < secret);
		CREATE TABLE outcomes.computed (id int PRIMARY KEY, n int, first text, secret int, last text,
			told text GENERATED ALWAYS AS (first || ' ' || last) STORED,
			short varchar(3) GENERATED ALWAYS AS (first || ' ' || last) STORED);
		CREATE TABLE outcomes.routed (id int, n int, secret int) PARTITION BY RANGE (id);
		CREATE TABLE outcomes.routed_1 PARTITION OF outcomes.routed FOR VALUES FROM (0) TO (10);
		CREATE UNIQUE INDEX ON outcomes.routed_1 (n) WHERE secret > 5;
		CREATE TABLE outcomes.kept (id int PRIMARY KEY, n int);
		CREATE TABLE outcomes.refers (kept int REFERENCES outcomes.kept ON DELETE SET NULL, secret int, CHECK (kept IS NOT NULL OR secret > 5));
	`)
	defer define("DROP SCHEMA outcomes CASCADE")
	secret := map[string]policy.Mask{"secret": {Kind: "null"}, "last": {Kind: "redact"}}
	sc := &policy.Scope{ID: "outcomes", Static: true, Masks: map[policy.Relation]map[string]policy.Mask{}}
	for _, r := range []string{"secured", "computed", "routed", "refers"} {
		sc.Masks[policy.Relation{Schema: "outcomes", Name: r}] = map[string]policy.Mask{"secret": secret["secret"]}
	}
	sc.Masks[policy.Relation{Schema: "outcomes", Name: "computed"}] = secret
	a := newAnalyzer(t)
	for sql, refused := range map[string]bool{
		"UPDATE outcomes.secured SET n = 3 WHERE id = 1":        true,
		"DELETE FROM outcomes.secured WHERE id = 1":             false,
		"UPDATE outcomes.computed SET n = 3 WHERE id = 1":       false,
		"UPDATE outcomes.computed SET first = 'x' WHERE id = 1": true, // it may be too long, with the other
		"UPDATE outcomes.routed SET n = 3 WHERE id = 1":         true,
		"INSERT INTO outcomes.routed (id, n) VALUES (1, 3)":     true,
		"DELETE FROM outcomes.routed WHERE id = 1":              false,
		"DELETE FROM outcomes.kept WHERE id = 1":                true,
		"UPDATE outcomes.kept SET n = 3 WHERE id = 1":           false,
		"INSERT INTO outcomes.kept VALUES (1, 1)":               false,
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: sc})
		if err != nil || (an.Opaque != "") != refused {
			t.Errorf("%s: %v, %q", sql, err, an.Opaque)
		}
	}
	define("ALTER TABLE outcomes.computed DROP COLUMN short")
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	an, err := a.Analyze(t.Context(), query.Input{SQL: "UPDATE outcomes.computed SET first = 'x' WHERE id = 1", Scope: sc})
	if err != nil || an.Opaque != "" {
		t.Errorf("texts put together: %v, %q", err, an.Opaque)
	}
}

// What the catalog counts in partitions and indexes that masked values decide on is not
// shown.
func TestCountsOfPartsOfARelation(t *testing.T) {
	define := func(sql string) {
		t.Helper()
		if _, err := connect(t).PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	define("CREATE SCHEMA counts; CREATE TABLE counts.t (id int, secret int); CREATE INDEX ON counts.t (id) WHERE id > 5; CREATE TABLE counts.u (id int, secret int)")
	defer define("DROP SCHEMA counts CASCADE")
	a := newAnalyzer(t)
	sc := &policy.Scope{ID: "counts", Static: true, Masks: map[policy.Relation]map[string]policy.Mask{
		{Schema: "counts", Name: "t"}: {"secret": {Kind: "null"}}, {Schema: "counts", Name: "u"}: {"secret": {Kind: "null"}},
	}}
	hidden := func() bool {
		t.Helper()
		an, err := a.Analyze(t.Context(), query.Input{SQL: "SELECT reltuples FROM pg_class", Scope: sc})
		if err != nil || an.Opaque != "" {
			t.Fatal(err, an.Opaque)
		}
		return an.SQL != ""
	}
	if hidden() {
		t.Error("nothing tells")
	}
	define("CREATE INDEX ON counts.u (id) WHERE secret > 5")
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !hidden() {
		t.Error("an index of those rows whose masked value is above 5 is counted")
	}
}
