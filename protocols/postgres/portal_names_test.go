package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A portal of EXECUTE that was bound before a justification shows nothing of what
// was prepared while there was one.
func TestRevealByPortalsOfNames(t *testing.T) {
	p := revealing(t, "nurse")
	for _, take := range []message{q("FETCH ALL FROM p"), q("MOVE ALL FROM p")} {
		r := p.raw()
		out := r.ask(8, q("PREPARE foo AS SELECT 'harmless' AS a"), q("BEGIN"), &pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""), sync_,
			q("DEALLOCATE foo"), q(because), q("PREPARE foo AS SELECT right(ssn, 99) FROM clinic.patients"), q("RESET sallyport.justification"), take)
		if clear_.MatchString(out) || !strings.Contains(out, "sallyport: refused") {
			t.Errorf("%s", out)
		}
		r.Close()
	}
}

// Rows that a portal has left are those of what its text named when they were
// computed, whatever has the name by now: masks are of that.
func TestMasksOfSuspendedPortals(t *testing.T) {
	p := start(t, keyedPolicy)
	for name, ms := range map[string][]message{
		"EXECUTE": {
			q("PREPARE foo AS SELECT ssn FROM clinic.patients"), q("BEGIN"), &pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""),
			&pgproto3.Execute{Portal: "p", MaxRows: 1}, sync_, q("DEALLOCATE foo"), q("PREPARE foo AS SELECT 'x' AS ssn"), execute("p"), sync_,
		},
		"FETCH": {
			q("BEGIN"), q("DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients"), &pgproto3.Parse{Query: "FETCH ALL FROM c"}, bind("p", ""),
			&pgproto3.Execute{Portal: "p", MaxRows: 1}, sync_, q("CLOSE c"), q("DECLARE c CURSOR FOR SELECT 'x' AS ssn"), execute("p"), sync_,
		},
	} {
		r := p.raw()
		if out := r.ask(6, ms...); planted.MatchString(out) || !strings.Contains(out, "sallyport: refused") || !strings.Contains(out, "s \n") {
			t.Errorf("%s: %s", name, out)
		}
		r.Close()
	}
	// With its names as they were it goes on.
	r := p.raw()
	defer r.Close()
	out := r.ask(3, q("PREPARE foo AS SELECT ssn FROM clinic.patients"), q("BEGIN"), &pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""),
		&pgproto3.Execute{Portal: "p", MaxRows: 1}, execute("p"), sync_)
	if planted.MatchString(out) || strings.Contains(out, "E SERROR") || !strings.Contains(out, "C SELECT") {
		t.Errorf("%s", out)
	}
}

// What else runs when rows are first taken is not taken from by name.
func TestPortalsOfCommands(t *testing.T) {
	p := start(t, maskPolicy)
	for _, sql := range []string{"EXPLAIN SELECT 1", "SHOW work_mem"} {
		r := p.raw()
		if out := r.ask(3, q("BEGIN"), &pgproto3.Parse{Query: sql}, bind("p", ""), sync_, q("FETCH ALL FROM p")); !strings.Contains(out, "sallyport: refused") {
			t.Errorf("%s: %s", sql, out)
		}
		if out := r.ask(3, q("ROLLBACK"), q("BEGIN"), &pgproto3.Parse{Query: sql}, bind("p", ""), execute("p"), sync_); strings.Contains(out, "E SERROR") {
			t.Errorf("%s: %s", sql, out)
		}
		r.Close()
	}
	r := p.raw()
	defer r.Close()
	if out := r.ask(3, q("BEGIN"), &pgproto3.Parse{Query: "SELECT 'row'"}, bind("p", ""), sync_, q("FETCH ALL FROM p")); !strings.Contains(out, "row") || strings.Contains(out, "E SERROR") {
		t.Errorf("%s", out)
	}
}
