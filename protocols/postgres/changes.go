package postgres

import (
	"sync"
	"sync/atomic"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// changes is how sessions of one database tell each other that its catalog may have
// changed. What one of them has defined the others know before its client is told
// that it did: from then on no statement is decided by what was there before.
type changes struct {
	n atomic.Uint64 // answers that may have told of a change so far

	mu    sync.Mutex
	base  query.Analyzer // that was looked at last
	seen  uint64         // how many of n it knows of
	users int            // sessions that use an analyzer
}

type databaseKey struct{ resource, database string }

// changesOf returns what the sessions of a database share. It is asked once a server
// has taken a login: these are databases that there are, and it is kept for good,
// since what was defined by the last session the next one is to know of.
func (p *Protocol) changesOf(resource, database string) *changes {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := databaseKey{resource, database}
	ch := p.changes[key]
	if ch == nil {
		ch = &changes{}
		p.changes[key] = ch
	}
	return ch
}

// use says that the session has an analyzer, until leave.
func (c *conn) use() {
	if ch := c.changes; ch != nil {
		ch.mu.Lock()
		ch.users++
		ch.mu.Unlock()
	}
}

func (c *conn) leave() {
	if ch := c.changes; ch != nil {
		ch.mu.Lock()
		if ch.users--; ch.users == 0 {
			ch.base = nil // its snapshot may be large
		}
		ch.mu.Unlock()
	}
}

// catchUp makes sure that the analyzer knows what other sessions have defined.
func (c *conn) catchUp() error {
	ch := c.changes
	if ch == nil || ch.n.Load() == c.caught {
		return nil
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	n := ch.n.Load()
	if ch.base != c.base || ch.seen < n {
		if err := c.base.Refresh(c.ctx); err != nil {
			return err
		}
		ch.base, ch.seen = c.base, n
	}
	c.caught = n
	return nil
}

// announce notes, before the client is told anything, that a change may be there by now.
// status is that of ReadyForQuery, 0 before. It belongs to the goroutine that reads
// the server.
func (c *conn) announce(status byte) {
	c.changes.n.Add(1)
	c.reply.defined = status != 'I' // else its transaction goes on, and may yet commit
}

// statusOf is the status of a ReadyForQuery, 0 for another message.
func statusOf(typ byte, msg []byte) byte {
	if typ != 'Z' || len(msg) != headLen+1 {
		return 0
	}
	return msg[headLen]
}
