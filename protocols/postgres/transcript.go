package postgres

import (
	"crypto/sha256"
	"errors"
	"hash"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// record puts a statement and its binds into the transcript. They are written
// with the first piece of their result, or at once where results are not
// recorded.
func (c *conn) record(r policy.Recording, now time.Time, sql, binds []byte) error {
	if r.Level == policy.RecordEvents {
		return nil
	}
	if c.s.Speaks() {
		sql, binds = withoutTokens(sql), withoutTokens(binds)
	}
	later := r.Level == policy.RecordFull
	ch := &c.chunk
	*ch = events.Chunk{Number: c.number, Kind: events.ChunkStatement, Time: now, Data: sql, Later: later || len(binds) > 0}
	if err := c.s.Record(ch); err != nil {
		return unrecorded(err)
	}
	if len(binds) > 0 {
		ch.Kind, ch.Data, ch.Later = events.ChunkBinds, binds, later
		if err := c.s.Record(ch); err != nil {
			return unrecorded(err)
		}
	}
	return nil
}

// outcome is what became of a statement so far.
type outcome struct {
	number   uint64
	rows     int64 // that went out
	changed  int64 // by the command's own count
	bytes    int64
	recorded int64
	sent     int64  // bytes of rows that limits let out
	reason   string // of an outcome that is the passage's
	status   string
	code     string
	hash     hash.Hash
	begun    bool // hash has something

	detected []events.Detection
	copied   int         // COPYs that began
	form     *scrub.Copy // of the latest
	first    bool        // its next message is its first
	subjects subjects
	cut      []byte // of COPY's data, used again
}

// reset begins the outcome of another statement.
func (o *outcome) reset(number uint64) {
	h, s := o.hash, o.subjects
	s.reset()
	*o = outcome{number: number, status: "ok", hash: h, subjects: s}
}

// account takes note of bytes of a statement's result that are about to go
// out, and records them.
func (c *conn) account(s *step, b []byte) error {
	if s.number == 0 || len(b) == 0 || s.kind == stepBind && len(b) == headLen {
		return nil // BindComplete tells nothing
	}
	o := c.reply.of(s)
	o.bytes += int64(len(b))
	if o.hash == nil {
		o.hash = sha256.New()
	}
	if !o.begun {
		o.hash.Reset()
		o.begun = true
	}
	o.hash.Write(b)
	if s.record.Level != policy.RecordFull {
		return nil
	}
	rest := limit(s.record) - o.recorded
	if rest <= 0 {
		return nil
	}
	if int64(len(b)) > rest {
		b = b[:rest]
	}
	o.recorded += int64(len(b))
	c.reply.chunk = events.Chunk{Number: s.number, Kind: events.ChunkResult, Time: time.Now(), Data: b}
	return c.s.Record(&c.reply.chunk)
}

// respond appends a statement's outcome. Bind and the Execute that goes with
// it have one.
func (c *conn) respond(s *step) error {
	o := c.reply.of(s)
	if c.ended.Swap(s.number) == s.number {
		return c.tellSubjects(s, 0)
	}
	untold := c.tellSubjects(s, events.MaxResponseSubjects)
	e := &c.reply.event
	*e = events.Event{
		Kind: events.Response, Session: s.event, Time: time.Now(), Number: s.number, Status: o.status, Code: o.code, Reason: o.reason,
		Rows: o.rows, Bytes: o.bytes, Recorded: o.recorded, Detected: o.detected,
		Subjects: o.subjects.fresh, Named: o.subjects.named, Untold: s.untold,
	}
	if o.rows == 0 {
		e.Rows = o.changed
	}
	e.Duration = e.Time.Sub(s.started)
	if o.begun {
		o.hash.Sum(e.Hash[:0])
	}
	if untold != nil { // what has run has its outcome all the same, and its room
		e.Status, e.Subjects, e.Untold = "interrupted", nil, "the record had no room for whose rows these are"
		return errors.Join(untold, c.s.Event(e))
	}
	if len(o.subjects.fresh) == 0 {
		return c.s.Event(e)
	}
	err := c.s.Before(e)
	o.subjects.fresh = o.subjects.fresh[:0]
	return err
}

// skipped records that a statement was not run.
func (c *conn) skipped(s *step) {
	if s.statement && c.ended.Swap(s.number) != s.number {
		// The journal keeps room for outcomes; where it fails for good, it
		// records the end of this session as interrupted.
		_ = c.s.Event(&events.Event{Kind: events.Response, Session: s.event, Time: time.Now(), Number: s.number, Status: "skipped"})
	}
}
