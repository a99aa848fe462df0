package rewrite_test

import (
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

func TestSmoke(t *testing.T) {
	a := newAnalyzer(t)
	for _, sql := range []string{
		"SELECT * FROM clinic.patients",
		"SELECT name, city FROM patients p WHERE ssn = 'x'",
		"SELECT count(*) FROM clinic.patients",
		"SELECT * FROM clinic.v_nested", "SELECT * FROM clinic.v_derived", "SELECT * FROM clinic.v_whole",
		"SELECT * FROM clinic.v_union", "SELECT * FROM clinic.v_cte", "SELECT * FROM clinic.m_patients", "SELECT * FROM clinic.claims",
		"SELECT * FROM clinic.archived", "SELECT * FROM v_products", "COPY clinic.patients TO STDOUT",
		"SELECT a.name FROM clinic.patients a JOIN clinic.patients b ON a.name = b.name",
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked()})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s\n  -> %s\n opaque=%s masked=%v objects=%v commands=%v", sql, an.SQL, an.Opaque, an.Masked, an.Objects, an.Commands)
	}
}
