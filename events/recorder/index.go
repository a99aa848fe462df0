package recorder

import (
	"sallyport.dev/sallyport/events"
)

// index notes what a new record says of its session. What cannot be decoded is
// an alarm, never an error: one host's nonsense must not stop the others.
func (a *adder) index(host string, r *events.Record) error {
	if r.Kind == 0 {
		c, err := events.ParseChunk(r.Payload)
		if err != nil {
			return a.alarm(host, r, "undecodable", err.Error())
		}
		return a.session(host, r, c.Time.UnixNano())
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
		if err := a.exec(`UPDATE sessions SET resource = ?, destination = ?, workload = ?, actor = ?, principal = ?, user = ?, db = ? WHERE host = ? AND session = ?`,
			w.Resource, w.Destination, w.Workload, w.Actor, w.Principal, w.User, w.Database, host, r.Session); err != nil {
			return err
		}
		if r.Kind == events.Login && f.Verdict != "" && f.Verdict != events.Allow.String() {
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
		return a.exec(`INSERT INTO statements (host, session, number, time, rows, status) VALUES (?,?,?,?,?,?)
			ON CONFLICT DO UPDATE SET rows = rows + excluded.rows, status = excluded.status`,
			host, r.Session, int64(f.Number), at, f.Rows, f.Status)
	}
	return nil
}

func (a *adder) session(host string, r *events.Record, at int64) error {
	return a.exec(`INSERT INTO sessions (host, session, protocol, opened) VALUES (?,?,?,?)
		ON CONFLICT DO UPDATE SET opened = min(opened, excluded.opened), protocol = iif(protocol = '', excluded.protocol, protocol)`,
		host, r.Session, r.Protocol, at)
}

func (a *adder) statement(host string, r *events.Record, f Facts) error {
	return a.exec(`INSERT INTO statements (host, session, number, time, verdict) VALUES (?,?,?,?,?)
		ON CONFLICT DO UPDATE SET verdict = excluded.verdict, time = min(time, excluded.time)`,
		host, r.Session, int64(f.Number), f.Time.UnixNano(), f.Verdict)
}
