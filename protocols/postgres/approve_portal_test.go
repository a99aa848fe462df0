package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/policy/approval"
)

// ran is which of the rows from n on, less than 10, the server has.
func ran(t *testing.T, n int) string {
	t.Helper()
	return count(t, fmt.Sprintf("SELECT coalesce(string_agg(a::text, ',' ORDER BY a), 'none') FROM public.asked WHERE a BETWEEN %d AND %d", n, n+9))
}

// The server looks up what EXECUTE and FETCH name when rows are first taken: a
// portal of one stands for whatever has the name by then.
func TestApprovalOfPortalsByName(t *testing.T) {
	a := newAsking(t, "wait: retry")
	const evil = "INSERT INTO public.asked VALUES (7711, 'never approved') RETURNING a"
	for name, take := range map[string]string{"FETCH": "FETCH ALL FROM p", "MOVE": "MOVE ALL FROM p"} {
		r := a.raw()
		out := r.ask(6, q("PREPARE foo AS SELECT 1 AS a"), q("BEGIN"), &pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""), sync_,
			q("DEALLOCATE foo"), q("PREPARE foo AS "+evil), q(take))
		if !strings.Contains(out, "sallyport: refused") || !strings.Contains(out, "Execute message") {
			t.Errorf("%s: %s", name, out)
		}
		r.ask(1, q("COMMIT"))
		r.Close()
		if got := ran(t, 7711); got != "none" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// By way of another portal: what it takes rows from is bound, not its name.
	r := a.raw()
	defer r.Close()
	out := r.ask(7, q("PREPARE foo AS SELECT 1 AS a"), q("BEGIN"), q("DECLARE c CURSOR FOR SELECT 1"), &pgproto3.Parse{Query: "FETCH ALL FROM c"}, bind("p", ""), sync_,
		q("CLOSE c"), q("DECLARE c CURSOR FOR SELECT 2"), q("FETCH ALL FROM p"))
	if !strings.Contains(out, "sallyport: refused") || strings.Contains(out, "D ") {
		t.Errorf("%s", out)
	}
}

// What was approved of a portal that the server skipped is of nothing else.
func TestApprovalOfSkippedPortals(t *testing.T) {
	a := newAsking(t, "wait: retry")
	r := a.raw()
	defer r.Close()
	insert := func(n int) string { return fmt.Sprintf("PREPARE foo AS INSERT INTO public.asked VALUES (%d, 'x')", n) }
	r.ask(1, q(insert(7720)))
	run := []message{&pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""), execute("p"), sync_}
	if out := r.ask(1, run...); !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	a.decide(a.pending().ID, approval.Approve)
	out := r.ask(4, q("BEGIN"), &pgproto3.Parse{Query: "EXECUTE foo"}, bind("p", ""), sync_, q("SAVEPOINT s"),
		&pgproto3.Parse{Query: "SELECT 1/0"}, bind("", ""), execute(""), execute("p"), sync_)
	if strings.Contains(out, "SPA0") || !strings.Contains(out, "22012") {
		t.Fatalf("%s", out)
	}
	out = r.ask(4, q("ROLLBACK TO s"), q("DEALLOCATE foo"), q(insert(7721)), execute("p"), sync_)
	if !strings.Contains(out, "sallyport: refused") && !strings.Contains(out, "SPA01") {
		t.Errorf("%s", out)
	}
	r.ask(1, q("COMMIT"))
	if got := ran(t, 7720); got != "none" {
		t.Error(got)
	}
}

// The types that a prepared statement declares are part of what it is.
func TestApprovalOfDeclaredTypes(t *testing.T) {
	a := newAsking(t, "wait: retry")
	r := a.raw()
	defer r.Close()
	const text, integer = 25, 23
	prepare := func(oid uint32) []message {
		return []message{closing('S', "q"), &pgproto3.Parse{
			Name: "q", Query: "INSERT INTO public.asked SELECT 7730, 'x' WHERE $1 = '01'", ParameterOIDs: []uint32{oid},
		}, sync_}
	}
	r.ask(1, prepare(text)...)
	if out := r.ask(1, q("EXECUTE q('1')")); !strings.Contains(out, "SPA01") {
		t.Fatal(out)
	}
	a.decide(a.pending().ID, approval.Approve)
	r.ask(1, prepare(integer)...)
	if out := r.ask(1, q("EXECUTE q('1')")); !strings.Contains(out, "SPA01") {
		t.Errorf("%s", out)
	}
	if got := ran(t, 7730); got != "none" {
		t.Error(got)
	}
	r.ask(1, prepare(text)...)
	if out := r.ask(1, q("EXECUTE q('1')")); !strings.Contains(out, "INSERT 0 0") {
		t.Errorf("what was approved: %s", out)
	}
}

// What a cursor is bound with is part of what is fetched of it.
func TestApprovalOfBoundCursors(t *testing.T) {
	a := newAsking(t, "wait: retry")
	a.Gate.SetEngine(engine(t, strings.ReplaceAll(approvePolicy, "WAIT", "wait: retry")+`
  - name: takes
    effect: approve
    identity: "*"
    resource: "*"
    commands: [fetch]
    relations: ["public.t3"]
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: retry}
`))
	r := a.raw()
	defer r.Close()
	open := func(v string) []message {
		return []message{
			q("BEGIN"),
			&pgproto3.Parse{Query: "DECLARE c CURSOR FOR SELECT t.a FROM public.t3 t WHERE t.a::text <> $1", ParameterOIDs: []uint32{25}}, bind("", "", v), execute(""), sync_,
		}
	}
	// One rule asks for what opens it, another for what is taken.
	names := func(v string) []string {
		t.Helper()
		if out := r.ask(2, open(v)...); !strings.Contains(out, "SPA01") {
			t.Fatal(out)
		}
		opened := a.pending().ID
		a.decide(opened, approval.Approve)
		r.ask(1, q("ROLLBACK"))
		if out := r.ask(2, open(v)...); strings.Contains(out, "E SERROR") {
			t.Fatal(out)
		}
		if out := r.ask(2, q("FETCH ALL FROM c"), q("ROLLBACK")); !strings.Contains(out, "SPA01") {
			t.Fatal(out)
		}
		e, err := a.book.Show(a.pending().ID)
		if err != nil {
			t.Fatal(err)
		}
		a.decide(e.ID, approval.Deny)
		return e.What.Names
	}
	one, two := names("-1"), names("-2")
	if len(one) != 1 || !strings.Contains(one[0], `"-1"`) || strings.Join(one, "\n") == strings.Join(two, "\n") {
		t.Errorf("%q and %q", one, two)
	}
}
