package recorder_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

// What would make a statement on the store's tables do other than it says is found
// by verify, and nothing is stored beside it.
func TestPostgresHoldsTheSchema(t *testing.T) {
	server := startPostgres(t)
	for name, change := range map[string]string{
		"a trigger":         dropping("postgres://", "INSERT ON blocks"),
		"a rule":            `CREATE RULE x AS ON INSERT TO alarms DO INSTEAD NOTHING`,
		"a view":            `ALTER TABLE sessions RENAME TO aside; CREATE VIEW sessions AS SELECT * FROM aside WHERE actor <> 'x'`,
		"row security":      `ALTER TABLE blocks ENABLE ROW LEVEL SECURITY`,
		"a policy":          `CREATE POLICY x ON blocks USING (true)`,
		"a generated one":   `ALTER TABLE sessions DROP COLUMN actor; ALTER TABLE sessions ADD COLUMN actor text COLLATE "C" NOT NULL GENERATED ALWAYS AS ('') STORED`,
		"a default":         `ALTER TABLE alarms ALTER COLUMN what SET DEFAULT ''`,
		"one that inherits": `CREATE TABLE more () INHERITS (blocks)`,
		"no index":          `DROP INDEX sessions_actor`,
		"a partial index":   `DROP INDEX sessions_actor; CREATE INDEX sessions_actor ON sessions (actor, opened) WHERE actor <> 'x'`,
		"one not valid":     `superuser UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sessions_actor'::regclass`,
		"a function":        `CREATE FUNCTION coalesced(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'`,
		"an operator":       `CREATE FUNCTION eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = eq); DROP FUNCTION IF EXISTS nothing()`,
		"another type":      `ALTER TABLE blocks ALTER COLUMN last TYPE int`,
		"another collation": `ALTER TABLE sessions ALTER COLUMN actor TYPE text COLLATE "default"`,
		"not logged":        `ALTER TABLE spans SET UNLOGGED`,
		"a constraint":      `ALTER TABLE alarms DROP CONSTRAINT alarms_host_chain_seq_what_hash_key`,
		"one more table":    `CREATE TABLE more ()`,
	} {
		t.Run(name, func(t *testing.T) {
			store := pgStore(t, server)
			s := open(t, store)
			rs := chain("c1", 20).All()
			add(t, s, messages("h1", rs[:5])...)
			as := store
			if rest, ok := strings.CutPrefix(change, "superuser "); ok {
				as, change = strings.Replace(store, "evidence@", "postgres@", 1), rest
			}
			raw(t, as, change)
			if _, got, err := s.Add(t.Context(), messages("h1", rs[5:6]), time.Now()); !errors.Is(err, recorder.ErrLayout) {
				t.Errorf("stored: %v %v", got, err)
			}
			if rep := verify(t, store); len(rep.Faults) != 1 || rep.Faults[0].What != "altered" {
				t.Errorf("%+v", rep.Faults)
			}
			if other, err := recorder.Open(store); !errors.Is(err, recorder.ErrLayout) {
				t.Error(err)
				if err == nil {
					other.Close()
				}
			}
		})
	}
}

// Who may only read reads all of it, and can neither write nor hold up who writes.
func TestPostgresReaderNeedsSelectAlone(t *testing.T) {
	server := startPostgres(t)
	store := pgStore(t, server)
	s := open(t, store)
	h := newHost("c1")
	work(h, "aaa-1")
	add(t, s, messages("h1", h.All())...)
	_, schema, _ := strings.Cut(store, "search_path=")
	if err := server.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE auditor LOGIN; GRANT USAGE ON SCHEMA %[1]s TO auditor; GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO auditor`, schema)); err != nil {
		t.Fatal(err)
	}
	reader := strings.Replace(store, "evidence@", "auditor@", 1)
	rep := verify(t, reader)
	if faults(rep) != "" || len(rep.Chains) != 1 || rep.Chains[0].Last != h.Last() {
		t.Errorf("%+v", rep)
	}
	r, err := recorder.OpenReader(reader)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := r.Find(t.Context(), "aaa")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := r.Show(t.Context(), x); err != nil || len(d.Requests) == 0 {
		t.Errorf("%+v %v", d, err)
	}
	if _, _, err := r.Add(t.Context(), messages("h2", chain("c2", 2).All()), time.Now()); err == nil {
		t.Error("a reader stored something")
	}
	if w, err := recorder.Open(reader); err == nil {
		w.Close()
		t.Error("a reader opened the store to write")
	}
	db, err := recorder.Connect(reader)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`BEGIN; LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE`); err == nil {
		t.Error("a reader locked those out who write")
	}
}

// A server that crashes while recorders store, again and again: each record is there
// once, and the chain is sound.
func TestPostgresAwayAndBack(t *testing.T) {
	server := startPostgres(t)
	store := pgStore(t, server)
	open(t, store).Close()
	s, c := startServer(t), chaintest.New("c1")
	startShipper(t, s, &jetstream.Shipper{}, c)
	feed(c, 300, 0)
	process(t, s, store)
	fed := make(chan struct{})
	go func() { defer close(fed); feed(c, 1500, time.Millisecond) }()
	for range 3 {
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		// Connections end under those who use them, too.
		if err := server.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'evidence'`); err != nil {
			t.Fatal(err)
		}
	}
	<-fed
	complete(t, store, c)
}

// Names are what their host says: those that PostgreSQL's text can't have, too.
func TestNamesOfAnyBytes(t *testing.T) {
	store := newStore(t)
	s := open(t, store)
	c := chaintest.New("c\x001\xff\x1a")
	ids := []string{"a\x00b", "\xff\xfe", "\x1a00", "\x1a", "é\x1a00\xc3", `'; DROP TABLE blocks --`}
	for i, id := range ids {
		c.Add(0, "post\x00gres", id, events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Number: 1, Time: time.Unix(int64(i+1), 0), Data: []byte("x")}))
	}
	if as := add(t, s, messages("h\xf0\x00", c.All())...); as != nil {
		t.Error(as)
	}
	if as := add(t, s, messages("h\xf0\x00", c.All())...); as != nil {
		t.Error("a second time:", as)
	}
	for _, id := range ids {
		x, err := s.Find(t.Context(), id)
		if err != nil || x.ID != id || x.Host != "h\xf0\x00" {
			t.Errorf("%q: %+v %v", id, x, err)
		}
	}
	if rep := verify(t, store); faults(rep) != "" || len(rep.Chains) != 1 || rep.Chains[0].Chain != c.ID || rep.Chains[0].Records != uint64(len(ids)) {
		t.Errorf("%+v", rep)
	}
}

func TestPostgresURLs(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for url, want := range map[string]string{
		"postgres://u:secret@127.0.0.1/db":                  "password",
		"postgres://u@127.0.0.1/db?password=secret":         "password",
		"postgres://u@db.example.org/db":                    "in clear",
		"postgres://u@db.example.org/db?sslmode=prefer":     "in clear",
		"postgres://u@127.0.0.1,db.example.org/db":          "in clear",
		"postgres://u@127.0.0.1/db?sslmode=secret":          "can't be used",
		"postgres://u@127.0.0.1:secret/db":                  "can't be read",
		"postgres://u@db.example.org/db?sslrootcert=secret": "can't be used",
	} {
		for _, f := range []func(string) (*recorder.DB, error){recorder.Open, recorder.OpenReader} {
			s, err := f(url)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
}

// A server that forgets what it has confirmed gets nothing.
func TestPostgresMustBeDurable(t *testing.T) {
	server := startPostgres(t)
	store := pgStore(t, server)
	open(t, store)
	if err := server.Exec(t.Context(), `ALTER ROLE evidence SET synchronous_commit = off`); err != nil {
		t.Fatal(err)
	}
	s := open(t, store)
	if got, err := recorder.Setting(s, "synchronous_commit"); err != nil || got != "on" {
		t.Errorf("synchronous_commit = %s, %v", got, err)
	}
	weak, err := startWeak(t)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := recorder.Open(pgStore(t, weak)); err == nil || !strings.Contains(err.Error(), "fsync") {
		t.Error(err)
		if err == nil {
			s.Close()
		}
	}
}

// Two recorders that are given the same take turns: neither is disturbed, and each
// record and statement is counted once.
func TestRecordersTakeTurns(t *testing.T) {
	store := newStore(t)
	h := newHost("c1")
	for i := range 20 {
		work(h, fmt.Sprintf("session-%d", i))
	}
	ms := messages("h1", h.All())
	done := make(chan error, 2)
	for range 2 {
		s := open(t, store)
		go func() {
			for i := 0; i < len(ms); i += 7 {
				if _, _, err := s.Add(t.Context(), ms[i:min(i+7, len(ms))], time.Now()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if rep := verify(t, store); faults(rep) != "" || len(rep.Chains) != 1 || rep.Chains[0].Records != h.Last() || len(rep.Alarms) != 0 {
		t.Errorf("%+v", rep)
	}
}
