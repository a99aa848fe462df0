package recorder

import (
	"errors"

	"sallyport.dev/sallyport/events"
)

// index notes what a new record says of its session. What cannot be decoded is
// an alarm, never an error: one host's nonsense must not stop the others.
func (a *adder) index(host string, r *events.Record) error {
	if r.Kind == 0 {
		var err error
		if a.chunks, err = events.ParseChunks(a.chunks[:0], r.Payload); err == nil && r.Session == "" {
			err = errors.New("a piece of a transcript that belongs to no session")
		}
		if err != nil {
			return a.alarm(host, r, "undecodable", err.Error())
		}
		return a.session(host, r, a.chunks[0].Time.UnixNano())
	}
	f, err := decode(r)
	if err != nil {
		return a.alarm(host, r, "undecodable", err.Error())
	}
	if r.Session == "" {
		return nil
	}
	at := f.Time.UnixNano()
	if err := a.session(host, r, at); err != nil {
		return err
	}
	w := &f.Who
	switch r.Kind {
	case events.SessionOpen, events.Login:
		// The one may come after the other, and does not know as much.
		if err := a.exec(`UPDATE sessions SET resource = iif(?1 = '', resource, ?1), destination = iif(?2 = '', destination, ?2),
			workload = iif(?3 = '', workload, ?3), actor = iif(?4 = '', actor, ?4), principal = iif(?5 = '', principal, ?5),
			user = iif(?6 = '', user, ?6), db = iif(?7 = '', db, ?7) WHERE host = ?8 AND session = ?9`,
			w.Resource, w.Destination, w.Workload, w.Actor, w.Principal, w.User, w.Database, host, r.Session); err != nil {
			return err
		}
		if r.Kind == events.Login && f.Verdict != "" && f.Verdict != events.Allow.String() && f.Verdict != events.Observed.String() {
			// It ends with that. Where it had begun, its close comes yet.
			if err := a.exec(`UPDATE sessions SET closed = ?, status = 'refused' WHERE host = ? AND session = ?`, at, host, r.Session); err != nil {
				return err
			}
			return a.statement(host, r, f)
		}
	case events.SessionClose:
		return a.exec(`UPDATE sessions SET closed = ?, status = ? WHERE host = ? AND session = ?`, at, f.Status, host, r.Session)
	case events.Statement, events.Block:
		return a.statement(host, r, f)
	case events.Response:
		return a.exec(`INSERT INTO statements (host, session, number, time, rows, status) VALUES (?1,?2,?3,?4,?5,?6)
			ON CONFLICT DO UPDATE SET rows = min(rows + excluded.rows, ?7), status = excluded.status`,
			host, r.Session, int64(f.Number), at, count(f.Rows), f.Status, int64(maxCount))
	}
	return nil
}

// maxCount is more rows or bytes than a session can have, and little enough
// that sums stay whole numbers.
const maxCount = 1 << 53

// count keeps what a host claims within what can be.
func count(n int64) int64 { return min(max(n, 0), maxCount) }

// session notes that a session was there at a time.
func (a *adder) session(host string, r *events.Record, at int64) error {
	key := [3]string{host, r.Session, r.Protocol}
	if t, ok := a.opened[key]; ok && t <= at {
		return nil
	}
	a.opened[key] = at
	return a.exec(`INSERT INTO sessions (host, session, protocol, opened) VALUES (?,?,?,?)
		ON CONFLICT DO UPDATE SET opened = min(opened, excluded.opened), protocol = iif(protocol = '', excluded.protocol, protocol)`,
		host, r.Session, r.Protocol, at)
}

func (a *adder) statement(host string, r *events.Record, f Facts) error {
	return a.exec(`INSERT INTO statements (host, session, number, time, verdict) VALUES (?,?,?,?,?)
		ON CONFLICT DO UPDATE SET verdict = excluded.verdict, time = min(time, excluded.time)`,
		host, r.Session, int64(f.Number), f.Time.UnixNano(), f.Verdict)
}
