package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// What a transaction does to the catalog nobody else sees until it ends. So the
// session asks the server inside of it, between two of the client's messages, and
// analyses by the answer until the transaction ends or does more.

// ddl is what the session may have done to the catalog.
type ddl struct {
	open   bool   // something, that the base may not have
	unread bool   // ... or that the analyzer may not have
	synced bool   // a Sync was sent since the analyzer was made: it ends a batch's own transaction
	by     string // the scope it was done under; "" for several, and not known
	seen   uint64 // the base's version when the analyzer was made within a transaction; 0: it is the base
}

// note takes note of what a statement does that is sent.
func (d *ddl) note(an *query.Analysis) {
	if an.DDL {
		if !d.open {
			d.by = an.ScopeID
		} else if d.by != an.ScopeID {
			d.by = ""
		}
		d.open, d.unread = true, true
	}
	d.unread = d.unread || mayEnd(an.Commands) || slices.Contains(an.Commands, "begin")
}

// unseen reports that relations may be there that the analyzer does not know.
func (d *ddl) unseen() bool { return d.open && (d.seen == 0 || d.unread) }

func (c *conn) openAnalyzer() error {
	if c.base != nil {
		return nil
	}
	a, release, err := c.p.o.Analyzer(c.ctx, c.pol.Resource, c.pol.Database)
	if err == nil {
		c.base, c.analyzer, c.release = a, a, release
		c.use()
	}
	return err
}

// analysis makes sure that there is an analyzer, and that what it knows of the
// catalog is not older than the session's own DDL.
func (c *conn) analysis(scope string) error {
	if err := c.openAnalyzer(); err != nil {
		return err
	}
	if c.would.asked {
		return nil
	}
	if err := c.catchUp(); err != nil {
		return err
	}
	if c.apart != 0 && c.apart != c.base.Version() {
		if err := c.base.Refresh(c.ctx); err != nil {
			return err
		}
		if c.ddl.seen == 0 {
			c.outside()
		}
	}
	d := &c.ddl
	read := !d.unread && d.seen != 0 && d.seen == c.base.Version()
	if !d.open || read && !d.synced {
		return nil
	}
	if err := c.barrier(); err != nil {
		return err
	}
	c.queue.mu.Lock()
	idle, failed, skips := c.queue.idle && !c.batch, c.queue.failed, c.queue.skipping || c.queue.over
	c.queue.mu.Unlock()
	d.synced = false
	if failed || skips || read && !idle {
		return nil // where it has failed nothing runs but what ends it
	}
	if err := c.base.Refresh(c.ctx); err != nil {
		return err
	}
	c.outside()
	d.seen = 0
	if idle {
		*d = ddl{}
		return nil
	}
	seen := c.base.Version()
	in, ok := c.base.(query.Insider)
	if !ok {
		return nil
	}
	var a query.Analyzer
	err := query.ErrUnseen
	if c.batch || !c.carried() {
		a, err = in.Within(c.ctx, c.readInside)
	}
	switch {
	case err == nil:
		c.analyzer, d.seen, d.unread = a, seen, false
	case errors.Is(err, query.ErrUnseen) && d.by == scope && scope != "":
		// What may be done in this scope makes nothing of what is there mean
		// something else; what is new in it is not known.
	default:
		return err
	}
	return nil
}

// carried reports that a transaction may be open that only messages without a Sync
// began, and that a Query behind them did not end: a server of 18 or newer keeps it.
// The Sync behind a question of our own would commit it. Nothing is under way.
func (c *conn) carried() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.piped && !c.queue.idle
}

// outside has the session analyse by what is committed: by an analyzer of its own
// where it may have temporary relations, so that nothing that is kept outlives them.
func (c *conn) outside() {
	c.analyzer, c.apart = c.base, 0
	if in, ok := c.base.(query.Insider); ok {
		if a := in.Apart(); a != nil {
			c.analyzer, c.apart = a, c.base.Version()
		}
	}
}

// reverts reports that a text may undo what its analysis relies on, and goes on. A
// COMMIT does so where the transaction has failed.
func (c *conn) reverts(an *query.Analysis) bool {
	return c.ddl.open && len(an.Commands) > 1 && len(an.Objects) > 0 && (slices.Contains(an.Commands, "rollback") || slices.Contains(an.Commands, "commit"))
}

// reading is what a statement of our own gives. It belongs to the goroutine that
// reads the server until all of it is answered.
type reading struct {
	rows query.Rows
	size int
	most int   // bytes that may come; 0: maxControl, beyond which the server is not believed
	tell bool  // the client is told of an error: its batch fails with it
	back bool  // what it does to the transaction is taken back behind it
	err  error // with the SQLSTATE only
}

// readInside runs statements of our own inside the client's transaction. The session has
// nothing under way.
func (c *conn) readInside(_ context.Context, sql ...string) ([]query.Rows, error) {
	all := make([]inquiry, len(sql))
	for i, text := range sql {
		all[i].sql = text
	}
	return c.inquire(all...)
}

// inquiry is a statement of our own.
type inquiry struct {
	sql   string
	types []uint32 // of its parameters, as Parse declares them
	with  []byte   // what they are, as Bind has it behind the names; nil: there are none
	most  int      // see reading
	back  bool     // see reading
}

// inquire runs them, each on its own.
func (c *conn) inquire(all ...inquiry) ([]query.Rows, error) {
	inBatch := c.batch
	out := make([]*reading, len(all))
	for i := range all {
		out[i] = &reading{tell: inBatch, most: all[i].most, back: all[i].back}
		if err := c.readOne(ownName(), &all[i], out[i]); err != nil {
			return nil, err
		}
	}
	if !inBatch {
		if err := c.ownSync(); err != nil {
			return nil, err
		}
	}
	if err := c.barrier(); err != nil {
		return nil, err
	}
	c.queue.mu.Lock()
	gone := c.queue.over
	c.queue.mu.Unlock()
	if gone {
		return nil, errors.New("postgres: the server answers no more")
	}
	rows := make([]query.Rows, len(all))
	for i, r := range out {
		if r.err != nil {
			return nil, r.err
		}
		rows[i] = r.rows
	}
	return rows, nil
}

// ownName is a name that the client has not.
func ownName() string {
	var name [16]byte
	_, _ = rand.Read(name[:])
	return "sallyport_" + hex.EncodeToString(name[:])
}

// ownSync sends a Sync that the client does not hear of.
func (c *conn) ownSync() error {
	return c.push(&step{kind: stepSync, asked: true, reading: &reading{}}, c.login, syncMessage)
}

// readOne sends one of them. Statement and portal have names, since the client may
// have use for those without.
func (c *conn) readOne(name string, q *inquiry, r *reading) error {
	b, at := begin(c.msg[:0], 'P')
	b = appendString(appendString(b, name), q.sql)
	b = binary.BigEndian.AppendUint16(b, uint16(len(q.types)))
	for _, t := range q.types {
		b = binary.BigEndian.AppendUint32(b, t)
	}
	c.msg = finish(b, at)
	if err := c.push(&step{kind: stepParse, asked: true, reading: r}, c.login, c.msg); err != nil {
		return err
	}
	with := q.with
	if with == nil {
		with = []byte{0, 0, 0, 0, 0, 0}
	}
	b, at = begin(c.msg[:0], 'B')
	c.msg = finish(append(appendString(appendString(b, name), name), with...), at)
	if err := c.push(&step{kind: stepBind, asked: true, reading: r}, c.login, c.msg); err != nil {
		return err
	}
	b, at = begin(c.msg[:0], 'E')
	c.msg = finish(append(appendString(b, name), 0, 0, 0, 0), at)
	if err := c.push(&step{kind: stepExecute, asked: true, reading: r}, c.login, c.msg); err != nil {
		return err
	}
	for _, kind := range []byte("PS") {
		b, at = begin(c.msg[:0], 'C')
		c.msg = finish(appendString(append(b, kind), name), at)
		if err := c.push(&step{kind: stepClose, asked: true, reading: r}, c.login, c.msg); err != nil {
			return err
		}
	}
	return nil
}

// takenBack reports that a step is of our own, and that the client's transaction goes on
// as if it had not been, whether it fails or not.
func (s *step) takenBack() bool { return s.reading != nil && s.reading.back && !s.reading.tell }

// over reports, once, that a row of n bytes is more than may come.
func (r *reading) over(n int) bool {
	if r.most == 0 || r.size+n <= r.most {
		return false
	}
	r.err = errors.New("postgres: the answer is too large")
	return true
}

// row takes a DataRow's body.
func (r *reading) row(body []byte) error {
	if r.size += len(body); r.size > maxControl {
		return garbled(errors.New("postgres: what the server says of its catalog is too large"))
	}
	m := cursor{b: body}
	n := m.int16()
	row := make([][]byte, max(n, 0))
	for i := range row {
		if size := m.int32(); size >= 0 {
			row[i] = append([]byte{}, m.take(int(size))...)
		}
	}
	if n < 0 || !m.end() {
		return garbled(malformed('D'))
	}
	r.rows = append(r.rows, row)
	return nil
}

// readAnswer looks at an answer to a statement of our own.
func (c *conn) readAnswer(typ byte, msg []byte) (action, error) {
	r := &c.reply
	switch typ {
	case 'E':
		e, err := readReport(msg[headLen:])
		if err != nil {
			return 0, garbled(err)
		}
		r.failed = true
		r.cur.reading.err = fmt.Errorf("postgres: the catalog could not be read within the transaction: SQLSTATE %s", e.m.Code)
		if !r.cur.reading.tell && !e.fatal() {
			return dropped, nil
		}
		e.sanitize()
		r.buf = e.append(r.buf[:0], 'E')
		return replaced, nil
	case 'Z':
		if len(msg) != headLen+1 {
			return 0, errUnexpected
		}
		c.ready(msg[headLen])
	case 'C', '1', '2', '3':
	default:
		return 0, errUnexpected
	}
	return dropped, nil
}
