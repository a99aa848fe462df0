package postgres_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/approval"
)

// What a session has set is not asked where the question would be the first that its
// transaction looks by: what it sees, and may still be made, is the client's to say.
func TestEarlySettingsDisturbNothing(t *testing.T) {
	asks := strings.ReplaceAll(approvePolicy, "WAIT", "wait: 5m") + `
  - name: locks
    effect: approve
    identity: "*"
    resource: "*"
    commands: [lock]
    relations: "public.asked"
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: 5m}
`
	for _, c := range []struct{ name, begin, sql string }{
		{"repeatable read", "BEGIN ISOLATION LEVEL REPEATABLE READ", "INSERT INTO public.asked VALUES (9970, 'x')"},
		{"serializable", "BEGIN ISOLATION LEVEL SERIALIZABLE", "INSERT INTO public.asked VALUES (9970, 'x')"},
		{"what looks at nothing", "BEGIN", "LOCK TABLE public.asked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := askingOf(start(t, maskPolicy))
			r := a.raw()
			defer r.Close()
			r.ask(1, q("SET lc_time = 'POSIX'"))
			a.Gate.SetEngine(engine(t, asks))
			out := r.ask(3, q(c.begin), q(c.sql), q("ROLLBACK"))
			if !strings.Contains(out, "see the rows as of now") || strings.Contains(out, "SPA0") {
				t.Errorf("%s", out)
			}
			if waits := a.listed(true); len(waits) != 0 {
				t.Errorf("somebody is asked: %v", waits)
			}
		})
	}
	// In one that looks anew for each statement it is asked.
	a := askingOf(start(t, maskPolicy))
	r := a.raw()
	defer r.Close()
	r.ask(1, q("SET lc_time = 'POSIX'"))
	a.Gate.SetEngine(engine(t, asks))
	r.ask(1, q("BEGIN"))
	r.send(enc(q("INSERT INTO public.asked VALUES (9970, 'x')")))
	a.decide(a.pending().ID, approval.Approve)
	if out := r.until('Z', 1); !strings.Contains(out, "INSERT 0 1") {
		t.Errorf("%s", out)
	}
	r.ask(1, q("ROLLBACK"))
}

// A question of our own that fails, and is taken back, ends nothing that the client has
// said in its transaction.
func TestFailedEstimateDisturbsNothing(t *testing.T) {
	a := askingOf(pooled(t, pooledPolicy+`
  - name: changes
    effect: approve
    identity: "*"
    resource: "*"
    commands: [update]
    relations: "public.t2"
    approve: {by: {issuer: "https://people", subjects: [dr-lee]}, within: 1h, wait: 5m}
`))
	other := connectDirect(t)
	must(t, other, "BEGIN; LOCK TABLE public.t2 IN EXCLUSIVE MODE")
	r := a.raw()
	defer r.Close()
	if out := r.ask(2, q("BEGIN"), q(as("bob"))); strings.Contains(out, "E S") {
		t.Fatal(out)
	}
	r.send(enc(q("UPDATE public.t2 SET a = 1 WHERE false")))
	e := a.pending()
	a.estimated(e.ID)
	must(t, other, "ROLLBACK")
	if _, _, unknown := a.estimateOf(e.ID); !strings.Contains(unknown, "did not say") {
		t.Fatalf("the question did not fail: %q", unknown)
	}
	a.decide(e.ID, approval.Approve)
	if out := r.until('Z', 1); !strings.Contains(out, "UPDATE 0") || !strings.Contains(out, "Z T") {
		t.Fatal(out)
	}
	if out := seen(r.ask(2, q("COMMIT"), q(ssn))); out != "masked" {
		t.Errorf("it is no longer known for whom: %s", out)
	}
}
