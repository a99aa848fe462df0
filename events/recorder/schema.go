package recorder

import (
	"database/sql"
	"fmt"
	"time"
)

// migration is one step of the schema: statements, then what they cannot do.
type migration struct {
	sql  string
	then func(*sql.Tx) error
}

// migrations are applied in order, once each; never edit one that was
// released, add another.
var migrations = []migration{{sql: `
CREATE TABLE chains (
	host TEXT NOT NULL, chain TEXT NOT NULL,
	head_seq INTEGER NOT NULL, head_hash BLOB NOT NULL,     -- newest record stored
	proved_seq INTEGER NOT NULL, proved_hash BLOB NOT NULL, -- newest with none missing before it
	first_seen INTEGER NOT NULL,                            -- ns
	PRIMARY KEY (host, chain)
) STRICT;
CREATE TABLE records (
	host TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL,
	kind INTEGER NOT NULL, protocol TEXT NOT NULL, session TEXT NOT NULL,
	prev BLOB NOT NULL, hash BLOB NOT NULL,
	packed INTEGER NOT NULL, payload BLOB NOT NULL,         -- packed 1: zstd
	UNIQUE (host, chain, seq)
) STRICT;
CREATE INDEX records_session ON records (session, kind) WHERE session <> '';
CREATE TABLE ahead ( -- arrived before the record that they follow
	host TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL,
	kind INTEGER NOT NULL, protocol TEXT NOT NULL, session TEXT NOT NULL,
	prev BLOB NOT NULL, hash BLOB NOT NULL, payload BLOB NOT NULL,
	arrived INTEGER NOT NULL,                               -- ns
	PRIMARY KEY (host, chain, seq, hash)
) STRICT;
CREATE TABLE alarms (
	time INTEGER NOT NULL, host TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL,
	what TEXT NOT NULL, detail TEXT NOT NULL,
	hash BLOB NOT NULL, payload BLOB NOT NULL,              -- of the record that raised it
	UNIQUE (host, chain, seq, what, hash)
) STRICT;
CREATE TABLE sessions (
	host TEXT NOT NULL, session TEXT NOT NULL, protocol TEXT NOT NULL DEFAULT '',
	resource TEXT NOT NULL DEFAULT '', destination TEXT NOT NULL DEFAULT '',
	workload TEXT NOT NULL DEFAULT '', actor TEXT NOT NULL DEFAULT '', principal TEXT NOT NULL DEFAULT '',
	user TEXT NOT NULL DEFAULT '', db TEXT NOT NULL DEFAULT '',
	opened INTEGER NOT NULL, closed INTEGER NOT NULL DEFAULT 0, -- ns
	status TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (host, session)
) STRICT;
CREATE INDEX sessions_opened ON sessions (opened);
CREATE TABLE statements (
	host TEXT NOT NULL, session TEXT NOT NULL, number INTEGER NOT NULL,
	time INTEGER NOT NULL, verdict TEXT NOT NULL DEFAULT '',
	rows INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (host, session, number)
) STRICT;
`}, {sql: `
ALTER TABLE records RENAME TO records1;
DROP INDEX records_session;
ALTER TABLE ahead RENAME TO ahead1;
ALTER TABLE sessions RENAME TO sessions1;
DROP INDEX sessions_opened;
CREATE TABLE blocks ( -- records that follow each other: see block.go
	host TEXT NOT NULL, chain TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
	heads BLOB NOT NULL, bodies BLOB NOT NULL,
	UNIQUE (host, chain, first)
) STRICT;
CREATE TABLE ahead ( -- arrived before the record that they follow; blocks with gaps
	host TEXT NOT NULL, chain TEXT NOT NULL, first INTEGER NOT NULL, n INTEGER NOT NULL,
	arrived INTEGER NOT NULL,                               -- ns
	heads BLOB NOT NULL, bodies BLOB NOT NULL
) STRICT;
CREATE INDEX ahead_first ON ahead (host, chain, first);
CREATE TABLE sessions (
	id INTEGER PRIMARY KEY, host TEXT NOT NULL, session TEXT NOT NULL, protocol TEXT NOT NULL,
	resource TEXT NOT NULL, destination TEXT NOT NULL, workload TEXT NOT NULL, actor TEXT NOT NULL, principal TEXT NOT NULL,
	user TEXT NOT NULL, db TEXT NOT NULL,
	opened INTEGER NOT NULL, closed INTEGER NOT NULL,       -- ns
	status TEXT NOT NULL,
	statements INTEGER NOT NULL, masked INTEGER NOT NULL, refused INTEGER NOT NULL, rows INTEGER NOT NULL,
	verdicts INTEGER NOT NULL,                              -- a bit for each that there was
	number INTEGER NOT NULL, verdict TEXT NOT NULL,         -- of the latest statement
	UNIQUE (host, session)
) STRICT;
CREATE INDEX sessions_opened ON sessions (opened);
CREATE TABLE spans ( -- a session has records of a chain from first to last, and none outside of its spans
	session INTEGER NOT NULL, chain TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
	PRIMARY KEY (session, chain, first)
) STRICT, WITHOUT ROWID;
`, then: pack1}, {sql: `
ALTER TABLE alarms RENAME TO alarms2;
CREATE TABLE alarms ( -- each tied to the one before it: see Alarm.link
	id INTEGER PRIMARY KEY, time INTEGER NOT NULL, host TEXT NOT NULL, chain TEXT NOT NULL, seq INTEGER NOT NULL,
	what TEXT NOT NULL, detail TEXT NOT NULL,
	hash BLOB NOT NULL, payload BLOB NOT NULL,              -- of the record, where it is stored nowhere else
	body BLOB NOT NULL, link BLOB NOT NULL,                 -- SHA-256 of payload; hash of this and all before it
	UNIQUE (host, chain, seq, what, hash)
) STRICT;
CREATE INDEX alarms_time ON alarms (host, time);
CREATE TABLE ends ( -- of what is told in one row after the other
	one INTEGER PRIMARY KEY CHECK (one = 1), alarm INTEGER NOT NULL, alarm_link BLOB NOT NULL
) STRICT;
`, then: linkAlarms}, {sql: `
CREATE TABLE leaves ( -- the order in which blocks and alarms go into the transparency log: leaf is its index + 1
	leaf INTEGER PRIMARY KEY, host TEXT NOT NULL, chain TEXT NOT NULL, first INTEGER NOT NULL,
	alarm INTEGER NOT NULL                                  -- 0: a block
) STRICT;
CREATE UNIQUE INDEX leaves_first ON leaves (host, chain, first) WHERE alarm = 0;
CREATE UNIQUE INDEX leaves_alarm ON leaves (alarm) WHERE alarm <> 0;
`, then: leavesOf3}, {sql: `
CREATE INDEX sessions_workload ON sessions (workload, opened);
CREATE INDEX sessions_actor ON sessions (actor, opened);
CREATE INDEX sessions_principal ON sessions (principal, opened);
CREATE INDEX sessions_resource ON sessions (resource, opened);
`}, {sql: `
CREATE TABLE subjects ( -- whose rows a statement was shown
	name TEXT NOT NULL, key BLOB NOT NULL, session INTEGER NOT NULL, statement INTEGER NOT NULL,
	PRIMARY KEY (name, key, session, statement)
) STRICT, WITHOUT ROWID;
CREATE INDEX subjects_session ON subjects (session);
`}, {sql: `
CREATE TABLE signers ( -- of what hosts signed of their chains: see signed.go
	host TEXT NOT NULL, chain TEXT NOT NULL, key BLOB NOT NULL,
	seq INTEGER NOT NULL, since INTEGER NOT NULL, due INTEGER NOT NULL, -- ns
	PRIMARY KEY (host, chain)
) STRICT;
`}, {sql: `
CREATE INDEX sessions_refused ON sessions (opened) WHERE verdicts & 9 <> 0;
CREATE INDEX sessions_masked ON sessions (opened) WHERE verdicts & 4 <> 0;
CREATE INDEX sessions_observed ON sessions (opened) WHERE verdicts & 64424509488 <> 0; -- or explained, or with what would have been done
`}, {sql: `
CREATE TABLE vouched ( -- keys of chains that an identity vouched for: see vouched.go
	host TEXT NOT NULL, chain TEXT NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL,
	seq INTEGER NOT NULL,                            -- of the checkpoint that says it
	since INTEGER NOT NULL, used INTEGER NOT NULL,   -- ns: when it came, and the newest signature by the key
	PRIMARY KEY (host, chain)
) STRICT;
`}}

const migrationsTable = `CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL) STRICT`

// migrate brings a store to the newest schema. Unless check, where there is one,
// takes the result, nothing is changed.
func migrate(db *sql.DB, check func(*sql.Tx) error) error {
	tx, err := db.Begin() // immediate: two recorders that start together take turns
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(migrationsTable); err != nil {
		return err
	}
	if err := apply(tx, migrations); err != nil {
		return err
	}
	if check != nil {
		if err := check(tx); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// apply applies those of the migrations that the store does not have yet.
func apply(tx *sql.Tx, migrations []migration) error {
	var have int
	if err := tx.QueryRow(`SELECT coalesce(max(version), 0) FROM migrations`).Scan(&have); err != nil {
		return err
	}
	if have > len(migrations) {
		return fmt.Errorf("the store has schema %d, this program knows up to %d: use a newer one", have, len(migrations))
	}
	for v := have; v < len(migrations); v++ {
		if _, err := tx.Exec(migrations[v].sql); err != nil {
			return fmt.Errorf("migration %d: %w", v+1, err)
		}
		if then := migrations[v].then; then != nil {
			if err := then(tx); err != nil {
				return fmt.Errorf("migration %d: %w", v+1, err)
			}
		}
		if _, err := tx.Exec(`INSERT INTO migrations VALUES (?, ?)`, v+1, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	return nil
}

// current refuses a store whose schema is not the newest.
func current(db *sql.DB) error {
	var v int
	if err := db.QueryRow(`SELECT max(version) FROM migrations`).Scan(&v); err != nil || v != len(migrations) {
		return fmt.Errorf("it has schema %d, this program reads %d: start this version's sallyport-recorder once (%w)", v, len(migrations), err)
	}
	return nil
}
