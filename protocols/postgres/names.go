package postgres

import (
	"maps"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// prepared is a prepared statement of the session. Immutable once it is in
// the name space.
type prepared struct {
	name  string
	sql   string   // as the client sent it
	types []uint32 // that Parse declared
	st    *statement
	sent  string // what the server was sent: sql, or what was generated; "" for SQL's PREPARE

	digests []events.Digest  // of the literals in sql
	record  policy.Recording // what was decided when it was prepared

	explained bool     // the server has a carrier in its place; sent is empty
	params    []uint32 // then: what the client is told of its parameters
	switches  *switching

	origin    string      // of SQL's PREPARE: the text that it stands in, where something may have to be approved
	justifies *justifying // it says why; sql is what the server has
	says      *says       // it says for whom the next statements are; sql is what the server has
}

// portal is a bound statement, or a cursor.
type portal struct {
	name    string
	stmt    *prepared // nil for a cursor of SQL
	st      *statement
	binds   []byte // the Bind message's body
	digests []events.Digest
	number  uint64           // of the event that Bind left; 0 once it was executed
	started time.Time        // then
	hold    bool             // of SQL: it may outlive its transaction
	looked  bool             // what it looks up was counted by Bind
	record  policy.Recording // of one that is explained
	tally   *tally           // of what was taken from it; nil where nothing limits that yet
	who     string           // whom it was opened for; see Session.Principal
	origin  string           // of a cursor of SQL: as prepared has it
	cover   *policy.Cover    // approvals that it was opened under; nil: none

	means []*query.Analysis // of a text that is Local: what it named when it was bound
}

// change is what a step does to the name space: it gives one name of the
// protocol a meaning, or none (stmt or port is nil), or it is a text of SQL.
type change struct {
	kind changeKind
	name string
	stmt *prepared
	port *portal
	sql  *statement
	who  string // whom cursors of SQL are opened for
	from *tally // of a text that takes rows from cursors that it opens

	cover *policy.Cover // that cursors of SQL are opened under
	text  string        // of SQL, where something may have to be approved
}

type changeKind uint8

const (
	noChange changeKind = iota
	ofStatement
	ofPortal
	bySQL
)

// maxNames bounds each kind of name of a session, maxHeld what is kept of them,
// in bytes.
const (
	maxNames = 50_000
	maxHeld  = 64 << 20
)

// maxName is the part of a name that the server looks at, in bytes
// (NAMEDATALEN-1): two names that agree in it are one.
const maxName = 63

// names is a session's name space.
type names struct {
	statements space[prepared, *prepared]
	portals    space[portal, *portal]
	unsettled  int // texts of SQL under way that change names
	spare      []*portal
}

// size is about what is kept of it, in bytes.
func (p *prepared) size() int {
	switch {
	case p == nil:
		return 0
	case p.says != nil:
		return len(p.sql) + len(p.says.token)
	case p.st.an.SQL == "": // sent is the same
		return len(p.sql) + len(p.origin) + 4*len(p.types)
	}
	return len(p.sql) + len(p.origin) + len(p.sent) + 4*len(p.types)
}

func (p *portal) size() int {
	if p == nil {
		return 0
	}
	return cap(p.binds) + len(p.origin)
}

// space is one kind of names.
type space[T any, P sized[T]] struct {
	unnamed slot[T]
	named   map[string]*slot[T]
	held    int // bytes, of what names stand for and will stand for
}

type sized[T any] interface {
	*T
	size() int
}

// slot is what one name stands for.
type slot[T any] struct {
	now   *T     // as far as the server has answered; nil: nothing
	next  *T     // when it has answered all: while n > 0
	n     int    // changes under way
	batch uint64 // of the latest of them
}

func (s *slot[T]) value() *T {
	if s.n > 0 {
		return s.next
	}
	return s.now
}

// find returns a name's slot, nil when it stands for nothing.
func (s *space[T, P]) find(name []byte) *slot[T] {
	if len(name) == 0 {
		return &s.unnamed
	}
	return s.named[string(name[:min(len(name), maxName)])]
}

// at returns a name's slot to change it.
func (s *space[T, P]) at(name string) *slot[T] {
	if name == "" {
		return &s.unnamed
	}
	name = name[:min(len(name), maxName)]
	sl := s.named[name]
	if sl == nil {
		sl = new(slot[T])
		s.named[name] = sl
	}
	return sl
}

// tidy forgets a name that stands for nothing.
func (s *space[T, P]) tidy(name string, sl *slot[T]) {
	if name != "" && sl.now == nil && sl.n == 0 {
		delete(s.named, name[:min(len(name), maxName)])
	}
}

// set says what a name stands for on the server.
func (s *space[T, P]) set(name string, v *T) {
	sl := s.at(name)
	s.held += P(v).size() - P(sl.now).size()
	sl.now = v
	s.tidy(name, sl)
}

// clear says that on the server no name stands for anything.
func (s *space[T, P]) clear() {
	s.set("", nil)
	maps.DeleteFunc(s.named, func(_ string, sl *slot[T]) bool {
		s.held -= P(sl.now).size()
		sl.now = nil
		return sl.n == 0
	})
}

// predict says what a name will stand for when the server has answered.
func (s *space[T, P]) predict(name string, v *T, batch uint64) {
	sl := s.at(name)
	sl.next, sl.batch = v, batch
	sl.n++
	s.held += P(v).size()
}

// confirm says that the oldest change of a name was made, and returns what it
// stood for before.
func (s *space[T, P]) confirm(name string, v *T) (before *T) {
	sl := s.at(name)
	before, sl.now = sl.now, v
	sl.n--
	s.held -= P(before).size()
	s.tidy(name, sl)
	return before
}

// undo says that the oldest change of a name was not made. Where that was the
// latest as well the name keeps its meaning; where later ones are under way
// they are of other batches, and stand.
func (s *space[T, P]) undo(name string, v *T) {
	sl := s.at(name)
	sl.n--
	s.held -= P(v).size()
	s.tidy(name, sl)
}

// settled reports whether a name's meaning can be relied on by a message of
// this batch: no change is under way whose failure would not stop the message.
func (sl *slot[T]) settled(batch uint64) bool { return sl == nil || sl.n == 0 || sl.batch == batch }

func (n *names) init() {
	n.statements.named, n.portals.named = map[string]*slot[prepared]{}, map[string]*slot[portal]{}
}

// crowded reports whether there are too many names.
func (n *names) crowded() bool {
	return len(n.statements.named) >= maxNames || len(n.portals.named) >= maxNames || n.statements.held+n.portals.held > maxHeld
}

func (n *names) predict(c *change, batch uint64) {
	switch c.kind {
	case ofStatement:
		n.statements.predict(c.name, c.stmt, batch)
	case ofPortal:
		n.portals.predict(c.name, c.port, batch)
	case bySQL:
		n.unsettled++
	}
}

func (n *names) confirm(c *change) {
	switch c.kind {
	case ofStatement:
		n.statements.confirm(c.name, c.stmt)
	case ofPortal:
		n.recycle(n.portals.confirm(c.name, c.port))
	case bySQL:
		n.unsettled--
		n.apply(c)
	}
}

// undo takes a change back that the server did not make: ran says that it
// tried and failed, otherwise it skipped the message.
func (n *names) undo(c *change, ran bool) {
	switch c.kind {
	case ofStatement:
		n.statements.undo(c.name, c.stmt)
	case ofPortal:
		n.portals.undo(c.name, c.port)
	case bySQL:
		n.unsettled--
		if ran && len(c.sql.an.Commands) > 1 {
			n.forget(c.sql.an) // some of its statements may have run
		}
	}
}

// apply does what a text of SQL did to the names.
func (n *names) apply(c *change) {
	an := c.sql.an
	n.drop(an)
	for name, a := range an.Prepares {
		n.statements.set(name, &prepared{name: name, st: &statement{an: a}, origin: c.text})
	}
	for name, a := range an.Declares {
		n.portals.set(name, &portal{name: name, st: &statement{an: a}, hold: true, who: c.who, tally: c.from, cover: c.cover, origin: c.text})
	}
}

// forget makes the names of a text unknown.
func (n *names) forget(an *query.Analysis) {
	n.drop(an)
	for name := range an.Prepares {
		n.statements.set(name, nil)
	}
	for name := range an.Declares {
		n.portals.set(name, nil)
	}
}

func (n *names) drop(an *query.Analysis) {
	for _, name := range an.Deallocates {
		if name == "*" {
			n.statements.clear()
		} else {
			n.statements.set(name, nil)
		}
	}
	for _, name := range an.Closes {
		if name == "*" {
			n.portals.clear()
		} else {
			n.portals.set(name, nil)
		}
	}
}

// transactionEnded drops the portals that a transaction takes with it.
func (n *names) transactionEnded() {
	n.recycle(n.portals.unnamed.now)
	n.portals.set("", nil)
	if len(n.portals.named) == 0 {
		return
	}
	maps.DeleteFunc(n.portals.named, func(_ string, sl *slot[portal]) bool {
		if sl.now != nil && !sl.now.hold {
			n.recycle(sl.now)
			n.portals.held -= sl.now.size()
			sl.now = nil
		}
		return sl.now == nil && sl.n == 0
	})
}

// recycle keeps a portal that is no longer in the name space for the next
// Bind. q.mu is held.
func (n *names) recycle(p *portal) {
	if p != nil && !p.hold && len(n.spare) < 2 && cap(p.binds) <= 4<<10 {
		n.spare = append(n.spare, p)
	}
}
