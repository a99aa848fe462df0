package rewrite_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Where nothing is masked, rules still say what may be reached. An ALTER TABLE
// runs expressions over all rows and can name other relations.
func TestAlterTable(t *testing.T) {
	a := newAnalyzer(t)
	for sql, want := range map[string]string{
		"ALTER TABLE products ADD COLUMN x text DEFAULT 'a' NOT NULL":                                           "public.products/define",
		"ALTER TABLE products ADD COLUMN x int CHECK (x > 0), DROP COLUMN name":                                 "public.products/define",
		"ALTER TABLE products ALTER COLUMN name TYPE varchar(10) USING pg_catalog.left(name, 10)":               "public.products/define",
		"ALTER TABLE products ALTER name SET DEFAULT 'x', ALTER name SET NOT NULL, ALTER name SET STATISTICS 7": "public.products/define",
		"ALTER TABLE products ALTER name DROP DEFAULT, ADD PRIMARY KEY (id), ENABLE ROW LEVEL SECURITY":         "public.products/define",
		"ALTER TABLE products SET (fillfactor = 70), OWNER TO agent, VALIDATE CONSTRAINT c":                     "public.products/define",
		"ALTER TABLE products ADD FOREIGN KEY (id) REFERENCES clinic.encounters (id)":                           "public.products/define clinic.encounters/read",
		"ALTER TABLE products INHERIT clinic.people":                                                            "public.products/define clinic.people/define",
		"ALTER INDEX clinic.patients_pkey SET (fillfactor = 70)":                                                "clinic.patients/define",
		"ALTER INDEX IF EXISTS patients_pkey RESET (fillfactor)":                                                "clinic.patients/define",
		"ALTER TABLE patients_pkey SET (fillfactor = 70)":                                                       "clinic.patients/define",

		"ALTER INDEX clinic.patients_pkey ATTACH PARTITION clinic.claims_pkey":                                                 "opaque",
		"ALTER INDEX public.patients_pkey SET (fillfactor = 70)":                                                               "opaque",
		"ALTER TABLE products ALTER name TYPE text USING query_to_xml('SELECT * FROM clinic.patients', true, false, '')::text": "opaque",
		"ALTER TABLE products ADD COLUMN x text DEFAULT helpers.dynamic('x')":                                                  "opaque",
		"ALTER TABLE products ADD COLUMN x text CHECK (helpers.dynamic('x') IS NOT NULL)":                                      "opaque",
		"ALTER TABLE products ALTER name SET DEFAULT helpers.dynamic('x')":                                                     "opaque",
		"ALTER TABLE products ADD CHECK (helpers.dynamic('x') IS NULL)":                                                        "opaque",
		"ALTER TABLE products ADD COLUMN x text GENERATED ALWAYS AS (helpers.dynamic('x')) STORED":                             "opaque",
		"ALTER TABLE products ADD COLUMN x public.trap":                                                                        "opaque",
		"ALTER TABLE products ALTER name TYPE public.trap":                                                                     "opaque",
		"ALTER TABLE products ADD EXCLUDE USING btree (helpers.dynamic('x') WITH =)":                                           "opaque",
		"ALTER TABLE products ADD COLUMN x int REFERENCES clinic.patients":                                                     "opaque",
		"ALTER TABLE products DROP COLUMN name CASCADE":                                                                        "opaque",
		"ALTER TABLE clinic.claims ATTACH PARTITION products DEFAULT":                                                          "opaque",
		"ALTER TABLE products OF clinic.patients":                                                                              "opaque",
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: &policy.Scope{ID: "rules only"}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range an.Objects {
			got = append(got, o.String()+"/"+o.Access.String())
		}
		switch {
		case want == "opaque" && an.Opaque == "":
			t.Errorf("%s: understood: %v", sql, got)
		case want != "opaque" && (an.Opaque != "" || strings.Join(got, " ") != want || !an.DDL || !an.Writes):
			t.Errorf("%s: %v, opaque %q", sql, got, an.Opaque)
		}
	}
	for _, sql := range []string{"ALTER INDEX clinic.patients_pkey SET (fillfactor = 70)", "ALTER TYPE clinic.pair ADD ATTRIBUTE x int"} {
		if an := asked(t, a, masked(), sql); an.Opaque == "" || an.Code != "" { // nothing is missing
			t.Errorf("%s, masked: %q %q", sql, an.Code, an.Opaque)
		}
	}
}
