package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

func unixNano(ns int64) time.Time { return time.Unix(0, ns) }

// chainState is what the store knows of a chain.
type chainState struct {
	Head              // the newest record with none missing before it
	last     uint64   // the newest record stored
	lastHash [32]byte //
	moved    bool

	next  []events.Record // taken, and not in a block yet: they follow each other
	size  int             // bytes of their payloads, also of those that are encrypted
	wait  []waiting       // for one in front of them, by number
	ahead uint64          // the least number of those that the store keeps waiting; 0: none
	seen  []events.Record // heads of the block that was looked at last

	signer *signer // nil: not looked at yet
}

// adder is one transaction.
type adder struct {
	ctx      context.Context
	tx       *sql.Tx
	now      time.Time
	chains   map[[2]string]*chainState
	sessions map[[2]string]*sessionState
	foreseen map[[2]string]*sessionState // as they were before: see foresee
	latest   *sessionState               // the one that was looked at last
	alarms   []Alarm
	embedded bool
	stmts    map[string]*sql.Stmt // of this transaction, by their text
	w        *blockWriter
	look     looker

	hosts   events.HostKeys          // nil: the first one that a chain names is trusted
	vouches Voucher                  // nil: no identity's word for a key counts
	apart   *Transcripts             // nil: transcripts are kept in blocks
	waiting map[[32]byte]waitingPart // by the record's hash
	putting context.Context          // ends with the caller's: the store of transcripts may hang
	put     putNames                 // bodies that go if this does not become anything

	logged    bool                // blocks and alarms get their place in the log
	refused   map[string]*refused // by host
	lastAlarm *alarmEnd           // nil: not known yet
}

// Add implements Store.
func (s *DB) Add(ctx context.Context, batch []Message, now time.Time) ([]Head, []Alarm, error) {
	a, err := s.begin(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	defer a.end()
	if err := a.addAll(batch); err != nil {
		return nil, nil, fmt.Errorf("recorder: store: %w", err)
	}
	heads, err := a.commit()
	return heads, a.alarms, err
}

func (s *DB) begin(ctx context.Context, now time.Time) (*adder, error) {
	tx, err := s.db.BeginTx(ctx, &s.kind.write)
	if err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	// The transaction as a whole ends with ctx; to watch it at each statement
	// takes a goroutine each time.
	within := ctx
	if s.kind.embedded {
		within = context.WithoutCancel(ctx)
	}
	a := newAdder(within, tx, &s.glance, now)
	a.embedded = s.kind.embedded
	// A trigger that somebody made meanwhile could take away what is stored.
	for _, f := range [...]func(context.Context, *sql.Tx) error{s.kind.lock, s.kind.layout} {
		if err := f(a.ctx, tx); err != nil {
			a.end()
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
	}
	a.logged, a.hosts, a.vouches, a.apart, a.putting = true, s.hosts, s.vouch, s.apart, ctx
	return a, nil
}

func newAdder(ctx context.Context, tx *sql.Tx, glance *ocsf.Glancer, now time.Time) *adder {
	return &adder{
		ctx: ctx, tx: tx, now: now, putting: ctx, chains: map[[2]string]*chainState{}, sessions: map[[2]string]*sessionState{},
		embedded: true, stmts: map[string]*sql.Stmt{}, w: writers.Get().(*blockWriter), look: looker{glance: glance},
		refused: map[string]*refused{},
	}
}

// end gives back what commit has not taken.
func (a *adder) end() {
	if a.w == nil {
		return
	}
	a.tx.Rollback()
	a.unput()
	a.w.waiting = nil
	writers.Put(a.w)
	a.w = nil
}

// commit: a crash before it leaves nothing of the batch, which is delivered
// again; a crash after it leaves all, and the second delivery finds it.
func (a *adder) commit() (heads []Head, err error) {
	for _, c := range a.chains {
		if err := a.flush(c); err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
		if err := a.keepWaiting(c); err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
		if err := a.keepSigner(c); err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
		if !c.moved {
			continue
		}
		if err := a.store(`UPDATE chains SET head_seq = ?, head_hash = ?, proved_seq = ?, proved_hash = ? WHERE host = ? AND chain = ?`,
			c.last, c.lastHash[:], c.Seq, c.Hash[:], c.Host, c.Chain); err != nil {
			return nil, fmt.Errorf("recorder: store: %w", err)
		}
		if c.Seq > 0 {
			heads = append(heads, c.Head)
		}
	}
	if err := a.keep(a.sessions); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	if err := a.keepAlarms(); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	a.put.names = nil // from here on it may have become something
	if err := a.tx.Commit(); err != nil {
		return nil, fmt.Errorf("recorder: store: %w", err)
	}
	return heads, nil
}

// prepared returns a statement that is prepared once for the transaction.
func (a *adder) prepared(query string) (*sql.Stmt, error) {
	if st := a.stmts[query]; st != nil {
		return st, nil
	}
	st, err := a.tx.PrepareContext(a.ctx, query)
	if err == nil {
		a.stmts[query] = st // closed with the transaction
	}
	return st, err
}

func (a *adder) exec(query string, args ...any) error {
	_, err := a.do(query, args)
	return err
}

func (a *adder) do(query string, args []any) (sql.Result, error) {
	if !a.embedded {
		return a.tx.ExecContext(a.ctx, query, args...)
	}
	st, err := a.prepared(query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(a.ctx, args...)
}

// store is exec of what writes one row, no less.
func (a *adder) store(query string, args ...any) error {
	res, err := a.do(query, args)
	if err != nil {
		return err
	}
	return stored(res, 1)
}

// stored judges whether so many rows were written.
func stored(res sql.Result, want int) error {
	n, err := res.RowsAffected()
	if err == nil && n != int64(want) {
		err = notWritten(n, want)
	}
	return err
}

func notWritten(n int64, want int) error {
	return fmt.Errorf("of %d rows %d were written: somebody edited the store", want, n)
}

// one reads one row; sql.ErrNoRows where there is none.
func (a *adder) one(query string, args []any, to ...any) error {
	if !a.embedded {
		return a.tx.QueryRowContext(a.ctx, query, args...).Scan(to...)
	}
	st, err := a.prepared(query)
	if err != nil {
		return err
	}
	return st.QueryRowContext(a.ctx, args...).Scan(to...)
}

func (a *adder) addAll(batch []Message) error {
	if err := a.foresee(batch); err != nil {
		return err
	}
	for i := range batch {
		if err := a.add(&batch[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *adder) add(m *Message) error {
	r := &m.Record
	if m.Err != nil {
		return a.refuse(m.Host, r, "unreadable", m.Err.Error())
	}
	if err := r.CheckNames(); err != nil { // one host's names must not stop the others
		return a.refuse(m.Host, &events.Record{Seq: r.Seq, Hash: r.Hash, Payload: r.Payload}, "unreadable", err.Error())
	}
	if !r.Intact() {
		return a.refuse(m.Host, r, "changed", "its hash is not that of its content")
	}
	c, err := a.chain(m.Host, r)
	if err != nil {
		return err
	}
	if err := a.take(c, r, a.now.UnixNano()); err != nil {
		return err
	}
	return a.drain(c)
}

// take judges a record, whose hash is right, by its place in the chain.
func (a *adder) take(c *chainState, r *events.Record, arrived int64) error {
	switch {
	case r.Seq <= c.last:
		err := a.again(c, r)
		a.placed(r)
		return err
	case r.Seq > c.last+1:
		c.await(r, arrived)
		return nil
	case r.Prev != c.lastHash:
		err := a.refuse(c.Host, r, "unlinked", fmt.Sprintf("it does not follow record %d that is stored", c.last))
		a.placed(r)
		return err
	}
	return a.append(c, r)
}

// again handles a record at or before the end: a duplicate, a fork, or one
// that fills a gap late.
func (a *adder) again(c *chainState, r *events.Record) error {
	have, err := a.stored(c, r.Seq)
	switch {
	case errors.Is(err, errBlock):
		// It may be stored there, or not: it is kept apart until somebody looks.
		return a.refuse(c.Host, r, "damaged", fmt.Sprintf("whether it is stored can't be told: %v", err))
	case err != nil:
		return err
	case have != nil && have.Hash == r.Hash:
		return nil
	case have != nil:
		return a.refuse(c.Host, r, "forked", "another record with this number is stored")
	}
	// Of a neighbour in a damaged block nothing is known: Verify names that one.
	before, err := a.stored(c, r.Seq-1)
	if err != nil && !errors.Is(err, errBlock) {
		return err
	}
	after, err := a.stored(c, r.Seq+1)
	if err != nil && !errors.Is(err, errBlock) {
		return err
	}
	if before != nil && before.Hash != r.Prev || after != nil && after.Prev != r.Hash {
		return a.refuse(c.Host, r, "unlinked", "it does not fit between the records that are stored")
	}
	if err := a.insert(c, []events.Record{*r}); err != nil {
		return err
	}
	if err := a.alarm(c.Host, r, "late", "it came after the alarm that it was missing"); err != nil {
		return err
	}
	for c.Seq < c.last { // the head moves over what is now complete
		h, err := a.stored(c, c.Seq+1)
		if err != nil && !errors.Is(err, errBlock) {
			return err
		}
		if h == nil {
			break // missing, or not to be read: no receipt for what is behind it
		}
		c.Seq, c.Hash, c.moved = h.Seq, h.Hash, true
	}
	return nil
}

// stored returns a record of the store without its payload, nil if there is
// none. Record 0, with a zero hash, stands before the first.
func (a *adder) stored(c *chainState, seq uint64) (*events.Record, error) {
	if seq == 0 {
		return &events.Record{}, nil
	}
	if r := at(c.next, seq); r != nil {
		return r, nil
	}
	if r := at(c.seen, seq); r != nil {
		return r, nil
	}
	var first uint64
	var last int64
	var heads []byte
	err := a.one(`SELECT first, last, heads FROM blocks WHERE host = ? AND chain = ? AND first <= ? AND first >= 1 ORDER BY first DESC LIMIT 1`,
		[]any{c.Host, c.Chain, seq}, &first, &last, &heads)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := readHeads(c.Chain, first, heads)
	if c.seen = h.records; err != nil {
		if last < int64(min(seq, math.MaxInt64)) {
			return nil, nil // nor does the row say that it holds this one
		}
		return nil, fmt.Errorf("host %s, chain %s, block of record %d: %w", c.Host, c.Chain, first, err)
	}
	return at(c.seen, seq), nil
}

// at finds a record among some that follow each other.
func at(rs []events.Record, seq uint64) *events.Record {
	if len(rs) == 0 || seq < rs[0].Seq || seq-rs[0].Seq >= uint64(len(rs)) {
		return nil
	}
	return &rs[seq-rs[0].Seq]
}

// append stores the record behind the last one.
func (a *adder) append(c *chainState, r *events.Record) error {
	if n := len(c.next); n > 0 && (c.next[n-1].Seq+1 != r.Seq || n >= blockRecords || c.size+a.weight(r) > blockBytes) {
		if err := a.flush(c); err != nil {
			return err
		}
	}
	c.next, c.size = append(c.next, *r), c.size+a.weight(r)
	if c.Seq == c.last && r.Seq == c.last+1 {
		c.Seq, c.Hash = r.Seq, r.Hash
	}
	c.last, c.lastHash, c.moved = r.Seq, r.Hash, true
	return a.index(c, r)
}

// flush puts what was taken into a block.
func (a *adder) flush(c *chainState) error {
	if len(c.next) == 0 {
		return nil
	}
	err := a.write(c, c.next)
	for i := range c.next {
		a.placed(&c.next[i])
	}
	c.next, c.size = nil, 0
	return err
}

// insert stores records that follow each other in a block of their own.
func (a *adder) insert(c *chainState, rs []events.Record) error {
	if err := a.write(c, rs); err != nil {
		return err
	}
	for i := range rs {
		if err := a.index(c, &rs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *adder) write(c *chainState, rs []events.Record) error {
	apart, err := a.putApart(c, rs)
	if err != nil {
		return err
	}
	heads, bodies := a.w.block(rs, apart...)
	if err := a.store(`INSERT INTO blocks VALUES (?,?,?,?,?,?)`, c.Host, c.Chain, rs[0].Seq, rs[len(rs)-1].Seq, heads, bodies); err != nil {
		return err
	}
	return a.leaf(c.Host, c.Chain, rs[0].Seq, 0)
}

// chain finds or makes the state of a record's chain.
func (a *adder) chain(host string, r *events.Record) (*chainState, error) {
	key := [2]string{host, r.Chain}
	if c := a.chains[key]; c != nil {
		return c, nil
	}
	c := &chainState{Head: Head{Host: host, Chain: r.Chain}}
	var last, proved []byte
	err := a.one(`SELECT head_seq, head_hash, proved_seq, proved_hash FROM chains WHERE host = ? AND chain = ?`,
		[]any{host, r.Chain}, &c.last, &last, &c.Seq, &proved)
	copy(c.lastHash[:], last)
	copy(c.Hash[:], proved)
	if errors.Is(err, sql.ErrNoRows) {
		err = a.newChain(host, r)
	}
	if err == nil {
		err = a.firstWaiting(c)
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
	return a.store(`INSERT INTO chains VALUES (?,?,0,?,0,?,?)`, host, r.Chain, zero[:], zero[:], a.now.UnixNano())
}
