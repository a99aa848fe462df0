package recorder_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// edit edits a store and its schema as an insider would, in one connection.
func edit(t *testing.T, dir string, queries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range queries {
		if q == "reopen" { // to read the schema again
			edit(t, dir)
			db.Close()
			if db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "records.db")); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			continue
		}
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// hide takes an index out of a store while edit is made, so that it tells what was there before.
func hide(index, change string) []string {
	return []string{
		`CREATE TABLE aside AS SELECT * FROM sqlite_schema WHERE name = '` + index + `'`,
		`PRAGMA writable_schema = ON`,
		`DELETE FROM sqlite_schema WHERE name = '` + index + `'`,
		`PRAGMA writable_schema = RESET`, "reopen",
		change,
		`PRAGMA writable_schema = ON`,
		`INSERT INTO sqlite_schema SELECT * FROM aside`,
		`PRAGMA writable_schema = RESET`, "reopen",
		`DROP TABLE aside`,
	}
}

// What was done to the file below the tables is found: indexes that say other
// than their tables, and what the store never had.
func TestVerifyHoldsTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		edits []string
		says  string
	}{
		"sound":                                 {nil, ""},
		"an index that was hidden from an edit": {hide("subjects_session", `DELETE FROM subjects`), "not sound in itself"},
		"an index without rows": {[]string{
			`DROP INDEX sessions_workload`,
			`CREATE INDEX sessions_workload ON sessions (workload, opened) WHERE workload = 'nobody'`,
			`PRAGMA writable_schema = ON`,
			`UPDATE sqlite_schema SET sql = 'CREATE INDEX sessions_workload ON sessions (workload, opened)' WHERE name = 'sessions_workload'`,
			`PRAGMA writable_schema = OFF`,
		}, "not sound in itself"},
		"a partial index":         {[]string{`DROP INDEX sessions_actor`, `CREATE INDEX sessions_actor ON sessions (actor, opened) WHERE actor = ''`}, "tables, indexes"},
		"an index that is gone":   {[]string{`DROP INDEX sessions_opened`}, "tables, indexes"},
		"a trigger":               {[]string{`CREATE TRIGGER x BEFORE INSERT ON alarms BEGIN SELECT RAISE(IGNORE); END`}, "tables, indexes"},
		"a view":                  {[]string{`ALTER TABLE sessions RENAME TO s`, `CREATE VIEW sessions AS SELECT * FROM s WHERE id <> 1`}, "tables, indexes"},
		"a table":                 {[]string{`CREATE TABLE notes (x)`}, "tables, indexes"},
		"an index of another way": {[]string{`DROP INDEX sessions_opened`, `CREATE INDEX sessions_opened ON sessions (closed)`}, "tables, indexes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			h := newHost("c1")
			x := newSession("aaa-1")
			h.tell(events.Event{Kind: events.SessionOpen, Session: x})
			h.tell(events.Event{
				Kind: events.Statement, Session: x, Number: 1, Command: "SELECT", Verdict: events.Allow, Status: "ok", Rows: 1,
				Subjects: []events.Subject{{Name: "patient", Key: [16]byte{1}}},
			})
			h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "ok"})
			add(t, s, messages("h1", h.All())...)
			s.Close()
			edit(t, dir, c.edits...)
			rep := verify(t, dir)
			s, err := recorder.Open(dir)
			if err == nil {
				s.Close()
			}
			if c.says == "" {
				if len(rep.Faults) > 0 || err != nil {
					t.Errorf("%v %v", rep.Faults, err)
				}
				return
			}
			if len(rep.Faults) != 1 || rep.Faults[0].What != "altered" || !strings.Contains(rep.Faults[0].String(), c.says) {
				t.Errorf("found %v", rep.Faults)
			}
			if refused := errors.Is(err, recorder.ErrLayout); refused != (c.says == "tables, indexes") {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

// What an open store is told to drop is not dropped in silence: nothing is taken.
func TestTriggersTakeNothing(t *testing.T) {
	for _, trigger := range []string{
		`CREATE TRIGGER x BEFORE INSERT ON alarms BEGIN SELECT RAISE(IGNORE); END; CREATE TRIGGER y BEFORE UPDATE ON ends BEGIN SELECT RAISE(IGNORE); END;
			CREATE TRIGGER z BEFORE INSERT ON leaves WHEN new.alarm <> 0 BEGIN SELECT RAISE(IGNORE); END`,
		`CREATE TRIGGER x AFTER INSERT ON blocks BEGIN DELETE FROM blocks; END`,
	} {
		dir := newStore(t)
		s := open(t, dir)
		rs := chain("c1", 20).All()
		add(t, s, messages("h1", rs[:5])...)
		edit(t, dir, trigger)
		bad := rs[2]
		bad.Payload = []byte("another")
		batch := append(messages("h1", rs[5:6]), recorder.Message{Host: "h1", Record: bad})
		if _, as, err := s.Add(context.Background(), batch, time.Now()); !errors.Is(err, recorder.ErrLayout) {
			t.Errorf("%v %v", as, err)
		}
		edit(t, dir, `DROP TRIGGER x; DROP TRIGGER IF EXISTS y; DROP TRIGGER IF EXISTS z`)
		if got := add(t, s, batch...); len(got) != 1 {
			t.Error(got)
		}
		if rep := verify(t, dir); len(rep.Faults) > 0 || rep.Alarm.ID != 1 || rep.Chains[0].Records != 6 {
			t.Errorf("%+v", rep)
		}
	}
}

// dropping makes a trigger that drops what is written.
func dropping(store, of string) string {
	if recorder.IsURL(store) {
		return `CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER x BEFORE ` + of + ` FOR EACH ROW EXECUTE FUNCTION dropped()`
	}
	return `CREATE TRIGGER x BEFORE ` + of + ` BEGIN SELECT RAISE(IGNORE); END`
}

// What is to be stored and is not is an error.
func TestRowsThatAreNotWritten(t *testing.T) {
	for _, of := range []string{
		"INSERT ON alarms", "UPDATE ON ends", "INSERT ON leaves", "INSERT ON blocks", "INSERT ON chains", "UPDATE ON chains",
		"INSERT ON sessions", "INSERT ON spans", "INSERT ON ahead",
	} {
		dir := newStore(t)
		s := open(t, dir)
		rs := chain("c1", 20).All()
		bad := rs[2]
		bad.Payload = []byte("another")
		batch := append(messages("h1", rs[:5]), recorder.Message{Host: "h1", Record: bad})
		batch = append(batch, messages("h1", rs[7:9])...)
		err := s.AddAfter(t.Context(), dropping(dir, of), batch)
		if err == nil || !strings.Contains(err.Error(), "somebody edited the store") {
			t.Errorf("%s: %v", of, err)
		}
	}
}
