package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
)

func unixNano(ns int64) time.Time { return time.Unix(0, ns) }

// chainState is what the store knows of a chain.
type chainState struct {
	Head              // the newest record with none missing before it
	last     uint64   // the newest record stored
	lastHash [32]byte //
	ahead    bool     // records wait for one in front of them
	moved    bool
}

// adder is one transaction.
type adder struct {
	ctx    context.Context
	tx     *sql.Tx
	now    time.Time
	chains map[[2]string]*chainState
	alarms []Alarm
	stmts  map[string]*sql.Stmt // of this transaction, by their text
	opened map[[3]string]int64  // host, session and protocol noted in it, with their earliest time
	chunks []events.Chunk       // of a record, for index
}

// Add implements Store.
func (s *SQLite) Add(ctx context.Context, batch []Message, now time.Time) ([]Head, []Alarm, error) {
	a, err := s.begin(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	defer a.tx.Rollback()
	for i := range batch {
		if err := a.add(&batch[i]); err != nil {
			return nil, nil, fmt.Errorf("recorder: store: %w", err)
		}
	}
	heads, err := a.commit()
	return heads, a.alarms, err
}

func (s *SQLite) begin(ctx context.Context, now time.Time) (*adder, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	return &adder{ctx: ctx, tx: tx, now: now, chains: map[[2]string]*chainState{}, stmts: map[string]*sql.Stmt{}, opened: map[[3]string]int64{}}, nil
}

// commit: a crash before it leaves nothing of the batch, which is delivered
// again; a crash after it leaves all, and the second delivery finds it.
func (a *adder) commit() (heads []Head, err error) {
	for _, c := range a.chains {
		if !c.moved {
			continue
		}
		if err := a.exec(`UPDATE chains SET head_seq = ?, head_hash = ?, proved_seq = ?, proved_hash = ? WHERE host = ? AND chain = ?`,
			c.last, c.lastHash[:], c.Seq, c.Hash[:], c.Host, c.Chain); err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
		if c.Seq > 0 {
			heads = append(heads, c.Head)
		}
	}
	if err := a.tx.Commit(); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	return heads, nil
}

// exec runs a statement that is prepared once for the transaction.
func (a *adder) exec(query string, args ...any) error {
	st := a.stmts[query]
	if st == nil {
		var err error
		if st, err = a.tx.PrepareContext(a.ctx, query); err != nil {
			return err
		}
		a.stmts[query] = st // closed with the transaction
	}
	_, err := st.ExecContext(a.ctx, args...)
	return err
}

func (a *adder) add(m *Message) error {
	r := &m.Record
	if m.Err != nil {
		return a.alarm(m.Host, r, "unreadable", m.Err.Error())
	}
	if !r.Intact() {
		return a.alarm(m.Host, r, "changed", "its hash is not that of its content")
	}
	c, err := a.chain(m.Host, r)
	if err != nil {
		return err
	}
	switch {
	case r.Seq <= c.last:
		return a.again(c, r)
	case r.Seq > c.last+1:
		c.ahead = true
		return a.exec(`INSERT OR IGNORE INTO ahead VALUES (?,?,?,?,?,?,?,?,?,?)`, m.Host, r.Chain, r.Seq, r.Kind, r.Protocol, r.Session,
			r.Prev[:], r.Hash[:], bytes(r.Payload), a.now.UnixNano())
	case r.Prev != c.lastHash:
		return a.alarm(m.Host, r, "unlinked", fmt.Sprintf("it does not follow record %d that is stored", c.last))
	}
	if err := a.append(c, r); err != nil || !c.ahead {
		return err
	}
	return a.drain(c)
}

// again handles a record at or before the end: a duplicate, a fork, or one
// that fills a gap late.
func (a *adder) again(c *chainState, r *events.Record) error {
	have, err := a.hash(c, r.Seq)
	switch {
	case err != nil:
		return err
	case have != nil && *have == r.Hash:
		return nil
	case have != nil:
		return a.alarm(c.Host, r, "forked", "another record with this number is stored")
	}
	before, err := a.hash(c, r.Seq-1)
	if err != nil {
		return err
	}
	var after []byte
	err = a.tx.QueryRowContext(a.ctx, `SELECT prev FROM records WHERE host = ? AND chain = ? AND seq = ?`, c.Host, c.Chain, r.Seq+1).Scan(&after)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if before != nil && *before != r.Prev || after != nil && string(after) != string(r.Hash[:]) {
		return a.alarm(c.Host, r, "unlinked", "it does not fit between the records that are stored")
	}
	if err := a.insert(c, r); err != nil {
		return err
	}
	if err := a.alarm(c.Host, r, "late", "it came after the alarm that it was missing"); err != nil {
		return err
	}
	for c.Seq < c.last { // the head moves over what is now complete
		h, err := a.hash(c, c.Seq+1)
		if err != nil {
			return err
		}
		if h == nil {
			break
		}
		c.Seq, c.Hash, c.moved = c.Seq+1, *h, true
	}
	return nil
}

// hash returns the hash of a stored record, nil if there is none. Record 0
// stands before the first.
func (a *adder) hash(c *chainState, seq uint64) (*[32]byte, error) {
	var h [32]byte
	if seq == 0 {
		return &h, nil
	}
	var b []byte
	err := a.tx.QueryRowContext(a.ctx, `SELECT hash FROM records WHERE host = ? AND chain = ? AND seq = ?`, c.Host, c.Chain, seq).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	copy(h[:], b)
	return &h, err
}

// append stores the record behind the last one.
func (a *adder) append(c *chainState, r *events.Record) error {
	if err := a.insert(c, r); err != nil {
		return err
	}
	if c.Seq == c.last && r.Seq == c.last+1 {
		c.Seq, c.Hash = r.Seq, r.Hash
	}
	c.last, c.lastHash, c.moved = r.Seq, r.Hash, true
	return nil
}

func (a *adder) insert(c *chainState, r *events.Record) error {
	packed, payload := pack(r.Payload)
	if err := a.exec(`INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?,?)`, c.Host, r.Chain, r.Seq, r.Kind, r.Protocol, r.Session,
		r.Prev[:], r.Hash[:], packed, bytes(payload)); err != nil {
		return err
	}
	return a.index(c.Host, r)
}

// drain takes in records that waited for the last one.
func (a *adder) drain(c *chainState) error {
	c.ahead = false // so that add does not come back here
	for {
		next := c.last + 1
		n, err := a.judge(c, next)
		if err != nil {
			return err
		}
		if n == 0 || c.last < next { // nothing waits, or none of them was the one
			break
		}
	}
	return a.tx.QueryRowContext(a.ctx, `SELECT EXISTS (SELECT 1 FROM ahead WHERE host = ? AND chain = ?)`, c.Host, c.Chain).Scan(&c.ahead)
}

// judge takes the waiting records with one number as if they had just come.
func (a *adder) judge(c *chainState, seq uint64) (int, error) {
	waiting, err := a.waiting(c, seq)
	if err != nil || len(waiting) == 0 {
		return 0, err
	}
	for i := range waiting {
		if err := a.add(&Message{Host: c.Host, Record: waiting[i]}); err != nil {
			return 0, err
		}
	}
	return len(waiting), a.exec(`DELETE FROM ahead WHERE host = ? AND chain = ? AND seq = ?`, c.Host, c.Chain, seq)
}

func (a *adder) waiting(c *chainState, seq uint64) ([]events.Record, error) {
	rows, err := a.tx.QueryContext(a.ctx, `SELECT kind, protocol, session, prev, hash, payload FROM ahead WHERE host = ? AND chain = ? AND seq = ?`, c.Host, c.Chain, seq)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []events.Record
	for rows.Next() {
		r := events.Record{Chain: c.Chain, Seq: seq}
		var prev, hash []byte
		if err := rows.Scan(&r.Kind, &r.Protocol, &r.Session, &prev, &hash, &r.Payload); err != nil {
			return nil, err
		}
		copy(r.Prev[:], prev)
		copy(r.Hash[:], hash)
		out = append(out, r)
	}
	return out, rows.Err()
}

// chain finds or makes the state of a record's chain.
func (a *adder) chain(host string, r *events.Record) (*chainState, error) {
	key := [2]string{host, r.Chain}
	if c := a.chains[key]; c != nil {
		return c, nil
	}
	c := &chainState{Head: Head{Host: host, Chain: r.Chain}}
	var last, proved []byte
	err := a.tx.QueryRowContext(a.ctx, `SELECT head_seq, head_hash, proved_seq, proved_hash,
		EXISTS (SELECT 1 FROM ahead WHERE ahead.host = chains.host AND ahead.chain = chains.chain)
		FROM chains WHERE host = ? AND chain = ?`, host, r.Chain).Scan(&c.last, &last, &c.Seq, &proved, &c.ahead)
	copy(c.lastHash[:], last)
	copy(c.Hash[:], proved)
	if errors.Is(err, sql.ErrNoRows) {
		err = a.newChain(host, r)
	}
	if err != nil {
		return nil, err
	}
	a.chains[key] = c
	return c, nil
}

func (a *adder) newChain(host string, r *events.Record) error {
	var other string
	err := a.tx.QueryRowContext(a.ctx, `SELECT chain FROM chains WHERE host = ? ORDER BY first_seen DESC LIMIT 1`, host).Scan(&other)
	switch {
	case err == nil:
		err = a.alarm(host, r, "second-chain", fmt.Sprintf("this host already has chain %s: its journal was lost or replaced, or two interceptors have one name", other))
	case errors.Is(err, sql.ErrNoRows):
		err = nil
	}
	if err != nil {
		return err
	}
	var zero [32]byte
	return a.exec(`INSERT INTO chains VALUES (?,?,0,?,0,?,?)`, host, r.Chain, zero[:], zero[:], a.now.UnixNano())
}

// alarm notes an alarm with the record that raised it, once.
func (a *adder) alarm(host string, r *events.Record, what, detail string) error {
	res, err := a.tx.ExecContext(a.ctx, `INSERT OR IGNORE INTO alarms VALUES (?,?,?,?,?,?,?,?)`, a.now.UnixNano(), host, r.Chain, int64(r.Seq), what, detail, r.Hash[:], bytes(r.Payload))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	a.alarms = append(a.alarms, Alarm{a.now, host, r.Chain, r.Seq, what, detail})
	return nil
}

// bytes keeps an empty payload from becoming NULL.
func bytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Settle implements Store.
func (s *SQLite) Settle(ctx context.Context, before time.Time) ([]Alarm, error) {
	a, err := s.begin(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	defer a.tx.Rollback()
	for {
		r := events.Record{}
		var host string
		err := a.tx.QueryRowContext(ctx, `SELECT host, chain, min(seq) FROM ahead WHERE arrived < ? GROUP BY host, chain LIMIT 1`, before.UnixNano()).Scan(&host, &r.Chain, &r.Seq)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err == nil {
			err = a.settle(host, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
	}
	_, err = a.commit()
	return a.alarms, err
}

// settle moves the end of a chain to just before the first record that waits,
// which then needs no predecessor.
func (a *adder) settle(host string, r *events.Record) error {
	c, err := a.chain(host, r)
	if err != nil {
		return err
	}
	var first uint64
	if err := a.tx.QueryRowContext(a.ctx, `SELECT min(seq) FROM ahead WHERE host = ? AND chain = ?`, host, r.Chain).Scan(&first); err != nil {
		return err
	}
	if first <= c.last { // it came a second time, in order
		c.ahead = false
		_, err := a.judge(c, first)
		return err
	}
	if first > c.last+1 {
		gap := events.Record{Chain: r.Chain, Seq: c.last + 1, Hash: c.lastHash}
		if err := a.alarm(host, &gap, "gap", fmt.Sprintf("records %d to %d are missing", c.last+1, first-1)); err != nil {
			return err
		}
		waiting, err := a.waiting(c, first)
		if err != nil || len(waiting) == 0 {
			return err
		}
		c.last, c.lastHash, c.moved = first-1, waiting[0].Prev, true
	}
	return a.drain(c)
}
