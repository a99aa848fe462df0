package postgres_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// A Query ends the transaction of a batch before it that had no Sync: what deferred
// constraints say then is withheld, whatever the Query itself is, or is explained, if
// something protected was read in it. 18 itself goes on there in the transaction, and
// says nothing of them.
func TestDeferredErrorsBehindABatch(t *testing.T) {
	p := start(t, maskPolicy)
	insert := append([]message{parse("", "SELECT ssn FROM clinic.patients"), bind("", ""), execute("")},
		parse("", "INSERT INTO later VALUES (1), (1)"), bind("", ""), execute(""))
	for name, then := range map[string][]message{
		"a query":     {q("SELECT 1")},
		"explained":   {parse("", explainOn), bind("", ""), execute(""), q("SELECT 1")},
		"a Sync":      {sync_},
		"a switching": {q(explainOn)},
	} {
		r := p.raw()
		if out := r.ask(1, append(insert[:len(insert):len(insert)], then...)...); !strings.Contains(out, "C23505") && (name == "a Sync" || postgrestest.Major() < 18) || strings.Contains(out, "already exists") {
			t.Errorf("%s: %s", name, out)
		}
		r.Close()
	}
}
