package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sallyport.dev/sallyport/policy/approval"
)

// A session that was there before anything asked for an approval may have set what
// nothing noted: what it has set is part of what is approved.
func TestApprovalOfEarlySettings(t *testing.T) {
	asks := strings.ReplaceAll(approvePolicy, "WAIT", "wait: retry")
	for _, c := range []struct {
		name, before string
		set          []string // before the policy asks
		has          []string // what an approver is shown of it
		undo         string   // afterwards: what was approved is another thing
	}{
		{name: "settings", before: maskPolicy, set: []string{"SET lc_time = 'POSIX'", "SET xmloption = document"}, has: []string{"lc_time=POSIX", "xmloption=document"}, undo: "RESET lc_time"},
		{name: "a path", before: maskPolicy, set: []string{"SET search_path = clinic, public"}, has: []string{"search_path=clinic, public"}, undo: "RESET ALL"},
		{name: "within a transaction", before: maskPolicy, set: []string{"BEGIN", "SET LOCAL lc_time = 'POSIX'"}, has: []string{"lc_time=POSIX"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := askingOf(start(t, c.before))
			conn := connect(t, a.proxy, "default_query_exec_mode=simple_protocol")
			for _, sql := range c.set {
				must(t, conn, sql)
			}
			a.Gate.SetEngine(engine(t, asks))
			const insert = "INSERT INTO public.asked VALUES (9950, to_char(date '2026-01-02', 'TMDay'))"
			run := func() error {
				_, err := conn.Exec(t.Context(), insert)
				return err
			}
			id := refusedFor(t, run())
			e, err := a.book.Show(id)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range c.has {
				if !slices.Contains(e.What.Settings, s) {
					t.Errorf("%q has no %s", e.What.Settings, s)
				}
			}
			if other := connect(t, a.proxy, "default_query_exec_mode=simple_protocol"); other != nil {
				if _, err := other.Exec(t.Context(), insert); refusedFor(t, err) == id {
					t.Error("a session that has set nothing asks the same")
				}
			}
			a.decide(id, approval.Approve)
			if conn.PgConn().TxStatus() == 'E' {
				must(t, conn, "ROLLBACK")
				if refusedFor(t, run()) == id {
					t.Error("it runs under other settings")
				}
				return
			}
			must(t, conn, c.undo)
			if refusedFor(t, run()) == id {
				t.Error("it runs under other settings")
			}
		})
	}
	// Where nothing was looked at nobody knows what there is to be asked.
	for name, set := range map[string]string{"settings": "DO $$ BEGIN PERFORM set_config('app.tenant', '7', false); END $$", "rights": "SET ROLE backslash", "nothing": "SELECT 1"} {
		a := askingOf(start(t, allowAll))
		conn := connect(t, a.proxy, "default_query_exec_mode=simple_protocol")
		must(t, conn, set)
		a.Gate.SetEngine(engine(t, asks))
		refusedBy(t, conn, "INSERT INTO public.asked VALUES (9951, 'x')", "connect again")
		if waits := a.listed(true); len(waits) != 0 {
			t.Errorf("%s: somebody is asked: %v", name, waits)
		}
		must(t, conn, "SELECT 1")
		_, err := connect(t, a.proxy, "default_query_exec_mode=simple_protocol").Exec(t.Context(), "INSERT INTO public.asked VALUES (9951, 'x')")
		refusedFor(t, err)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a IN (9950, 9951)"); got != "0" {
		t.Error(got)
	}
}

// What it has set is asked in the middle of whatever the client is at.
func TestApprovalOfEarlySettingsInBatches(t *testing.T) {
	a := askingOf(start(t, maskPolicy))
	r := a.raw()
	defer r.Close()
	r.ask(1, q("SET lc_time = 'POSIX'"))
	a.Gate.SetEngine(engine(t, strings.ReplaceAll(approvePolicy, "WAIT", "wait: retry")))
	const insert = "INSERT INTO public.asked VALUES (9960, 'x')"
	batch := []message{
		&pgproto3.Parse{Query: "SELECT 'first'"}, bind("", ""), execute(""),
		&pgproto3.Parse{Query: insert}, bind("", ""), execute(""), sync_,
	}
	out := r.ask(1, batch...)
	if !strings.Contains(out, "first") || !strings.Contains(out, "SPA01") || strings.Contains(out, "lc_time") {
		t.Fatalf("%s", out)
	}
	a.decide(a.pending().ID, approval.Approve)
	if out = r.ask(1, batch...); !strings.Contains(out, "first") || !strings.Contains(out, "INSERT 0 1") || strings.Contains(out, "lc_time") {
		t.Errorf("%s", out)
	}
	out = r.ask(3, q("BEGIN"), q("SELECT 1/0"), q(insert))
	if !strings.Contains(out, "22012") || strings.Contains(out, "INSERT 0 1") {
		t.Errorf("%s", out)
	}
	if out = r.ask(1, q("ROLLBACK")); !strings.HasSuffix(out, "Z I\n") {
		t.Errorf("%s", out)
	}
	if got := count(t, "SELECT count(*)::text FROM public.asked WHERE a = 9960"); got != "1" {
		t.Error(got)
	}
}
