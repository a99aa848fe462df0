package postgres

import (
	"maps"
	"slices"

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
}

// portal is a bound statement, or a cursor.
type portal struct {
	name    string
	stmt    *prepared // nil for a cursor of SQL
	st      *statement
	binds   []byte // the Bind message's body
	digests []events.Digest
	seq     uint64 // of the step that defines it
	hold    bool   // of SQL: it may outlive its transaction
}

// change is what a step does to the name space. At most one name is changed by
// a message of the protocol, any number by a statement of SQL.
type change struct {
	kind    changeKind
	stmt    *prepared // defined, or closed
	port    *portal
	name    string
	oldStmt *prepared // what the name meant before
	oldPort *portal
	sql     *statement
}

type changeKind uint8

const (
	noChange changeKind = iota
	defineStatement
	definePortal
	closeStatement
	closePortal
	bySQL
)

// maxNames bounds each kind of name of a session.
const maxNames = 50_000

// names is a session's name space: what the server has, and what it will have
// when the messages under way have been answered.
type names struct {
	statements map[string]*prepared
	portals    map[string]*portal
	unnamed    [2]underWay // of the unnamed statement and portal
	named      map[string]underWay
	unsettled  int // statements of SQL under way that change names
	spare      []*portal
}

// underWay counts the changes of one name that the server has not confirmed.
type underWay struct {
	n     int
	batch uint64 // of the latest
}

func (n *names) init() {
	n.statements, n.portals, n.named = map[string]*prepared{}, map[string]*portal{}, map[string]underWay{}
}

// settled reports whether a name can be looked up now by a message of this
// batch: no change of it is under way in another batch, where its failure
// would not stop the message.
func (n *names) settled(portal bool, name []byte, batch uint64) bool {
	if n.unsettled > 0 {
		return false
	}
	var u underWay
	switch {
	case len(name) == 0:
		u = n.unnamed[index(portal)]
	case len(n.named) > 0:
		var buf [72]byte
		u = n.named[string(append(append(buf[:0], kindByte(portal)), name...))]
	}
	return u.n == 0 || u.batch == batch
}

func index(portal bool) int {
	if portal {
		return 1
	}
	return 0
}

func kindByte(portal bool) byte { return "sp"[index(portal)] }

// mark counts a change of a name as begun (+1) or answered (-1).
func (n *names) mark(c *change, d int, batch uint64) {
	portal := c.kind == definePortal || c.kind == closePortal
	if c.name == "" {
		u := &n.unnamed[index(portal)]
		u.n += d
		u.batch = max(u.batch, batch)
		return
	}
	key := string(kindByte(portal)) + c.name
	u := n.named[key]
	u.n += d
	u.batch = max(u.batch, batch)
	if u.n == 0 {
		delete(n.named, key)
	} else {
		n.named[key] = u
	}
}

func (n *names) predict(c *change, batch, seq uint64) {
	switch c.kind {
	case noChange:
		return
	case bySQL:
		n.unsettled++
		return
	case defineStatement:
		c.oldStmt = n.statements[c.name]
		n.statements[c.name] = c.stmt
	case definePortal:
		c.oldPort = n.portals[c.name]
		c.port.seq = seq
		n.portals[c.name] = c.port
	case closeStatement:
		c.oldStmt = n.statements[c.name]
		delete(n.statements, c.name)
	case closePortal:
		c.oldPort = n.portals[c.name]
		delete(n.portals, c.name)
	}
	n.mark(c, 1, batch)
}

func (n *names) confirm(c *change) {
	switch c.kind {
	case noChange:
		return
	case bySQL:
		n.unsettled--
		n.apply(c.sql.an)
		return
	case definePortal, closePortal:
		n.recycle(c.oldPort)
	}
	n.mark(c, -1, 0)
}

func (n *names) undo(c *change) {
	switch c.kind {
	case noChange:
		return
	case bySQL:
		// Some of its statements may have run: what they name is not known any
		// more.
		n.unsettled--
		n.forget(c.sql.an)
		return
	case defineStatement, closeStatement:
		n.restore(c.name, c.oldStmt)
	case definePortal, closePortal:
		if c.oldPort != nil {
			n.portals[c.name] = c.oldPort
		} else {
			delete(n.portals, c.name)
		}
	}
	n.mark(c, -1, 0)
}

func (n *names) restore(name string, p *prepared) {
	if p != nil {
		n.statements[name] = p
	} else {
		delete(n.statements, name)
	}
}

// apply does what a text of SQL did to the names.
func (n *names) apply(an *query.Analysis) {
	n.drop(an)
	for name, a := range an.Prepares {
		if !slices.Contains(an.Deallocates, name) {
			n.statements[name] = &prepared{name: name, st: &statement{an: a}}
		}
	}
	for name, a := range an.Declares {
		if !slices.Contains(an.Deallocates, name) {
			n.portals[name] = &portal{name: name, st: &statement{an: a}, hold: true}
		}
	}
}

func (n *names) forget(an *query.Analysis) {
	n.drop(an)
	for name := range an.Prepares {
		delete(n.statements, name)
	}
	for name := range an.Declares {
		delete(n.portals, name)
	}
}

func (n *names) drop(an *query.Analysis) {
	for _, name := range an.Deallocates {
		if name == "*" {
			clear(n.statements)
			clear(n.portals)
		}
		delete(n.statements, name)
		delete(n.portals, name)
	}
}

// transactionEnded drops the portals that a transaction takes with it: those
// made before seq.
func (n *names) transactionEnded(seq uint64) {
	if len(n.portals) > 0 {
		maps.DeleteFunc(n.portals, func(_ string, p *portal) bool {
			if p.hold || p.seq >= seq {
				return false
			}
			n.recycle(p)
			return true
		})
	}
}

// recycle keeps a portal that is no longer in the name space for the next
// Bind. q.mu is held.
func (n *names) recycle(p *portal) {
	if p != nil && !p.hold && len(n.spare) < 2 && cap(p.binds) <= 4<<10 {
		n.spare = append(n.spare, p)
	}
}
