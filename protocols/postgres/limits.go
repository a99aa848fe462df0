package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// A result that reaches a limit ends with an error in place of the rows that are
// left. The server must think so too: it is asked to cancel the statement, and
// where that came too late, a decoy makes the transaction fail. To be able to do
// so, what the client sends next waits until a limited statement is answered.

// goneTime bounds a limited statement whose client has gone.
const goneTime = 5 * time.Second

// over is a limit that was reached.
type over struct{ refusal *refusal }

// tally is what was taken from a cursor or a portal so far: all of it is of one
// statement. It belongs to the goroutine that reads the server.
type tally struct{ rows, bytes int64 }

// counted has a step's rows count for the cursors that it takes them from.
func (c *conn) counted(s *step, an *query.Analysis) {
	for _, p := range c.fetched {
		if p.tally == nil {
			p.tally = &tally{}
		}
		s.tallies = append(s.tallies, p.tally)
	}
	if takesOwn(an) {
		s.tallies = append(s.tallies, &tally{})
	}
}

// takesOwn reports that a text takes rows from cursors that it opens itself.
func takesOwn(an *query.Analysis) bool {
	return an.Declares != nil && slices.Contains(an.Commands, "fetch")
}

// opens returns the tally of cursors that a text opens, nil for a new one each.
func (c *conn) opens(s *step, an *query.Analysis) *tally {
	if n := len(s.tallies); n > 0 && takesOwn(an) {
		return s.tallies[n-1]
	}
	return nil
}

// taken is what went out of the current step's statement before.
func (r *replyState) taken(o *outcome) (rows, bytes int64) {
	rows, bytes = o.rows-1, o.sent // row has counted this one
	for _, t := range r.cur.tallies {
		rows, bytes = max(rows, t.rows), max(bytes, t.bytes)
	}
	return rows, bytes
}

// withheld takes the row at w.i, of n bytes, off what is left for the current
// step, and passes over it where it must not go out.
func (c *conn) withheld(w *window, n int) (bool, error) {
	r := &c.reply
	if r.cur.left == nil {
		return false, nil
	}
	o := r.of(&r.cur)
	if r.over == nil {
		rows, bytes := r.taken(o)
		x := r.cur.left.Row(rows, bytes, int64(n))
		if x == nil {
			o.sent += int64(n)
			for _, t := range r.cur.tallies {
				t.rows, t.bytes = t.rows+1, t.bytes+int64(n)
			}
			return false, nil
		}
		c.exceeded(x)
	}
	o.rows-- // row counted it
	k := min(n, len(w.b)-w.i)
	r.drop = n - k
	w.skip(k)
	if r.cur.copies { // nobody waits to have it fail
		return true, &ending{r.over.refusal, errors.New("postgres: " + o.reason)}
	}
	return true, nil
}

// exceeded ends the current step's result.
func (c *conn) exceeded(x *policy.Over) {
	r := &c.reply
	r.over = &over{refusal: &refusal{
		code: codeBusy, message: "sallyport: the result ends here: " + x.Reason, hint: x.Remedy,
		rules: []string{x.Rule}, session: c.event.ID, number: r.cur.number, record: r.cur.record,
	}}
	o := r.of(&r.cur)
	o.status, o.code, o.reason = "error", codeBusy, x.Reason
	if c.cancel == nil {
		return
	}
	done := make(chan struct{})
	c.queue.mu.Lock()
	c.queue.cancelling = done
	c.queue.mu.Unlock()
	go func() {
		defer close(done)
		// A statement that is not cancelled is drained.
		ctx, stop := context.WithTimeout(c.replyCtx, 10*time.Second)
		defer stop()
		_ = c.s.Aside(ctx, c.login, c.cancel.request())
	}()
}

// request is the message that cancels what the session does.
func (k *cancelKey) request() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(k.key)))
	b = binary.BigEndian.AppendUint32(b, cancelCode)
	return append(b, k.key...)
}

// overAnswer decides what becomes of a message behind the end of a result: act
// is what would otherwise. The type that it returns says whether the step ends.
func (c *conn) overAnswer(typ byte, msg []byte, act action) (action, byte) {
	r := &c.reply
	simple := r.cur.kind == stepQuery
	switch typ {
	case 'S', 'N', 'A':
		return act, typ
	case 'E': // cancelled, or the decoy
		r.failed = true
		r.of(&r.cur).code = codeBusy
		r.buf = r.over.refusal.append(r.buf[:0], "ERROR")
		return replaced, typ
	case 'C', 'I', 's':
		if !simple {
			c.fails(stepParse)
		}
		return dropped, 0
	case 'Z':
		if r.failed { // and has been told
			return act, typ
		}
		if msg[headLen] == 'T' {
			c.fails(stepQuery)
			return dropped, 0
		}
		// Outside of a transaction what was carried out stays.
		r.failed = true
		x := *r.over.refusal
		x.hint += "; the statement itself was carried out"
		r.buf = append(x.append(r.buf[:0], "ERROR"), msg...)
		return replaced, typ
	}
	return dropped, 0
}

// fails has the goroutine that reads the client send a decoy.
func (c *conn) fails(kind stepKind) {
	c.queue.mu.Lock()
	c.queue.fails = kind
	c.queue.moved.Broadcast()
	c.queue.mu.Unlock()
}

// limited waits until a statement whose result has limits is answered, and has
// it fail at the server where it must.
func (c *conn) limited(s *step) error {
	var err error
	gone := false
	if s.kind == stepQuery {
		err = c.flush()
	} else {
		err = c.hurry()
	}
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for err == nil && q.n > 0 && !q.over {
		kind := q.fails
		if kind == 0 {
			look := time.AfterFunc(time.Second, q.moved.Broadcast)
			q.moved.Wait()
			if !look.Stop() && !gone {
				q.mu.Unlock()
				if gone = c.s.HungUp(); gone { // as where its end is read
					_ = c.s.CloseWrite()
					_ = c.s.SetServerDeadline(time.Now().Add(goneTime))
				}
				q.mu.Lock()
			}
			continue
		}
		q.fails = 0
		q.mu.Unlock()
		err = c.fail(kind == stepQuery)
		q.mu.Lock()
	}
	done := q.cancelling
	q.cancelling = nil
	if done == nil {
		return err
	}
	// The request must not hit what comes next.
	q.mu.Unlock()
	<-done
	q.mu.Lock()
	return err
}

// fail sends a decoy within the step that is under way.
func (c *conn) fail(simple bool) error {
	c.msg = c.decoy(c.msg[:0], simple, false)
	if err := c.s.Send(c.login, c.msg); err != nil {
		return err
	}
	if simple {
		return c.flush()
	}
	return c.hurry()
}
