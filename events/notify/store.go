package notify

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// store is what is to be told and what was, in one file. What a method has written is
// on stable storage when it returns nil. It is safe for concurrent use; one process
// has it open.
type store struct {
	db   *sql.DB
	lock *os.File
}

// States of a task.
const (
	waiting = iota
	told
	summed  // in a Summary
	dropped // nobody needs to know any more
)

// Times are milliseconds since 1970.
const schema = `
CREATE TABLE IF NOT EXISTS requests(
	host TEXT NOT NULL, id TEXT NOT NULL, until INTEGER NOT NULL, body BLOB,
	ended INTEGER NOT NULL DEFAULT 0, finish BLOB, PRIMARY KEY(host, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks(
	id INTEGER PRIMARY KEY, host TEXT NOT NULL, request TEXT NOT NULL, ends INTEGER NOT NULL, step INTEGER NOT NULL,
	channel TEXT NOT NULL, due INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0,
	workload TEXT NOT NULL DEFAULT '', ref TEXT NOT NULL DEFAULT '', UNIQUE(host, request, channel, ends, step));
CREATE INDEX IF NOT EXISTS due ON tasks(channel, ends, state, due);
CREATE INDEX IF NOT EXISTS open ON requests(host, until) WHERE ended = 0;
CREATE INDEX IF NOT EXISTS unknown ON requests(host) WHERE body IS NULL;
CREATE INDEX IF NOT EXISTS over ON requests(until);
CREATE TABLE IF NOT EXISTS urgent(
	id INTEGER PRIMARY KEY, host TEXT NOT NULL, glass TEXT NOT NULL, what INTEGER NOT NULL, channel TEXT NOT NULL, due INTEGER NOT NULL,
	tries INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL, UNIQUE(host, glass, channel, what));
CREATE INDEX IF NOT EXISTS urgently ON urgent(channel, state, due);
CREATE TABLE IF NOT EXISTS used(id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;`

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("notify: state: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("notify: state %s: %w", dir, err)
	}
	file, err := filepath.Abs(filepath.Join(dir, "notify.db"))
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("notify: state: %w", err)
	}
	u := url.URL{Scheme: "file", Path: file, RawQuery: "_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(30000)"}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxOpenConns(1)
		_, err = db.Exec(schema)
	}
	if err == nil {
		err = mend(db)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("notify: state %s: %w", file, err)
	}
	return &store{db, lock}, nil
}

// mend adds what the state of an earlier version lacks.
func mend(db *sql.DB) error {
	var is bool
	if err := db.QueryRow(`SELECT EXISTS(SELECT 1 FROM pragma_table_info('tasks') WHERE name = 'workload')`).Scan(&is); err != nil || is {
		return err
	}
	_, err := db.Exec(`ALTER TABLE tasks ADD COLUMN workload TEXT NOT NULL DEFAULT ''`)
	return err
}

func (s *store) close() error { return errors.Join(s.db.Close(), s.lock.Close()) }

// in runs f in one transaction.
func (s *store) in(f func(tx *sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err == nil {
		if err = f(tx); err == nil {
			err = tx.Commit()
		} else {
			tx.Rollback()
		}
	}
	if err != nil {
		return &stateError{fmt.Errorf("notify: state: %w", err)}
	}
	return nil
}

// stateError: what is to be told can't be kept.
type stateError struct{ error }

func (e *stateError) Unwrap() error { return e.error }

// planned is one message of a new request.
type planned struct {
	step    int
	channel string
	due     time.Time
}

// ask keeps a new request and its messages; one that is there stays as it is.
func ask(tx *sql.Tx, r *Request, plan []planned) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	res, err := tx.Exec(`INSERT OR IGNORE INTO requests(host, id, until, body) VALUES(?, ?, ?, ?)`, r.Host, r.ID, r.Until.UnixMilli(), body)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	for _, p := range plan {
		if _, err := tx.Exec(`INSERT OR IGNORE INTO tasks(host, workload, request, ends, step, channel, due) VALUES(?, ?, ?, 0, ?, ?, ?)`,
			r.Host, r.Workload, r.ID, p.step, p.channel, p.due.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// end keeps that a request waits no more. What was not told yet is told no more, and
// who was told is told that. One that is not there is kept as ended: its beginning may
// come late.
func end(tx *sql.Tx, r *Request, e *End, now time.Time) error {
	finish, err := json.Marshal(e)
	if err != nil {
		return err
	}
	res, err := tx.Exec(`INSERT INTO requests(host, id, until, ended, finish) VALUES(?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET ended = ?4, finish = ?5 WHERE ended = 0`, r.Host, r.ID, r.Until.UnixMilli(), now.UnixMilli(), finish)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	if _, err := tx.Exec(`UPDATE tasks SET state = ? WHERE host = ? AND request = ? AND ends = 0 AND state = ?`, dropped, r.Host, r.ID, waiting); err != nil {
		return err
	}
	return endTold(tx, r.Host, r.ID, now)
}

// endTold plans that whoever was told of a request is told of its end, once a channel.
func endTold(tx *sql.Tx, host, id string, now time.Time) error {
	_, err := tx.Exec(`INSERT OR IGNORE INTO tasks(host, request, ends, step, channel, due)
		SELECT DISTINCT host, request, 1, 0, channel, ? FROM tasks WHERE host = ? AND request = ? AND ends = 0 AND state = ?`,
		now.UnixMilli(), host, id, told)
	return err
}

// task is one message that is due.
type task struct {
	id      int64
	ends    bool
	step    int
	tries   int
	request Request
	end     *End
	refs    []string
}

// nextEnd returns the end that a channel is to be told of first, nil where none is due.
func (s *store) nextEnd(channel string, now time.Time) (t *task, err error) {
	err = s.in(func(tx *sql.Tx) error {
		var body, finish []byte
		k := &task{ends: true}
		err := tx.QueryRow(`SELECT t.id, t.step, t.tries, r.body, r.finish FROM tasks t JOIN requests r ON r.host = t.host AND r.id = t.request
			WHERE t.channel = ? AND t.ends = 1 AND t.state = ? AND t.due <= ? ORDER BY t.due, t.id LIMIT 1`,
			channel, waiting, now.UnixMilli()).Scan(&k.id, &k.step, &k.tries, &body, &finish)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(body, &k.request)
		}
		if err == nil {
			err = json.Unmarshal(finish, &k.end)
		}
		if err == nil {
			k.refs, err = refs(tx, channel, &k.request)
		}
		t = k
		return err
	})
	return t, err
}

func refs(tx *sql.Tx, channel string, r *Request) (out []string, err error) {
	rows, err := tx.Query(`SELECT ref FROM tasks WHERE host = ? AND request = ? AND channel = ? AND ends = 0 AND state = ? AND ref <> ''`, r.Host, r.ID, channel, told)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var ref string
		if err := rows.Scan(&ref); err != nil {
			return nil, err
		}
		out = append(out, ref)
	}
	return out, rows.Err()
}

// tell marks a message as told, and the steps before it. Where the request has ended
// meanwhile, its end is told too.
func (s *store) tell(t *task, channel, ref string, now time.Time) error {
	return s.in(func(tx *sql.Tx) error {
		if _, err := tx.Exec(`UPDATE tasks SET state = ?, ref = ? WHERE id = ?`, told, ref, t.id); err != nil || t.ends {
			return err
		}
		r := &t.request
		if _, err := tx.Exec(`UPDATE tasks SET state = ? WHERE host = ? AND request = ? AND channel = ? AND ends = 0 AND step < ? AND state = ?`,
			dropped, r.Host, r.ID, channel, t.step, waiting); err != nil {
			return err
		}
		var ended int64
		if err := tx.QueryRow(`SELECT ended FROM requests WHERE host = ? AND id = ?`, r.Host, r.ID).Scan(&ended); err != nil || ended == 0 {
			return err
		}
		return endTold(tx, r.Host, r.ID, now)
	})
}

// later puts a message off.
func (s *store) later(t *task, until time.Time) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE tasks SET tries = tries + 1, due = ? WHERE id = ?`, until.UnixMilli(), t.id)
		return err
	})
}

// drop gives a message up.
func (s *store) drop(t *task) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE tasks SET state = ? WHERE id = ?`, dropped, t.id)
		return err
	})
}

// sum marks the messages up to one as told in a Summary.
func (s *store) sum(channel string, last int64, now time.Time) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE tasks SET state = ? WHERE channel = ? AND ends = 0 AND state = ? AND due <= ? AND id <= ?`, summed, channel, waiting, now.UnixMilli(), last)
		return err
	})
}

// soonest returns when a channel's next message is due, false where none waits.
func (s *store) soonest(channel string) (at time.Time, ok bool, err error) {
	err = s.in(func(tx *sql.Tx) error {
		var ms sql.NullInt64
		err := tx.QueryRow(`SELECT min(due) FROM (SELECT min(due) AS due FROM tasks WHERE channel = ?1 AND state = ?2 AND ends IN (0, 1)
			UNION ALL SELECT min(due) FROM urgent WHERE channel = ?1 AND state = ?2)`, channel, waiting).Scan(&ms)
		at, ok = time.UnixMilli(ms.Int64), ms.Valid
		return err
	})
	return at, ok, err
}

// find returns a request that is known, nil where it is not, and whether it waits.
func (s *store) find(host, id string, now time.Time) (r *Request, waits bool, err error) {
	err = s.in(func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRow(`SELECT body, ended = 0 AND until > ? FROM requests WHERE host = ? AND id = ? AND body IS NOT NULL`, now.UnixMilli(), host, id).Scan(&body, &waits)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			r = &Request{}
			err = json.Unmarshal(body, r)
		}
		return err
	})
	return r, waits, err
}

// unused has an id count as not used.
func (s *store) unused(id string) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM used WHERE id = ?`, id)
		return err
	})
}

// once reports whether an id was not used before.
func (s *store) once(id string, now time.Time) (fresh bool, err error) {
	err = s.in(func(tx *sql.Tx) error {
		res, err := tx.Exec(`INSERT OR IGNORE INTO used(id, at) VALUES(?, ?)`, id, now.UnixMilli())
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		fresh = n == 1
		return err
	})
	return fresh, err
}

// open counts the requests that wait.
func (s *store) open(now time.Time) (n int, err error) {
	err = s.in(func(tx *sql.Tx) error {
		return tx.QueryRow(`SELECT count(*) FROM requests WHERE ended = 0 AND until > ?`, now.UnixMilli()).Scan(&n)
	})
	return n, err
}

// count is what a host has here.
type count struct {
	open    int // requests that wait
	unknown int // ends of requests whose beginning has not come
}

func countOf(tx *sql.Tx, host string, now time.Time) (*count, error) {
	c := &count{}
	err := tx.QueryRow(`SELECT count(*) FROM requests WHERE host = ? AND ended = 0 AND until > ?`, host, now.UnixMilli()).Scan(&c.open)
	if err == nil {
		err = tx.QueryRow(`SELECT count(*) FROM requests WHERE host = ? AND body IS NULL`, host).Scan(&c.unknown)
	}
	return c, err
}

func isKnown(tx *sql.Tx, r *Request) (is bool, err error) {
	err = tx.QueryRow(`SELECT EXISTS(SELECT 1 FROM requests WHERE host = ? AND id = ?)`, r.Host, r.ID).Scan(&is)
	return is, err
}

// kept is how long a request is known after its end, and usedFor an id: longer than
// its signature is good.
const (
	kept    = 24 * time.Hour
	usedFor = time.Hour
)

// forget drops what is over.
func (s *store) forget(now time.Time) error {
	return s.in(func(tx *sql.Tx) error {
		for _, q := range []string{
			`DELETE FROM tasks WHERE (host, request) IN (SELECT host, id FROM requests WHERE until < ?1)`,
			`DELETE FROM requests WHERE until < ?1`,
			`DELETE FROM urgent WHERE state <> 0 AND due < ?1`,
		} {
			if _, err := tx.Exec(q, now.Add(-kept).UnixMilli()); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM used WHERE at < ?`, now.Add(-usedFor).UnixMilli())
		return err
	})
}

// overOf are the requests that nobody ended though their time was over before.
func overOf(tx *sql.Tx, before time.Time) (out []Request, err error) {
	rows, err := tx.Query(`SELECT body FROM requests WHERE ended = 0 AND until < ? AND body IS NOT NULL`, before.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body []byte
		var r Request
		if err = rows.Scan(&body); err == nil {
			err = json.Unmarshal(body, &r)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}
