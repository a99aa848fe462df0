package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/policy/approval"
)

// Nobody approves rows that nobody has seen: a COPY from the client is approved by a
// rule that covers whatever it asks about only, and says so.
func TestApprovalOfCopies(t *testing.T) {
	const copies = "COPY public.asked FROM STDIN"
	a := newAsking(t, "wait: retry")
	r := a.raw()
	defer r.Close()
	for name, ms := range map[string][]message{
		"simple":   {q(copies)},
		"extended": {&pgproto3.Parse{Query: copies}, bind("", ""), execute(""), sync_},
		"several":  {q("SELECT 1; " + copies)},
	} {
		if out := r.ask(1, ms...); !strings.Contains(out, "sallyport: refused") || !strings.Contains(out, "rows that it brings") || strings.Contains(out, "SPA01") || strings.Contains(out, "G ") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if waits := a.listed(true); len(waits) != 0 {
		t.Errorf("somebody is asked: %v", waits)
	}

	a = newAsking(t, "wait: retry, scope: rule")
	r2 := a.raw()
	defer r2.Close()
	if out := r2.ask(1, q(copies)); !strings.Contains(out, "SPA01") {
		t.Fatalf("%s", out)
	}
	a.decide(a.pending().ID, approval.Approve)
	r2.send(enc(q(copies), data("9301\tcopied\n"), &pgproto3.CopyDone{}))
	if out := r2.until('Z', 1); strings.Contains(out, "E ") {
		t.Errorf("%s", out)
	}
	if got := count(t, "SELECT string_agg(b, ',') FROM public.asked WHERE a = 9301"); got != "copied" {
		t.Error(got)
	}
}
