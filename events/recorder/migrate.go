package recorder

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// pack1 takes what a store of schema 1 holds, a row for each record, over into
// blocks, as it is: what was altered stays so, and is found by Verify.
func pack1(tx *sql.Tx) error {
	a := newAdder(context.Background(), tx, new(ocsf.Glancer), time.Now())
	defer writers.Put(a.w)
	for _, move := range []func(*adder) error{moveRecords, moveWaiting} {
		if err := move(a); err != nil {
			return err
		}
	}
	// What was listed and has no records stays in the list, as it was.
	_, err := tx.Exec(`INSERT INTO sessions (host, session, protocol, resource, destination, workload, actor, principal, user, db, opened, closed, status,
			statements, masked, refused, rows, verdicts, number, verdict)
		SELECT host, session, protocol, resource, destination, workload, actor, principal, user, db, opened, closed, status, 0, 0, 0, 0, 0, 0, ''
		FROM sessions1 o WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.host = o.host AND s.session = o.session)`)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`DROP TABLE records1; DROP TABLE ahead1; DROP TABLE sessions1; DROP TABLE statements`)
	return err
}

// moveRecords makes blocks of rows, and notes where the sessions' are.
func moveRecords(a *adder) error {
	rows, err := a.tx.Query(`SELECT host, chain, seq, kind, protocol, session, prev, hash, packed, payload FROM records1 ORDER BY host, chain, seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	c, n := &chainState{}, 0
	for rows.Next() {
		var host string
		var r events.Record
		var prev, hash []byte
		var packed bool
		if err := rows.Scan(&host, &r.Chain, &r.Seq, &r.Kind, &r.Protocol, &r.Session, &prev, &hash, &packed, &r.Payload); err != nil {
			return err
		}
		copy(r.Prev[:], prev)
		copy(r.Hash[:], hash)
		if packed {
			// What cannot be unpacked was changed; its hash will not match.
			_, d := codec()
			if b, err := d.DecodeAll(r.Payload, nil); err == nil {
				r.Payload = b
			}
		}
		if n++; c.Host != host || c.Chain != r.Chain || n%blockRecords == 0 {
			if err := a.moved(c); err != nil {
				return err
			}
			c = &chainState{Head: Head{Host: host, Chain: r.Chain}}
		}
		if k := len(c.next); k > 0 && (c.next[k-1].Seq+1 != r.Seq || c.size+len(r.Payload) > blockBytes) {
			if err := a.flush(c); err != nil {
				return err
			}
		}
		c.next, c.size = append(c.next, r), c.size+len(r.Payload)
		if r.Session == "" {
			continue
		}
		s, err := a.session(host, r.Session)
		if err != nil {
			return err
		}
		s.at(r.Chain, r.Seq)
		if f, err := a.look.facts(&r); err == nil {
			s.note(&r, &f)
		} else if s.opened == 0 {
			s.opened = a.now.UnixNano()
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return a.moved(c)
}

// moved stores what has come together.
func (a *adder) moved(c *chainState) error {
	if err := a.flush(c); err != nil {
		return err
	}
	if err := a.keep(a.sessions); err != nil {
		return err
	}
	clear(a.sessions)
	a.latest = nil
	return nil
}

func moveWaiting(a *adder) error {
	rows, err := a.tx.Query(`SELECT host, chain, seq, kind, protocol, session, prev, hash, payload, arrived FROM ahead1 ORDER BY host, chain, seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	c := &chainState{}
	for rows.Next() {
		var host string
		var w waiting
		var prev, hash []byte
		if err := rows.Scan(&host, &w.Chain, &w.Seq, &w.Kind, &w.Protocol, &w.Session, &prev, &hash, &w.Payload, &w.arrived); err != nil {
			return fmt.Errorf("ahead: %w", err)
		}
		copy(w.Prev[:], prev)
		copy(w.Hash[:], hash)
		if c.Host != host || c.Chain != w.Chain || len(c.wait) >= blockRecords {
			if err := a.keepWaiting(c); err != nil {
				return err
			}
			c = &chainState{Head: Head{Host: host, Chain: w.Chain}}
		}
		c.wait = append(c.wait, w)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return a.keepWaiting(c)
}
