package recorder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/seal"
)

// Session is a line of the list of sessions.
type Session struct {
	Host string `json:"host"`
	ID   string `json:"session"`
	Identity
	Opened     time.Time  `json:"opened"`
	Closed     *time.Time `json:"closed,omitempty"`
	Status     string     `json:"status,omitempty"`
	Statements int        `json:"statements"`
	Masked     int        `json:"masked"`  // statements
	Refused    int        `json:"refused"` // blocked or denied
	Rows       int64      `json:"rows"`
	// Sightings are the statements that were shown rows of the subjects that were
	// asked for; nil where none were.
	Sightings []uint64 `json:"sightings,omitempty"`

	row int64 // its id in the store
}

// Statement is one request of a session, with what became of it.
type Statement struct {
	Facts
	Exact string   `json:"statement,omitempty"` // as the client sent it
	Binds []string `json:"binds,omitempty"`     // in the protocol's own form
	// RecordedOnly: it was interrupted. Rows and bytes are what is recorded of its
	// result, and whether more of it was shown is not known.
	RecordedOnly bool `json:"recorded_only,omitempty"`
}

// Detail is all that the events and the transcript say of a session, results
// apart.
type Detail struct {
	Session
	Requests []Statement `json:"requests"`
	Events   []Facts     `json:"events"` // of the session itself
	// Withheld says why pieces of the transcript are not there, each reason once.
	Withheld []string `json:"withheld,omitempty"`
}

const sessionColumns = `SELECT id, host, session, protocol, resource, destination, workload, actor, principal, "user", db,
	opened, closed, status, statements, masked, refused, rows FROM sessions `

func (s *DB) sessions(ctx context.Context, rest string, args ...any) ([]Session, error) {
	rows, err := s.db.QueryContext(ctx, sessionColumns+rest, args...)
	if err != nil {
		return nil, fmt.Errorf("recorder: sessions: %w", err)
	}
	defer rows.Close()
	out := []Session{}
	for rows.Next() {
		var x Session
		var opened, closed int64
		if err := rows.Scan(&x.row, &x.Host, &x.ID, &x.Protocol, &x.Resource, &x.Destination, &x.Workload, &x.Actor, &x.Principal, &x.User, &x.Database,
			&opened, &closed, &x.Status, &x.Statements, &x.Masked, &x.Refused, &x.Rows); err != nil {
			return nil, fmt.Errorf("recorder: sessions: %w", err)
		}
		x.Opened = unixNano(opened)
		if closed != 0 {
			t := unixNano(closed)
			x.Closed = &t
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

// Find returns the one session whose id is, or begins with, id, which may stand behind
// its host: HOST/ID.
func (s *DB) Find(ctx context.Context, id string) (Session, error) {
	found, err := s.sessions(ctx, "WHERE session = ?1 OR substr(session, 1, length(?1)) = ?1 ORDER BY session <> ?1 LIMIT 3", id)
	if err == nil && strings.Contains(id, "/") { // a host names its sessions as it likes: what says both is meant first
		var of []Session
		of, err = s.sessions(ctx, "WHERE host || '/' || session = ?1 OR substr(host || '/' || session, 1, length(?1)) = ?1 ORDER BY host || '/' || session <> ?1 LIMIT 3", id)
		switch {
		case err == nil && len(of) > 0 && (len(of) == 1 || of[0].Host+"/"+of[0].ID == id && of[1].Host+"/"+of[1].ID != id):
			return of[0], nil
		case len(of) > 0:
			found = of
		}
	}
	switch {
	case err != nil:
		return Session{}, err
	case id == "" || len(found) == 0:
		return Session{}, fmt.Errorf("no session %q is in the store (list them with: sallyport sessions ls)", id)
	case len(found) > 1 && (found[0].ID != id || found[1].ID == id):
		return Session{}, fmt.Errorf("%q names several sessions, among them %s and %s of host %s: give more of the id, or HOST/ID", id, found[0].ID, found[1].ID, found[1].Host)
	}
	return found[0], nil
}

// Who returns who held a session and where, as told once the server's door was
// open, or as far as it got.
func (s *DB) Who(ctx context.Context, x Session) (who Identity, err error) {
	for r, err := range s.of(ctx, x) {
		if err != nil && !IsWithheld(err) {
			return who, fmt.Errorf("recorder: session %s: %w", x.ID, err)
		}
		if r.Kind == 0 {
			continue
		}
		f, err := decode(&r)
		if err != nil {
			return who, fmt.Errorf("recorder: session %s, record %d: %w", x.ID, r.Seq, err)
		}
		if who = f.Who; who.ServerFrom.IsValid() {
			break
		}
	}
	return who, nil
}

// Chunks gives a session's transcript in order.
func (s *DB) Chunks(ctx context.Context, x Session) iter.Seq2[events.Chunk, error] {
	return chunksOf(s.of(ctx, x))
}

func chunksOf(records iter.Seq2[events.Record, error]) iter.Seq2[events.Chunk, error] {
	return func(yield func(events.Chunk, error) bool) {
		for r, err := range records {
			var cs []events.Chunk
			if err == nil {
				if r.Kind != 0 {
					continue
				}
				cs, err = events.ParseChunks(nil, r.Payload)
			}
			for _, c := range cs {
				if !yield(c, nil) {
					return
				}
			}
			if err != nil {
				yield(events.Chunk{}, err)
				return
			}
		}
	}
}

// of gives a session's records, in the order of their chains.
func (s *DB) of(ctx context.Context, x Session) iter.Seq2[events.Record, error] {
	return s.behind(ctx, x, nil, s.opener(x), blocks)
}

// opener opens what the session's host has sealed.
func (s *DB) opener(x Session) *seal.Opener {
	if s.apart == nil {
		return seal.NewOpener(x.Host, x.ID, nil)
	}
	return seal.NewOpener(x.Host, x.ID, s.apart.Identities)
}

// behind gives those of a session's records that are behind the last that was
// seen of their chain. What their host has sealed is opened, by one that was given those
// before.
func (s *DB) behind(ctx context.Context, x Session, seen map[string]uint64, open *seal.Opener, blocks blockReader) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		spans, err := s.spans(ctx, x)
		if err != nil {
			yield(events.Record{}, err)
			return
		}
		var read span // the block that was read last
		for _, p := range spans {
			from := max(p.first, seen[p.chain]+1)
			if read.chain == p.chain {
				from = max(from, read.last+1)
			}
			for b, err := range blocks(ctx, s.db, x.Host, p.chain, int64(from), int64(p.last)) {
				if err != nil {
					yield(events.Record{}, err)
					return
				}
				if !b.placed() {
					continue // nothing of the chain: sallyport verify names it
				}
				read = span{p.chain, uint64(b.first), uint64(b.last)}
				if !b.whole() {
					yield(events.Record{}, fmt.Errorf("block of record %d: %w (sallyport verify says more)", b.first, errBlock))
					return
				}
				s.apart.fetch(ctx, x.Host, p.chain, &b, func(session string) bool { return session == x.ID })
				if err := b.tell(ctx, s.db, x.Host, p.chain); err != nil {
					yield(events.Record{}, err)
					return
				}
				for i := range b.records {
					if b.records[i].Session != x.ID || b.records[i].Seq < from {
						continue
					}
					r := b.records[i] // others may read the block
					err := b.of(&r)
					if w := (*Withheld)(nil); errors.As(err, &w) {
						open.Missed(w.Err)
					}
					if r.Kind == 0 && err == nil {
						var more bool
						if r.Payload, more, err = open.Payload(r.Payload); err != nil {
							err = &Withheld{x.ID, err}
						} else if !more {
							continue // a key alone
						}
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}
}

// spans are those of a session; none where it is not listed.
func (s *DB) spans(ctx context.Context, x Session) ([]span, error) {
	return spansWhere(ctx, s.db, `(SELECT id FROM sessions WHERE host = ? AND session = ?)`, x.Host, x.ID)
}

// spansOf are those of a session's row.
func spansOf(ctx context.Context, q querier, id int64) ([]span, error) {
	return spansWhere(ctx, q, `?`, id)
}

func spansWhere(ctx context.Context, q querier, session string, args ...any) ([]span, error) {
	rows, err := q.QueryContext(ctx, `SELECT chain, first, last FROM spans WHERE session = `+session+` ORDER BY chain, first`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []span
	for rows.Next() {
		var p span
		if err := rows.Scan(&p.chain, &p.first, &p.last); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}
