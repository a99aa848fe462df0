package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

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
	inside  int    // bytes of a streamed message that are still to come
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
	if last != nil && c.reply.inside == 0 {
		_, _ = c.s.Client().Write(last.append(nil, "FATAL")) // it may be gone too
	}
	c.queue.end(nil)
	c.interrupted()
	return err
}

// interrupted records the statements under way as interrupted.
func (c *conn) interrupted() {
	var s step
	for c.queue.peek(&s) {
		if s.statement {
			c.reply.of(&s).status, c.reply.of(&s).code = "interrupted", ""
			_ = c.respond(&s) // the journal's own recovery does the same
		}
		c.queue.done()
	}
}

// window is the part of what arrived that pass is walking.
type window struct {
	b    []byte
	from int // what is before it has been written to the client
	seg  int // what is before it has been accounted for
	i    int // the message being looked at
}

// pass walks the messages in the window and passes them on, in one write where
// nothing is changed.
func (c *conn) pass() error {
	w := window{b: c.server.Window()}
	err := c.walk(&w)
	if aerr := c.account(&c.reply.cur, w.b[w.seg:w.i]); err == nil && aerr != nil {
		err = unrecorded(aerr)
	}
	if ferr := c.write(&w); err == nil {
		err = ferr
	}
	c.server.Advance(w.i)
	return err
}

// write gives the client what was walked and not yet written.
func (c *conn) write(w *window) error {
	b := w.b[w.from:w.i]
	w.from = w.i
	if len(b) == 0 {
		return nil
	}
	return c.tell(b)
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
			w.seg = w.i
			r.have, r.failed = c.queue.peek(&r.cur), false
			if !r.have {
				r.cur = step{}
			}
		}
		if typ == 'D' || typ == 'd' {
			if err := r.row(); err != nil {
				return err
			}
			k := min(n, len(w.b)-w.i)
			r.inside = n - k
			w.i += k
			continue
		}
		if n > maxControl {
			return garbled(fmt.Errorf("postgres: a message of type %q with %d bytes from the server", typ, n))
		}
		if len(w.b)-w.i < n {
			return nil
		}
		act, err := c.answer(typ, w.b[w.i:w.i+n])
		if err != nil {
			return err
		}
		if act == passed {
			w.i += n
		} else if err := c.change(w, n, act); err != nil {
			return err
		}
		if r.have && r.last(typ) {
			if err := c.account(&r.cur, w.b[w.seg:w.i]); err != nil {
				return unrecorded(err)
			}
			w.seg = w.i
			if err := c.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

// change drops a message of n bytes, or puts c.reply.buf in its place.
func (c *conn) change(w *window, n int, act action) error {
	if err := c.account(&c.reply.cur, w.b[w.seg:w.i]); err != nil {
		return unrecorded(err)
	}
	if err := c.write(w); err != nil {
		return err
	}
	w.i += n
	w.from, w.seg = w.i, w.i
	if act == dropped {
		return nil
	}
	if err := c.account(&c.reply.cur, c.reply.buf); err != nil {
		return unrecorded(err)
	}
	return c.tell(c.reply.buf)
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

type action uint8

const (
	passed action = iota
	dropped
	replaced // by c.reply.buf
)

// answers says which messages each kind of step may be answered with.
var answers = [...]string{
	stepQuery: "TCIGHcEZ", stepFunction: "VEZ", stepParse: "1E", stepBind: "2E", stepClose: "3E", stepSync: "EZ",
	stepDescribeStatement: "tTnE", stepDescribePortal: "TnE", stepExecute: "CIsGHcE",
}

// answer looks at a message other than a row.
func (c *conn) answer(typ byte, msg []byte) (action, error) {
	r := &c.reply
	switch typ {
	case 'S':
		return c.parameterStatus(msg)
	case 'N', 'A':
		return c.notice(typ, msg)
	}
	if typ == 'E' && !r.have {
		return c.reportError(msg)
	}
	if !r.have || bytes.IndexByte(bytesOf(answers[r.cur.kind]), typ) < 0 {
		return 0, errUnexpected
	}
	if r.cur.refusal != nil && typ != 'E' && !(typ == 'Z' && r.failed) {
		return 0, errUnexpected // it ran!
	}
	switch typ {
	case 'E':
		return c.reportError(msg)
	case 'T':
		return passed, c.checkRow(msg[headLen:])
	case 'G':
		if !r.cur.copies {
			return 0, errUnexpected
		}
		c.queue.copying(copyIn)
	case 'H':
		c.queue.copying(copyNone)
	case 'C':
		r.commandComplete(msg[headLen:])
	case 'Z':
		if len(msg) != headLen+1 {
			return 0, errUnexpected
		}
		c.ready(msg[headLen])
	}
	return passed, nil
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
	r.have = false
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

// ready notes the transaction's state.
func (c *conn) ready(status byte) {
	c.queue.mu.Lock()
	c.queue.idle = status == 'I'
	if c.queue.idle {
		c.queue.names.transactionEnded()
	}
	c.queue.mu.Unlock()
}

// commandComplete reads the count of a command's tag.
func (r *replyState) commandComplete(body []byte) {
	tag := bytes.TrimRight(body, "\x00")
	i := bytes.LastIndexByte(tag, ' ')
	if i < 0 {
		return
	}
	if n, err := strconv.ParseInt(string(tag[i+1:]), 10, 64); err == nil && !bytes.HasPrefix(tag, []byte("SELECT")) {
		r.of(&r.cur).changed += n
	}
}

// checkRow is the second layer: a column that goes out must not be a protected
// one of a table. Masked columns are expressions and belong to none.
func (c *conn) checkRow(body []byte) error {
	s := &c.reply.cur
	if s.guard == nil || s.analyzer == nil {
		return nil
	}
	m := cursor{b: body}
	for range m.int16() {
		m.str()
		table, attnum := uint32(m.int32()), int16(m.int16())
		m.take(4 + 2 + 4 + 2)
		if m.bad {
			break
		}
		if s.analyzer.Protected(table, attnum, s.guard) {
			why := fmt.Errorf("postgres: statement %d would show stored values of protected column %d of relation %d", s.number, attnum, table)
			if err := c.s.Event(&events.Event{Kind: events.Alarm, Time: time.Now(), Number: s.number, Message: why.Error()}); err != nil {
				return unrecorded(err)
			}
			return &ending{&refusal{code: codeInternal, message: "sallyport: what the server answers is not what was analysed: this connection ends"}, why}
		}
	}
	if !m.end() {
		return garbled(malformed('T'))
	}
	return nil
}

// reportError passes an ErrorResponse on, changes it, or puts a refusal in its
// place.
func (c *conn) reportError(msg []byte) (action, error) {
	r := &c.reply
	e, err := readReport(msg[headLen:])
	if err != nil {
		return 0, garbled(err)
	}
	sanitize, rewritten := c.guarded.Load(), false
	if r.have {
		s := &r.cur
		r.failed = true
		o := r.of(s)
		o.status, o.code = "error", e.m.Code
		if s.refusal != nil && !e.fatal() {
			o.code = s.refusal.code
			r.buf = s.refusal.append(r.buf[:0], "ERROR")
			return replaced, nil
		}
		sanitize, rewritten = s.sanitize, s.rewritten
		c.queue.copyFailed(s)
	}
	switch {
	case sanitize:
		e.sanitize()
	case rewritten:
		e.unmapped()
	default:
		return passed, nil
	}
	r.buf = e.append(r.buf[:0], 'E')
	return replaced, nil
}

// notice passes a NoticeResponse or a NotificationResponse on, or takes its
// words away.
func (c *conn) notice(typ byte, msg []byte) (action, error) {
	protected := c.guarded.Load()
	if typ == 'A' {
		if protected {
			return dropped, nil // another session may have put anything there
		}
		return passed, nil
	}
	rewritten := false
	if c.reply.have {
		protected, rewritten = c.reply.cur.sanitize, c.reply.cur.rewritten
	}
	if !protected && !rewritten {
		return passed, nil
	}
	e, err := readReport(msg[headLen:])
	if err != nil {
		return 0, garbled(err)
	}
	if protected {
		e.sanitize()
	}
	e.unmapped()
	c.reply.buf = e.append(c.reply.buf[:0], 'N')
	return replaced, nil
}

// parameterStatus notes settings that alter what a text means, and gives the
// client the application_name that it asked for.
func (c *conn) parameterStatus(msg []byte) (action, error) {
	m := cursor{b: msg[headLen:]}
	name, value := m.str(), m.str()
	if !m.end() {
		return 0, garbled(malformed('S'))
	}
	if string(name) == "application_name" && c.sent != "" && string(value) == c.sent {
		b, at := begin(c.reply.buf[:0], 'S')
		c.reply.buf = finish(appendString(appendString(b, "application_name"), c.shown), at)
		return replaced, nil
	}
	c.settings.note(string(name), string(value))
	c.unsafe.Store(c.settings.problem())
	return passed, nil
}
