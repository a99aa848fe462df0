package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Who is to approve a statement is told how many rows the server's planner expects.
// The session itself asks, by EXPLAIN without ANALYZE, as whom the statement would run:
// what is asked so runs nothing of it, in a transaction that may not write and is taken
// back, with a limit on its time and on its waiting for locks. A statement whose
// planning could run more than what is built in is not asked about, nor is one inside
// of what the question would disturb.

const (
	maxEstimated   = 16 << 10 // bytes of a statement
	maxEstimateRow = 1 << 20  // bytes of a plan
	maxKin         = 200      // relations with rows in common, to plan for
)

// shielded has what follows in a transaction, or behind a savepoint, change nothing and
// end soon. In place of SET LOCAL, which warns outside of a block.
const shielded = `SELECT pg_catalog.set_config('transaction_read_only', 'on', true), pg_catalog.set_config('lock_timeout', '500ms', true), pg_catalog.set_config('statement_timeout', '2s', true)`

// unknownRows is of a statement of which nobody can tell.
func unknownRows(why string) policy.Estimate { return policy.Estimate{Unknown: why} }

// estimate implements policy.Request.Estimate.
func (c *conn) estimate(context.Context) policy.Estimate {
	w := &c.wording
	if w.st == nil || !w.st.an.Plain || w.st.an.Opaque != "" {
		return unknownRows("planning it could run more than what is built in")
	}
	q := inquiry{most: maxEstimateRow}
	if w.binds == nil {
		q.sql = string(w.st.appendSQL(nil, bytesOf(c.req.Text), c.lits))
	} else {
		var err error
		if q.sql, q.types = w.sent, w.types; q.sql == "" {
			return unknownRows("its text is not known")
		}
		if q.with, err = unnamed(w.binds); err != nil {
			return unknownRows("its parameters are not understood")
		}
	}
	if len(q.sql)+len(q.with) > maxEstimated || len(w.st.an.Kin) > maxKin {
		return unknownRows("it is too large to ask about")
	}
	q.sql = "EXPLAIN (FORMAT JSON) " + q.sql
	rows, why := c.askPlan(q)
	if why != "" {
		return unknownRows(why)
	}
	e, err := readPlan(rows)
	if err != nil {
		return unknownRows("the plan is not understood")
	}
	return e
}

// unnamed is a Bind's body without its names and its formats of results.
func unnamed(binds []byte) ([]byte, error) {
	m := cursor{b: binds}
	m.str()
	m.str()
	from := m.b
	m.take(2 * m.count())
	for range m.count() {
		if size := m.int32(); size >= 0 {
			m.take(int(size))
		}
	}
	if m.bad {
		return nil, malformed('B')
	}
	return append(slices.Clone(from[:len(from)-len(m.b)]), 0, 0), nil
}

// askPlan asks, and returns why it did not.
func (c *conn) askPlan(q inquiry) (query.Rows, string) {
	const failed, gone, together = "the server did not say", "the server answers no more", "it is one of several statements that run together"
	if c.barrier() != nil {
		return nil, gone
	}
	if c.carried() {
		return nil, together
	}
	if c.batch {
		if c.begun || c.dead {
			return nil, together
		}
		// What was only parsed stays so behind a Sync.
		if c.queue.skips() {
			return nil, failed
		}
		if c.ownSync() != nil || c.barrier() != nil {
			return nil, gone
		}
	}
	c.queue.mu.Lock()
	idle, stuck := c.queue.idle, c.queue.failed || c.queue.skipping || c.queue.over
	c.queue.mu.Unlock()
	switch {
	case stuck:
		return nil, failed
	case idle: // the Sync behind them ends their transaction
		rows, err := c.inquire(inquiry{sql: shielded}, q)
		if err != nil {
			return nil, failed
		}
		return rows[1], ""
	}
	// Where a transaction sees the rows as of its first query, a question begins that.
	level, err := c.inquire(inquiry{sql: "SHOW transaction_isolation"})
	if err != nil || len(level) != 1 || len(level[0]) != 1 || len(level[0][0]) != 1 {
		return nil, failed
	}
	if string(level[0][0][0]) != "read committed" {
		return nil, "its transaction is not READ COMMITTED"
	}
	point := ownName()
	q.back = true
	rows, err := c.inquire(inquiry{sql: "SAVEPOINT " + point}, inquiry{sql: shielded, back: true}, q)
	if _, back := c.inquire(inquiry{sql: "ROLLBACK TO SAVEPOINT " + point}, inquiry{sql: "RELEASE SAVEPOINT " + point}); back != nil || err != nil {
		return nil, failed
	}
	return rows[2], ""
}

// plan is a node of what EXPLAIN prints (explain.c, ExplainNode).
type plan struct {
	Type   string  `json:"Node Type"`
	Parent string  `json:"Parent Relationship"`
	Rows   float64 `json:"Plan Rows"`
	Plans  []plan  `json:"Plans"`
}

// readPlan takes the numbers out of a plan.
func readPlan(rows query.Rows) (e policy.Estimate, err error) {
	var top []struct{ Plan *plan }
	if len(rows) != 1 || len(rows[0]) != 1 || json.Unmarshal(rows[0][0], &top) != nil || len(top) != 1 || top[0].Plan == nil {
		return e, errors.New("postgres: what EXPLAIN says is not understood")
	}
	p := top[0].Plan
	if p.Type != modifyTable {
		e.Returned = whole(p.Rows)
	}
	e.Changed = whole(p.changed())
	return e, nil
}

const modifyTable = "ModifyTable"

// changed is how many rows a plan gives to what changes them.
func (p *plan) changed() (n float64) {
	for i := range p.Plans {
		sub := &p.Plans[i]
		if p.Type == modifyTable && (sub.Parent == "Outer" || sub.Parent == "Member") {
			n += sub.Rows
		}
		n += sub.changed()
	}
	return n
}

func whole(n float64) int64 { return int64(min(max(n, 0), 1e15)) }
