package postgres

import (
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// copyGate holds a message against a COPY from the client that may be under
// way. While the server takes data it ignores Sync and Flush, so these are
// dropped here: the queue has only steps that are answered.
func (c *conn) copyGate(typ byte) (ok bool, err error) {
	data := typ == 'd' || typ == 'c' || typ == 'f'
	state, unsure := c.queue.copyState()
	if state == copyNone || typ == 'X' {
		return true, nil
	}
	if unsure {
		if err := c.hurry(); err != nil {
			return false, err
		}
		state = c.queue.copyNow()
	}
	switch {
	case state == copyNone, state == copyEnding, data:
		return true, nil
	case typ == 'S' || typ == 'H':
		return false, nil
	}
	return false, violation(fmt.Errorf("a message of type %q during COPY", typ))
}

// taking reports whether the server takes COPY data: elsewhere it ignores it.
func (c *conn) taking() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.copy == copyIn
}

// copyData streams a CopyData message of n bytes, under the decision of its
// statement.
func (c *conn) copyData(n int) error {
	if ok, err := c.copyGate('d'); !ok || err != nil {
		return err
	}
	pass := c.taking()
	first := true
	for n > 0 {
		w := c.client.Window()
		k := min(n, len(w))
		if pass && k > 0 {
			if err := c.s.Send(c.latest, w[:k]); err != nil {
				return err
			}
			data := w[:k]
			if first {
				data = data[min(headLen, k):]
			}
			if err := c.input.add(c, data); err != nil {
				return err
			}
			first = false
		}
		c.client.Advance(k)
		if n -= k; n == 0 {
			return nil
		}
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.fill(); err != nil {
			return gone("client", err)
		}
	}
	return nil
}

// copyEnd passes CopyDone and CopyFail on.
func (c *conn) copyEnd(typ byte, body []byte) error {
	if !c.queue.copyEnds() {
		return nil
	}
	b, at := begin(c.msg[:0], typ)
	c.msg = finish(append(b, body...), at)
	return c.s.Send(c.latest, c.msg)
}

// inputRecord is how much of a statement's COPY data is in the transcript.
type inputRecord struct {
	number uint64
	record policy.Recording
	n      int64
}

// add records data up to the limit.
func (in *inputRecord) add(c *conn, data []byte) error {
	if in.record.Level != policy.RecordFull || len(data) == 0 {
		return nil
	}
	if rest := limit(in.record) - in.n; int64(len(data)) > rest {
		data = data[:max(rest, 0)]
	}
	if len(data) == 0 {
		return nil
	}
	in.n += int64(len(data))
	if err := c.s.Record(&events.Chunk{Number: in.number, Kind: events.ChunkInput, Time: time.Now(), Data: data}); err != nil {
		return unrecorded(err)
	}
	if err := c.s.Written(); err != nil {
		return unrecorded(err)
	}
	return nil
}

func limit(r policy.Recording) int64 {
	if r.Limit > 0 {
		return r.Limit
	}
	return policy.DefaultRecordLimit
}

// unrecorded ends a session whose transcript cannot be written.
func unrecorded(err error) error {
	return &ending{&refusal{
		code: codeUnrecorded, message: "sallyport: " + policy.ErrUnrecorded.Error() + ": this connection ends",
		hint: "Ask the administrator of this host to look at sallyport's journal (sallyport doctor).",
	}, err}
}
