package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"

	"sallyport.dev/sallyport/events"
)

// replyState belongs to the goroutine that reads the server.
type replyState struct {
	cur     step // the oldest step, a copy
	have    bool
	failed  bool // an error was among its answers
	outcome outcome
	event   events.Event
	chunk   events.Chunk
	buf     []byte // a message that takes another's place
	layout  layout
	touched touched // by the transaction under way
	drop    int     // bytes that are still to come and do not go out
	inside  int     // bytes of a streamed message that are still to come, behind those
	over    *over   // the limit that the current step reached, nil: none
	defined bool    // something may have been defined in the transaction
}

// errUnexpected: an answer that no step expects. What follows cannot be
// attributed.
var errUnexpected error = &ending{
	&refusal{code: codeInternal, message: "sallyport: the server's answer is not understood: this connection ends"},
	errors.New("postgres: the server's answer does not fit what it was asked"),
}

// garbled is errUnexpected with what cannot be read.
func garbled(why error) error { return &ending{errUnexpected.(*ending).refusal, why} }

// serveServer walks the server's messages until there are no more. It alone
// writes to the client, whole messages at a time.
func (c *conn) serveServer() error {
	defer c.server.Release()
	for {
		err := c.pass()
		if err == nil {
			err = c.server.Fill()
			if err == nil {
				continue
			}
			err = c.serverGone(err)
		}
		return c.farewell(err)
	}
}

// serverGone is what the end of the server's stream means.
func (c *conn) serverGone(err error) error {
	c.queue.mu.Lock()
	busy := c.queue.n > 0
	c.queue.mu.Unlock()
	if errors.Is(err, io.EOF) && !busy && len(c.server.Window()) == 0 {
		return nil
	}
	return gone("server", err)
}

// farewell says the session's last word, where one is due and a message can
// begin.
func (c *conn) farewell(err error) error {
	c.queue.mu.Lock()
	last := c.queue.final
	c.queue.mu.Unlock()
	var e *ending
	if errors.As(err, &e) {
		last, err = e.refusal, e.why
	} else if last != nil {
		err = nil // the client's side knows why
	}
	if last != nil && c.reply.inside == 0 && c.reply.drop == 0 {
		_, _ = c.s.Client().Write(last.append(nil, "FATAL")) // it may be gone too
	}
	c.queue.end(nil)
	if c.reply.defined {
		c.announce(0)
	}
	c.interrupted()
	return err
}

// interrupted records the statements under way as interrupted.
func (c *conn) interrupted() {
	var s step
	for c.queue.peek(&s) {
		if s.defines || c.reply.defined { // it may have been done
			c.announce(0)
		}
		if s.statement {
			c.reply.of(&s).status, c.reply.of(&s).code = "interrupted", ""
			_ = c.respond(&s) // the journal's own recovery does the same
		}
		c.queue.done()
	}
}

// pass walks the messages in the window and passes them on, in one write where
// none is put in another's place.
func (c *conn) pass() error {
	w := window{b: c.server.Window()}
	err := c.walk(&w)
	if aerr := c.account(&c.reply.cur, w.due()); err == nil && aerr != nil {
		err = unrecorded(aerr)
	}
	if ferr := c.write(&w); err == nil {
		err = ferr
	}
	c.server.Advance(w.i)
	return err
}

// write gives the client what was walked and not yet written.
func (c *conn) write(w *window) (err error) {
	if b := w.walked(); len(b) > 0 {
		if err = c.tellSubjects(&c.reply.cur, 0); err == nil {
			err = c.tell(b)
		}
	}
	w.written()
	return err
}

func (c *conn) tell(b []byte) error {
	err := c.s.Reply(c.replyCtx, b)
	if err == nil {
		return nil
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return gone("client", err)
	}
	return unrecorded(err)
}

func (c *conn) walk(w *window) error {
	r := &c.reply
	for w.i < len(w.b) {
		if r.drop > 0 { // the rest of a value that is not shown
			k := min(r.drop, len(w.b)-w.i)
			r.drop -= k
			w.skip(k)
			continue
		}
		if r.inside > 0 { // the rest of a large row
			k := min(r.inside, len(w.b)-w.i)
			r.inside -= k
			w.i += k
			continue
		}
		typ, n, ok, err := head(w.b[w.i:])
		if err != nil {
			return garbled(err)
		} else if !ok {
			return nil
		}
		if !r.have {
			w.due()
			r.have, r.failed = c.queue.peek(&r.cur), false
			if !r.have {
				r.cur = step{}
			}
			r.touched.answered(&r.cur)
		}
		if typ == 'D' && r.cur.reading != nil {
			if r.cur.reading.over(n) {
				r.drop = n
				continue
			}
			if len(w.b)-w.i < n {
				return nil
			}
			if err := r.cur.reading.row(w.b[w.i+headLen : w.i+n]); err != nil {
				return err
			}
			w.skip(n)
			continue
		}
		if typ == 'D' || typ == 'd' {
			more := false
			switch {
			case !r.cur.changes():
				err = c.stream(w, n)
			case typ == 'd':
				more, err = c.scrubCopy(w, n)
			default:
				more, err = c.maskRow(w, typ, n)
			}
			if more || err != nil {
				return err
			}
			continue
		}
		if n > maxControl {
			return garbled(fmt.Errorf("postgres: a message of type %q with %d bytes from the server", typ, n))
		}
		if len(w.b)-w.i < n {
			return nil
		}
		if r.defined || r.cur.defines {
			c.announce(statusOf(typ, w.b[w.i:w.i+n]))
		}
		act, err := c.answer(typ, w.b[w.i:w.i+n])
		if err == nil && r.over != nil {
			act, typ = c.overAnswer(typ, w.b[w.i:w.i+n], act)
		}
		if err != nil {
			return err
		}
		if act == passed {
			w.i += n
		} else if err := c.change(w, n, act); err != nil {
			return err
		}
		if r.have && r.last(typ) {
			if err := c.account(&r.cur, w.due()); err != nil {
				return unrecorded(err)
			}
			if err := c.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream passes the row at w.i, of n bytes, on as it comes.
func (c *conn) stream(w *window, n int) error {
	r := &c.reply
	if err := r.row(); err != nil {
		return err
	}
	k := min(n, len(w.b)-w.i)
	if held, err := c.withheld(w, n); held || err != nil {
		return err
	}
	r.inside = n - k
	w.i += k
	return nil
}

// change drops a message of n bytes, or puts c.reply.buf in its place.
func (c *conn) change(w *window, n int, act action) error {
	if err := c.account(&c.reply.cur, w.due()); err != nil {
		return unrecorded(err)
	}
	w.skip(n)
	if act == replaced {
		w.out = append(w.out, c.reply.buf...)
		c.reply.buf = thrift(c.reply.buf)
	}
	if err := c.account(&c.reply.cur, w.due()); err != nil {
		return unrecorded(err)
	}
	return nil
}

// row holds a DataRow or CopyData against the step that it answers.
func (r *replyState) row() error {
	if !r.have || r.cur.refusal != nil || r.cur.kind != stepQuery && r.cur.kind != stepExecute {
		return errUnexpected
	}
	r.of(&r.cur).rows++
	return nil
}

// of returns the outcome of a step's statement.
func (r *replyState) of(s *step) *outcome {
	if r.outcome.number != s.number {
		r.outcome.reset(s.number)
	}
	return &r.outcome
}

// last reports whether a message of this type is the last answer to the
// current step.
func (r *replyState) last(typ byte) bool {
	switch typ {
	case 'E': // behind it either Z comes, or nothing until the next Sync
		return !r.cur.kind.alone()
	case 'C', 'I', 's':
		return r.cur.kind == stepExecute
	case 'T', 'n':
		return r.cur.kind == stepDescribeStatement || r.cur.kind == stepDescribePortal
	case 'Z', '1', '2', '3':
		return true
	}
	return false
}

// finish ends the current step, and records the outcome of its statement.
func (c *conn) finish() error {
	r := &c.reply
	r.have, r.over = false, nil
	if r.cur.statement && (r.failed || r.cur.kind != stepBind) {
		if err := c.respond(&r.cur); err != nil {
			return unrecorded(err)
		}
	}
	if r.failed && r.cur.kind != stepSync {
		c.queue.fail(c.skipped)
	} else {
		c.queue.done()
	}
	r.cur = step{}
	return nil
}
