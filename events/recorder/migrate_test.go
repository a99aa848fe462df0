package recorder_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// old writes a store as schema 1 had it: a row for each record, and for each
// statement.
func old(t *testing.T, dir string, rs []events.Record, waiting []events.Record) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(q string, args ...any) {
		t.Helper()
		if _, err := db.Exec(q, args...); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	db.SetMaxOpenConns(1)
	exec(`BEGIN`)
	defer exec(`COMMIT`)
	exec(recorder.Schema1)
	exec(`CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT; INSERT INTO migrations VALUES (1, 0)`)
	last := rs[len(rs)-1]
	exec(`INSERT INTO chains VALUES ('h1', ?, ?, ?, ?, ?, 1)`, last.Chain, last.Seq, last.Hash[:], last.Seq, last.Hash[:])
	for _, r := range rs {
		exec(`INSERT INTO records VALUES ('h1',?,?,?,?,?,?,?,0,?)`, r.Chain, r.Seq, r.Kind, r.Protocol, r.Session, r.Prev[:], r.Hash[:], r.Payload)
	}
	for _, r := range waiting {
		exec(`INSERT INTO ahead VALUES ('h1',?,?,?,?,?,?,?,?,?)`, r.Chain, r.Seq, r.Kind, r.Protocol, r.Session, r.Prev[:], r.Hash[:], r.Payload, time.Now().UnixNano())
	}
	exec(`INSERT INTO sessions VALUES ('h1','aaa-1','postgres','clinic','10.0.0.5:5432','triage-bot','agent-a','dr.grey','agent','clinic',?,?,'ok')`,
		noon.Add(time.Second).UnixNano(), noon.Add(9*time.Second).UnixNano())
	for i, verdict := range []string{"mask", "block", "allow"} {
		exec(`INSERT INTO statements VALUES ('h1','aaa-1',?,0,?,?,'')`, i+1, verdict, []int{5, 0, 0}[i])
	}
}

// A store of an earlier version is taken over: the same sessions, the same
// records, and what waited goes on waiting.
func TestOldStoreIsTakenOver(t *testing.T) {
	h := newHost("c1")
	work(h, "aaa-1")
	for range 3000 { // more than a block
		h.chunk(newSession("aaa-1"), 4, events.ChunkInput, "data")
	}
	all := h.All()
	dir := t.TempDir()
	old(t, dir, all[:3005], all[3007:3010])
	if _, err := recorder.OpenReader(dir); err == nil || !strings.Contains(err.Error(), "start this version's sallyport-recorder once") {
		t.Fatalf("a reader of an old store: %v", err)
	}

	s := open(t, dir)
	if rep := verify(t, dir); len(rep.Faults) != 0 || rep.Chains[0].Records != 3005 || rep.Chains[0].Waiting != 3 {
		t.Fatalf("%+v", rep)
	}
	fresh := open(t, t.TempDir())
	add(t, fresh, messages("h1", all[:3005])...)
	describe := func(s *recorder.DB) string {
		x, err := s.Find(t.Context(), "aaa-1")
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.Show(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		d.Session = recorder.Session{}
		chunks := 0
		for _, err := range s.Chunks(t.Context(), x) {
			if err != nil {
				t.Fatal(err)
			}
			chunks++
		}
		return fmt.Sprintf("%+v\n%+v\n%d", flat(x), d, chunks)
	}
	if got, want := describe(s), describe(fresh); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	for _, verdict := range []string{"mask", "block", "allow"} {
		if found, err := s.Sessions(t.Context(), recorder.Filter{Verdict: verdict}); err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", verdict, found, err)
		}
	}
	// It goes on where it was.
	if alarms := add(t, s, messages("h1", all[3005:3007])...); alarms != nil {
		t.Fatal(alarms)
	}
	if rep := verify(t, dir); len(rep.Faults) != 0 || rep.Chains[0].Records != 3010 || rep.Chains[0].Waiting != 0 {
		t.Fatalf("%+v", rep)
	}
	if hs, err := s.Heads(context.Background()); err != nil || len(hs) != 1 || hs[0].Seq != 3010 {
		t.Fatal(hs, err)
	}
}

// What was altered in an old store is altered in the new one too.
func TestOldStoreKeepsItsFaults(t *testing.T) {
	for name, c := range map[string]struct{ edit, want string }{
		"changed":  {`UPDATE records SET payload = x'00' WHERE seq = 7`, "7 changed"},
		"removed":  {`DELETE FROM records WHERE seq = 7`, "7 removed"},
		"cut":      {`DELETE FROM records WHERE seq > 7`, "8 cut"},
		"unlisted": {`DELETE FROM chains`, "1 inserted"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost("c1")
			work(h, "aaa-1")
			dir := t.TempDir()
			old(t, dir, h.All(), nil)
			raw(t, dir, c.edit)
			open(t, dir).Close()
			rep := verify(t, dir)
			if len(rep.Faults) != 1 || fmt.Sprint(rep.Faults[0].Seq, " ", rep.Faults[0].What) != c.want {
				t.Errorf("%+v", rep.Faults)
			}
		})
	}
}
