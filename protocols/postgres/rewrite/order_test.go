package rewrite_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Whatever index there is on a masked column, no plan of what is sent reads rows in
// its order without sorting them; what can't tell costs nothing.
func TestOrder(t *testing.T) {
	a, c := newAnalyzer(t), connect(t)
	for _, s := range []string{"SET enable_seqscan = off", "SET enable_bitmapscan = off", "SET enable_sort = off"} {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for sql, sorted := range map[string]bool{
		"SELECT given FROM clinic.donors":                                                              false,
		"SELECT name FROM clinic.donors":                                                               false,
		"SELECT id, town, name FROM clinic.donors WHERE id = 3":                                        false,
		"SELECT * FROM clinic.donors d JOIN clinic.encounters e ON e.id = d.id":                        false,
		"SELECT id FROM clinic.donors ORDER BY id":                                                     false,
		"SELECT id FROM clinic.donors WHERE town = 'Boston'":                                           true,
		"SELECT id FROM clinic.donors ORDER BY town":                                                   true,
		"SELECT town AS t FROM clinic.donors ORDER BY t":                                               true,
		"SELECT * FROM clinic.donors ORDER BY 2":                                                       true,
		"SELECT DISTINCT ON (town) id FROM clinic.donors":                                              true,
		"SELECT id FROM clinic.donors d WHERE ROW(d.*) > ROW(1, 'B', 'c', 2)":                          true,
		"SELECT town, array_agg(id) FROM clinic.donors GROUP BY town":                                  true,
		"SELECT i FROM (SELECT id, town FROM clinic.donors) x (i, t) WHERE t = 'B'":                    true,
		"SELECT e.id FROM clinic.encounters e JOIN clinic.donors d ON d.town = e.note":                 true,
		"SELECT id FROM (SELECT 1 AS id, '' AS t, '' UNION ALL TABLE clinic.m_donors) x WHERE t > 'B'": true,
		"SELECT id FROM clinic.v_donors WHERE town = 'Boston'":                                         true,
		"SELECT id FROM clinic.donated":                                                                true,
		"SELECT id FROM clinic.bands":                                                                  true,
		"COPY (SELECT id FROM clinic.donors WHERE town > 'B') TO STDOUT":                               true,
		"UPDATE clinic.donors SET given = 1 WHERE town = 'Boston' RETURNING id":                        false,
		"DELETE FROM clinic.donors d USING clinic.encounters e WHERE d.town = e.note":                  false,
		"UPDATE clinic.donors SET given = 1 WHERE id = 1":                                              false,
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked(), Simple: true})
		if err != nil || an.Opaque != "" {
			t.Errorf("%s: %v, %s", sql, err, an.Opaque)
			continue
		}
		sent := an.SQL
		if sent == "" {
			sent = sql
		}
		sent = strings.TrimSuffix(strings.TrimPrefix(sent, "COPY ("), ") TO STDOUT")
		rows, err := c.Query(t.Context(), "EXPLAIN (COSTS OFF) "+sent)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		text := strings.Join(plan, "\n")
		tells := strings.Contains(text, "_name_") || strings.Contains(text, "_town_")
		sorts := strings.Contains(sent, "ORDER BY ctid") || strings.Contains(sent, "ORDER BY tableoid") || strings.Contains(sent, "ORDER BY id") && sorted
		if tells && !strings.Contains(text, "Sort Key: donors") && !strings.Contains(text, "Sort Key: m_donors") {
			t.Errorf("%s reads an index that tells:\n%s\n%s", sql, sent, text)
		}
		if sorts != sorted {
			t.Errorf("%s: sorted %v, want %v:\n%s", sql, sorts, sorted, sent)
		}
	}
}

// A write that row security finds rows for may name one of them.
func TestOrderOfSecuredWrites(t *testing.T) {
	a := newAnalyzer(t)
	for sql, refused := range map[string]bool{
		"UPDATE clinic.donated SET town = 'x' WHERE id > 0 RETURNING id": true,
		"DELETE FROM clinic.donated RETURNING id":                        true,
		"UPDATE clinic.donated SET town = 'x' WHERE id = 1 RETURNING id": false,
	} {
		an, err := a.Analyze(t.Context(), query.Input{SQL: sql, Scope: masked(), Simple: true})
		if err != nil || strings.Contains(an.Opaque, "row security") != refused || !refused && an.Opaque != "" {
			t.Errorf("%s: %v, %s", sql, err, an.Opaque)
		}
	}
}
