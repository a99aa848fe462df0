package postgres

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

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
	if r.cur.reading != nil {
		return c.readAnswer(typ, msg)
	}
	switch typ {
	case 'E':
		return c.reportError(msg)
	case 't':
		if r.cur.params != nil {
			r.buf = appendParams(r.buf[:0], r.cur.params)
			return replaced, nil
		}
	case 'T', 'n':
		if typ == 'T' {
			if err := c.checkRow(msg[headLen:]); err != nil {
				return 0, err
			}
		}
		if r.cur.asked {
			return dropped, nil
		}
		act := passed
		if typ == 'T' && len(r.cur.origins) > 0 {
			act = c.attributed(msg)
		}
		if typ == 'T' && len(r.cur.subjects) > 0 {
			act = c.bare(msg, act)
		}
		return act, nil
	case 'G':
		if !r.cur.copies {
			return 0, errUnexpected
		}
		c.queue.copying(copyIn)
	case 'H':
		if err := c.copyOut(msg[headLen:]); err != nil {
			return 0, err
		}
		if len(r.cur.subjects) > 0 {
			return c.bareCopyOut(msg)
		}
	case 'C':
		r.layout.begin()
		r.commandComplete(msg[headLen:])
		c.queue.tagged(bytes.TrimRight(msg[headLen:], "\x00"))
	case 'Z':
		if len(msg) != headLen+1 {
			return 0, errUnexpected
		}
		c.ready(msg[headLen])
	}
	return passed, nil
}

// ready notes the transaction's state.
func (c *conn) ready(status byte) {
	c.queue.mu.Lock()
	c.queue.idle, c.queue.failed = status == 'I', status == 'E'
	c.reply.touched.ready(&c.reply.cur, status)
	if c.queue.idle {
		c.queue.voice.ended(c.reply.failed)
		c.queue.own.ended(c.reply.failed || c.queue.own.failed)
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
// one of a table, unless it is one that is masked on output, in its place.
// Columns that are masked at the source are expressions and belong to none.
func (c *conn) checkRow(body []byte) error {
	r := &c.reply
	s := &r.cur
	if s.guard == nil && s.search == nil && len(s.subjects) == 0 || s.analyzer == nil {
		return nil
	}
	outputs := s.outputs
	r.layout.begin()
	m := cursor{b: body}
	n := m.int16()
	for i := range n {
		name := m.str()
		table, attnum := uint32(m.int32()), int16(m.int16())
		oid := uint32(m.int32())
		m.take(2 + 4)
		format := m.int16()
		if m.bad {
			break
		}
		if i < len(s.subjects) {
			if !addedTo(&s.subjects[i], name, oid) {
				return c.disagree("column %d of its result is not the one that says whose its rows are", i+1)
			}
			continue
		}
		if len(outputs) > 0 && outputs[0].Index == i {
			o := &outputs[0]
			if table != o.Table || attnum != o.Attnum || oid != o.OID || format&^1 != 0 {
				return c.disagree("column %d of its result is %d of relation %d, and not the one that is masked", i+1, attnum, table)
			}
			r.layout.show(c.p.keys(), o, format == 1)
			outputs = outputs[1:]
			continue
		}
		if s.guard != nil && s.analyzer.Protected(table, attnum, s.guard) {
			return c.disagree("would show stored values of protected column %d of relation %d", attnum, table)
		}
		if s.search != nil {
			of := s.analyzer.Column(table, attnum)
			if s.guard == nil || s.guard.Mask(of).Kind != policy.MaskReveal {
				r.layout.look(i, format == 1, oid, string(name), of, s.search)
			}
		}
	}
	if !m.end() {
		return garbled(malformed('T'))
	}
	if len(s.outputs) > 0 && (n != s.width || len(outputs) > 0) {
		return c.disagree("its result has %d columns, and not %d", n, s.width)
	}
	if n < len(s.subjects) {
		return c.disagree("its result has %d columns, and does not say whose its rows are", n)
	}
	if len(s.subjects) > 0 {
		if r.layout.subjectKey = c.p.subjectKey(); r.layout.subjectKey == nil {
			return c.disagree("there is no key any more to name whose its rows are")
		}
		r.layout.subjects = s.subjects
	}
	r.layout.known(s, n)
	return nil
}

// disagree raises an alarm, and ends the session before anything of the answer
// goes out.
func (c *conn) disagree(format string, args ...any) error {
	s := &c.reply.cur
	why := fmt.Errorf("postgres: statement %d: "+format, append([]any{s.number}, args...)...)
	if err := c.s.Event(&events.Event{Kind: events.Alarm, Session: s.event, Time: time.Now(), Number: s.number, Message: why.Error()}); err != nil {
		return unrecorded(err)
	}
	return &ending{&refusal{code: codeInternal, message: "sallyport: what the server answers is not what was analysed: this connection ends"}, why}
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
	masked := sanitize
	if r.have {
		s := &r.cur
		r.failed = true
		o := r.of(s)
		o.status, o.code = "error", e.m.Code
		if s.refusal != nil && !e.fatal() && !(s.refusal.late && e.m.Code == codeFailed) {
			o.code = s.refusal.code
			r.buf = s.refusal.append(r.buf[:0], "ERROR")
			return replaced, nil
		}
		sanitize, rewritten, masked = r.touched.withholds(s), s.rewritten, s.guard != nil
		c.queue.copyFailed(s)
	}
	at := r.cur.place(int(e.m.Position))
	if !c.changed(e, sanitize, rewritten, masked) {
		return passed, nil
	}
	if sanitize || rewritten {
		e.m.Position = int32(at)
	}
	r.buf = e.append(r.buf[:0], 'E')
	return replaced, nil
}

// changed takes out of a report what the client must not be told, and reports
// whether it did. masked: something is, and definitions are not shown.
func (c *conn) changed(e *report, sanitize, rewritten, masked bool) bool {
	if sanitize {
		e.sanitize()
		return true
	}
	found := masked && e.withhold()
	if s := c.watched(); s != nil {
		found = c.scrub(e, s) || found
	}
	if rewritten {
		e.unmapped()
	}
	return rewritten || found
}

// notice passes a NoticeResponse or a NotificationResponse on, or takes its
// words away.
func (c *conn) notice(typ byte, msg []byte) (action, error) {
	protected := c.guarded.Load()
	if typ == 'N' && c.reply.have && c.reply.cur.reading != nil {
		return dropped, nil
	}
	if typ == 'A' {
		if protected {
			return dropped, nil // another session may have put anything there
		}
		at := headLen + 4 // behind the process
		return c.scrubLast(msg, at+bytes.IndexByte(msg[min(at, len(msg)):], 0)+1)
	}
	rewritten, masked := false, protected
	if c.reply.have {
		protected, rewritten, masked = c.reply.touched.withholds(&c.reply.cur), c.reply.cur.rewritten, c.reply.cur.guard != nil
	}
	if !protected && !rewritten && !masked && c.watched() == nil {
		return passed, nil
	}
	e, err := readReport(msg[headLen:])
	if err != nil {
		return 0, garbled(err)
	}
	if !c.changed(e, protected, rewritten, masked) {
		return passed, nil
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
	c.readings.note(string(name), string(value))
	c.unsafe.Store(c.settings.problem())
	if c.reply.have && c.reply.cur.reading != nil { // of our own: 18 reports search_path, which is put back
		return dropped, nil
	}
	return c.scrubLast(msg, headLen+len(name)+1)
}
