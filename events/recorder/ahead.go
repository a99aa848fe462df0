package recorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// waiting is a record that came before the one in front of it.
type waiting struct {
	events.Record
	arrived int64 // ns
}

// await has a record wait for the one in front of it.
func (c *chainState) await(r *events.Record, arrived int64) {
	w := waiting{*r, arrived}
	if n := len(c.wait); n == 0 || c.wait[n-1].Seq < r.Seq { // as they mostly come
		c.wait = append(c.wait, w)
		return
	}
	i, found := slices.BinarySearchFunc(c.wait, r.Seq, func(w waiting, seq uint64) int { return cmp.Compare(w.Seq, seq) })
	for ; found && i < len(c.wait) && c.wait[i].Seq == r.Seq; i++ {
		if c.wait[i].Hash == r.Hash {
			return
		}
	}
	c.wait = slices.Insert(c.wait, i, w)
}

// firstWaiting notes which of those that the store keeps waiting is the first.
func (a *adder) firstWaiting(c *chainState) error {
	c.ahead = 0
	err := a.one(`SELECT first FROM ahead WHERE host = ? AND chain = ? ORDER BY first LIMIT 1`, []any{c.Host, c.Chain}, &c.ahead)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// drain takes in records that waited for the last one, as if they had just come.
func (a *adder) drain(c *chainState) error {
	for {
		if c.ahead != 0 && c.ahead <= c.last+1 {
			if err := a.load(c, c.last+1); err != nil {
				return err
			}
		}
		if len(c.wait) == 0 || c.wait[0].Seq > c.last+1 {
			return nil
		}
		w := c.wait[0]
		c.wait = c.wait[1:]
		if err := a.take(c, &w.Record, w.arrived); err != nil {
			return err
		}
	}
}

// load takes from the store what waits there in blocks that begin at most at a
// number. What is still too early is kept again with the commit. A block that
// can't be read goes into an alarm: one chain's damage must not stop the others.
// What it held is then missing from the chain, and no head passes that.
func (a *adder) load(c *chainState, upTo uint64) error {
	rows, err := a.tx.QueryContext(a.ctx, `SELECT first, n, arrived, heads, bodies FROM ahead WHERE host = ? AND chain = ? AND first <= ?`, c.Host, c.Chain, upTo)
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []waiting
	var damaged []events.Record
	var counts []int64
	for rows.Next() {
		var first uint64
		var n, arrived int64
		var heads, bodies []byte
		if err := rows.Scan(&first, &n, &arrived, &heads, &bodies); err != nil {
			return err
		}
		rs, err := a.readWaiting(c.Chain, first, heads, bodies)
		if err != nil {
			b := slices.Concat(binary.AppendUvarint(nil, uint64(len(heads))), heads, bodies)
			damaged = append(damaged, events.Record{Chain: c.Chain, Seq: first, Hash: sha256.Sum256(b), Payload: b})
			counts = append(counts, n)
			continue
		}
		for i := range rs {
			found = append(found, waiting{rs[i], arrived})
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for i := range damaged {
		detail := fmt.Sprintf("%d records, of which it was the first, waited for one in front of them, and can't be read: their block is damaged", counts[i])
		if err := a.refuse(c.Host, &damaged[i], "damaged", detail); err != nil {
			return err
		}
	}
	c.wait = append(found, c.wait...)
	slices.SortStableFunc(c.wait, func(x, y waiting) int { return cmp.Compare(x.Seq, y.Seq) })
	if err := a.exec(`DELETE FROM ahead WHERE host = ? AND chain = ? AND first <= ?`, c.Host, c.Chain, upTo); err != nil {
		return err
	}
	return a.firstWaiting(c)
}

// keepWaiting stores what is still too early; what came together stays together.
func (a *adder) keepWaiting(c *chainState) error {
	slices.SortStableFunc(c.wait, func(x, y waiting) int { return cmp.Compare(x.arrived, y.arrived) })
	for len(c.wait) > 0 {
		n, size := 0, 0
		rs := make([]events.Record, 0, min(len(c.wait), blockRecords))
		for ; n < len(c.wait) && n < blockRecords && c.wait[n].arrived == c.wait[0].arrived; n++ {
			if size += a.weight(&c.wait[n].Record); n > 0 && size > blockBytes {
				break
			}
			rs = append(rs, c.wait[n].Record)
		}
		heads, bodies, err := a.waitingBlock(rs)
		if err != nil {
			return err
		}
		if err := a.store(`INSERT INTO ahead VALUES (?,?,?,?,?,?,?)`, c.Host, c.Chain, rs[0].Seq, n, c.wait[0].arrived, heads, bodies); err != nil {
			return err
		}
		c.wait = c.wait[n:]
	}
	return nil
}

// Settle implements Store.
func (s *DB) Settle(ctx context.Context, before time.Time) ([]Alarm, error) {
	a, err := s.begin(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	defer a.end()
	for {
		r := events.Record{}
		var host string
		err := a.tx.QueryRowContext(ctx, `SELECT host, chain FROM ahead WHERE arrived < ? LIMIT 1`, before.UnixNano()).Scan(&host, &r.Chain)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err == nil {
			err = a.settle(host, &r, before.UnixNano())
		}
		if err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
	}
	_, err = a.commit()
	return a.alarms, err
}

// settle moves the end of a chain to just before the first record that waits,
// which then needs no predecessor, until none has waited for too long.
func (a *adder) settle(host string, r *events.Record, before int64) error {
	c, err := a.chain(host, r)
	if err != nil {
		return err
	}
	for {
		var due bool
		if err := a.one(`SELECT EXISTS (SELECT 1 FROM ahead WHERE host = ? AND chain = ? AND arrived < ?)`, []any{c.Host, c.Chain, before}, &due); err != nil {
			return err
		}
		for i := range c.wait {
			due = due || c.wait[i].arrived < before
		}
		if !due {
			return nil
		}
		first := c.ahead
		if len(c.wait) > 0 && (first == 0 || c.wait[0].Seq < first) {
			first = c.wait[0].Seq
		}
		if err := a.load(c, first); err != nil {
			return err
		}
		if len(c.wait) == 0 || c.wait[0].Seq != first {
			continue // that block is damaged; the next one may wait as well
		}
		if first > c.last+1 { // else it came a second time, in order
			gap := events.Record{Chain: r.Chain, Seq: c.last + 1, Hash: c.lastHash}
			if err := a.alarm(host, &gap, "gap", fmt.Sprintf("records %d to %d are missing", c.last+1, first-1)); err != nil {
				return err
			}
			c.last, c.lastHash, c.moved = first-1, c.wait[0].Prev, true
		}
		if err := a.drain(c); err != nil {
			return err
		}
	}
}
