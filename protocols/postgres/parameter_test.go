package postgres_test

import (
	"fmt"
	"strings"
	"testing"
)

// A parameter has the type of the place where the server meets it first. A cast of
// it to another is made row by row in a generic plan, before a filter that costs
// more: it must not tell of the rows that the filter leaves out.
func TestParametersOfTwoTypes(t *testing.T) {
	const manyTerms = `
  - name: of Boston
    effect: filter
    identity: "*"
    resource: "*"
    relations: clinic.patients
    where: city = 'Boston' OR city = 'a' OR city = 'b' OR city = 'c' OR city = 'd' OR city = 'e' OR city = 'f'
`
	const staff = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: [read, session, write]
    relations: ["*.*"]
`
	for name, policy := range map[string]string{"filtered": staff + manyTerms, "matched": matchPolicy(many1000) + manyTerms} {
		p := start(t, policy)
		for _, sql := range []string{
			"SELECT p.id FROM clinic.patients p, (SELECT $1::int8) x WHERE p.id = %d AND p.visits = $1::int4",
			"WITH x AS (SELECT $1::text) SELECT p.id FROM clinic.patients p, x WHERE p.id = %d AND p.visits = $1::int4",
			"SELECT p.id FROM clinic.patients p WHERE p.id = %d AND p.city > $1 AND p.visits = $1::int4",
			"SELECT p.id FROM clinic.patients p WHERE p.id = %d AND p.visits = $1::numeric(3, 1)",
			"UPDATE clinic.patients p SET visits = visits FROM (SELECT $1::int8) x WHERE p.id = %d AND p.visits = $1::int4",
			"SELECT p.id FROM (SELECT $1::text) x, clinic.patients p WHERE p.id = %d AND p.birth_date = $1",
			"SELECT p.id FROM (SELECT $1::text) x, clinic.patients p WHERE p.id = %d AND p.birth_date = $1::date",
			"SELECT p.id FROM (SELECT $1::text) x, clinic.patients p WHERE p.id + 930 = %d + 930 AND p.ssn = $1::bpchar AND p.visits = $1::int4",
		} {
			var said [2]string
			for i, id := range []int{3, 77} { // one that is left out, and none
				r := p.raw()
				r.get(1, q("PREPARE s AS "+fmt.Sprintf(sql, id)))
				for range 7 { // until the plan is generic
					r.get(1, q("EXECUTE s('0')"))
				}
				for _, value := range []string{"!", "12345", "99999999999"} {
					said[i] += sessionWords.ReplaceAllString(r.get(1, q("EXECUTE s('"+value+"')")).text, "")
				}
				r.Close()
			}
			if said[0] != said[1] {
				t.Errorf("%s: %s: it tells of a row that is left out:\n%s\n%s", name, sql, said[0], said[1])
			}
		}
	}
}

// What may be matched in a parent is not matched in a child that forbids it.
func TestMatchOfChildren(t *testing.T) {
	p := start(t, strings.Replace(matchPolicy(many1000), "      clinic.members.pin: redact\n", "      clinic.claims.ssn: {mask: redact, match: equality}\n      clinic.claims_1.ssn: redact\n", 1))
	r := p.raw()
	for _, relation := range []string{"clinic.claims", "clinic.claims_1", "ONLY clinic.claims"} {
		if out := r.get(1, q("SELECT id FROM "+relation+" WHERE ssn = '911-47-0001'")); len(out.rows) > 0 || strings.Contains(out.text, "ERROR") {
			t.Errorf("%s: %s", relation, out.text)
		}
	}
}
