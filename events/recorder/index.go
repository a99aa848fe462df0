package recorder

import (
	"database/sql"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// sessionState is a row of sessions, and where its records are.
type sessionState struct {
	id            int64 // 0: new
	host, session string
	protocol      string
	who           Identity // those that have a column
	opened        int64    // ns
	closed        int64
	status        string

	statements, masked, refused, rows int64
	verdicts                          int64
	number                            uint64 // of the latest statement that was decided
	verdict                           string

	spans []span
	seen  map[seen]bool // whose rows it was shown; not stored yet
	moved bool
}

// span is a part of a chain.
type span struct {
	chain       string
	first, last uint64
}

// index notes what a new record says of its session. What cannot be decoded is
// an alarm, never an error: one host's nonsense must not stop the others.
func (a *adder) index(c *chainState, r *events.Record) error {
	if err := a.signature(c, r); err != nil {
		return err
	}
	f, err := a.facts(r)
	if err != nil {
		if err := a.alarm(c.Host, r, "undecodable", err.Error()); err != nil || r.Session == "" {
			return err
		}
	}
	if r.Session == "" {
		return nil
	}
	s, err2 := a.session(c.Host, r.Session)
	if err2 != nil {
		return err2
	}
	s.at(c.Chain, r.Seq)
	switch {
	case err == nil:
		if what := s.relabels(r, &f); what != "" {
			if err := a.alarm(c.Host, r, "relabelled", what); err != nil {
				return err
			}
		}
		s.note(r, &f)
	case s.opened == 0:
		s.opened = a.now.UnixNano()
	}
	return nil
}

// facts are those of a record, or what was noted of one that it can't read again.
func (a *adder) facts(r *events.Record) (Facts, error) {
	if w, ok := a.waiting[r.Hash]; ok {
		return Facts{Time: unixNano(w.time)}, nil
	}
	return a.look.facts(r)
}

// looker reads what the index takes from records.
type looker struct {
	glance *ocsf.Glancer
	chunks []events.Chunk // of a record
}

func (l *looker) facts(r *events.Record) (f Facts, err error) {
	if r.Kind != 0 {
		return facts(l.glance, r)
	}
	if l.chunks, err = events.ParseChunks(l.chunks[:0], r.Payload); err == nil && r.Session == "" {
		err = errors.New("a piece of a transcript that belongs to no session")
	}
	if err == nil {
		f.Time = l.chunks[0].Time
	}
	return f, err
}

// facts reads an event: the little that is needed of those that there are most
// of, else all of it.
func facts(glance *ocsf.Glancer, r *events.Record) (Facts, error) {
	switch r.Kind {
	case events.Statement, events.Block, events.Response:
		g, err := glance.Glance(r.Session, r.Payload)
		if err != nil || g.Kind != r.Kind.String() {
			return decode(r) // which says what is wrong
		}
		if g.Named {
			return decode(r)
		}
		return Facts{Time: g.Time, Number: g.Number, Verdict: g.Verdict, Would: g.Would, Rows: g.Rows}, nil
	}
	return decode(r)
}

// session finds or makes the state of a record's session.
func (a *adder) session(host, id string) (*sessionState, error) {
	if s := a.latest; s != nil && s.session == id && s.host == host {
		return s, nil
	}
	key := [2]string{host, id}
	s := a.sessions[key]
	if s == nil {
		if s = a.foreseen[key]; s == nil {
			s = &sessionState{host: host, session: id}
			if err := s.scan(func(to ...any) error { return a.one(sessionRow, []any{host, id}, to...) }); err != nil && !errors.Is(err, sql.ErrNoRows) {
				return nil, err
			}
		}
		a.sessions[key] = s
	}
	a.latest = s
	return s, nil
}

// sessionValues are the columns that scan reads.
const sessionValues = `id, protocol, resource, destination, workload, actor, principal, "user", db, opened, closed, status,
	statements, masked, refused, rows, verdicts, number, verdict`

const sessionRow = `SELECT ` + sessionValues + ` FROM sessions WHERE host = ? AND session = ?`

// scan reads sessionValues.
func (s *sessionState) scan(scan func(...any) error) error {
	w := &s.who
	// A host may have any number of 64 bits; a database keeps it with a sign.
	var number int64
	err := scan(&s.id, &s.protocol, &w.Resource, &w.Destination, &w.Workload, &w.Actor, &w.Principal, &w.User, &w.Database, &s.opened, &s.closed, &s.status,
		&s.statements, &s.masked, &s.refused, &s.rows, &s.verdicts, &number, &s.verdict)
	s.number = uint64(number)
	return err
}

// at notes where one of the session's records is.
func (s *sessionState) at(chain string, seq uint64) {
	for i := range s.spans {
		if p := &s.spans[i]; p.chain == chain {
			p.first, p.last = min(p.first, seq), max(p.last, seq)
			return
		}
	}
	s.spans = append(s.spans, span{chain, seq, seq})
}

// relabels says what a record says anew, behind the close, of who held the session and
// with what: rules and holds go by that.
func (s *sessionState) relabels(r *events.Record, f *Facts) string {
	if s.closed == 0 || r.Kind != events.SessionOpen && r.Kind != events.Login {
		return ""
	}
	w := &f.Who
	for _, p := range [...]struct{ name, was, is string }{
		{"resource", s.who.Resource, w.Resource},
		{"workload", s.who.Workload, w.Workload},
		{"actor", s.who.Actor, w.Actor},
		{"principal", s.who.Principal, w.Principal},
	} {
		if p.was != "" && p.is != "" && p.was != p.is {
			return fmt.Sprintf("it names another %s of session %s, which is closed", p.name, s.session)
		}
	}
	return ""
}

// note takes in what a record says.
func (s *sessionState) note(r *events.Record, f *Facts) {
	at := max(f.Time.UnixNano(), 1) // 0 is for none
	if s.opened == 0 || at < s.opened {
		s.opened, s.moved = at, true
	}
	if s.protocol == "" && r.Protocol != "" {
		s.protocol, s.moved = r.Protocol, true
	}
	switch r.Kind {
	case events.SessionOpen, events.Login:
		// The one may come after the other, and does not know as much.
		w := &f.Who
		for _, p := range [...]struct{ to, from *string }{
			{&s.who.Resource, &w.Resource},
			{&s.who.Destination, &w.Destination},
			{&s.who.Workload, &w.Workload},
			{&s.who.Actor, &w.Actor},
			{&s.who.Principal, &w.Principal},
			{&s.who.User, &w.User},
			{&s.who.Database, &w.Database},
		} {
			if *p.from != "" {
				*p.to = *p.from
			}
		}
		if r.Kind == events.Login && f.Verdict != "" && f.Verdict != events.Allow.String() && f.Verdict != events.Observed.String() {
			// It ends with that. Where it had begun, its close comes yet.
			s.closed, s.status = at, "refused"
			s.decided(f)
		}
	case events.SessionClose:
		s.closed, s.status = at, f.Status
	case events.Statement, events.Block:
		s.decided(f)
		s.rows = min(s.rows+count(f.Rows), maxCount) // of one with its outcome
		s.sees(f)
	case events.Response:
		s.rows = min(s.rows+count(f.Rows), maxCount)
		s.sees(f)
	case events.Subjects:
		s.sees(f)
	default:
		return
	}
	s.moved = true
}

// decided counts a statement. What was decided again counts as the last time.
func (s *sessionState) decided(f *Facts) {
	if f.Number != 0 && f.Number == s.number {
		s.count(s.verdict, -1)
	} else if f.Number != 0 {
		s.statements++
	}
	s.count(f.Verdict, 1)
	s.verdicts |= verdictBit(f.Verdict) | verdictBit(f.Would)
	if f.Number >= s.number { // else it came late
		s.number, s.verdict = f.Number, f.Verdict
	}
}

func (s *sessionState) count(verdict string, n int64) {
	switch verdict {
	case events.Mask.String():
		s.masked += n
	case events.Blocked.String(), events.Deny.String():
		s.refused += n
	}
}

// verdictBit is the place of a verdict, or of what would have been one, in a set of
// them; 0 for none that is known.
func verdictBit(verdict string) int64 {
	for v := events.Deny; v <= events.Observed; v++ {
		if v.String() == verdict {
			return 1 << v
		}
	}
	for w := events.WouldBlock; w.String() != ""; w++ {
		if w.String() == verdict {
			return 1 << (31 + w)
		}
	}
	return 0
}

// maxCount is more rows or bytes than a session can have, and little enough
// that sums stay whole numbers.
const maxCount = 1 << 53

// count keeps what a host claims within what can be.
func count(n int64) int64 { return min(max(n, 0), maxCount) }
