package recorder

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// Deletion is a body that was deleted, or is about to be.
type Deletion struct {
	Time    time.Time `json:"time,omitzero"` // when; zero: not yet
	Host    string    `json:"host"`
	Session string    `json:"session"`
	Chain   string    `json:"chain"`
	First   int64     `json:"first"` // number of the first record of its block
	Size    uint64    `json:"size"`  // bytes, as it was stored
	Rule    string    `json:"rule"`
	Keep    string    `json:"keep"`
	Due     time.Time `json:"due"` // since when the rule has it deleted

	name string
	id   int64 // of the alarm that tells it; 0: not yet
}

// Kept is a session of which something is due, and which a hold keeps.
type Kept struct {
	Host    string `json:"host"`
	Session string `json:"session"`
	Hold    int64  `json:"hold"`
}

// PruneReport is what Prune did, or would do.
type PruneReport struct {
	Dry     bool       `json:"dry"`
	Deleted []Deletion `json:"deleted"`
	Held    []Kept     `json:"held"`
	// Missing are bodies that are due and are not where they should be: nothing is noted
	// of them, and Verify names them.
	Missing int `json:"missing"`
	// Unnamed are bodies that no record names, of a recorder that was killed before it
	// stored their records; Swept how many of them were deleted.
	Unnamed int `json:"unnamed"`
	Swept   int `json:"swept"`
}

// PruneOptions are those of Prune.
type PruneOptions struct {
	Retention Retention
	Dry       bool
	// Sweep deletes what no record names and is a day old. No other recorder may have
	// its transcripts in the same place.
	Sweep bool

	// Log is the recorder's own transparency log, against which the record of holds is
	// held before anything is deleted; nil: nothing is.
	Log *Logged
	// Late deletes although nothing was recorded for a month: else the clock is taken
	// for wrong.
	Late bool

	sound *AlarmHead // the newest alarm when all were verified
}

// Prune deletes the transcripts that rules have kept for long enough and no hold
// keeps. Of each it first notes who decided it, on the record; then it deletes. A
// crash between the two leaves bodies that the next Prune deletes.
//
// A body's time begins when its session was closed, or it was stored, whichever is
// later; of a session that was never closed, when it was stored. Clocks of hosts
// can't shorten it.
func (s *DB) Prune(ctx context.Context, o PruneOptions, now time.Time) (PruneReport, error) {
	rep := PruneReport{Dry: o.Dry, Deleted: []Deletion{}, Held: []Kept{}}
	if err := o.Retention.Check(); err != nil {
		return rep, fmt.Errorf("recorder: prune: %w", err)
	}
	if s.apart == nil || s.apart.Store == nil {
		return rep, fmt.Errorf("recorder: prune: %w", ErrElsewhere)
	}
	var some []*pruned // of which something is due
	for after := int64(0); ; {
		page, err := prunedOnes(ctx, s.db, `WHERE id > ? ORDER BY id LIMIT 200`, after)
		if err != nil {
			return rep, fmt.Errorf("recorder: prune: %w", err)
		}
		for _, x := range page {
			d, err := due(ctx, s.db, &o.Retention, x, now)
			if err != nil {
				return rep, fmt.Errorf("recorder: prune: session %s: %w", x.ID, err)
			}
			if len(d) > 0 {
				some = append(some, x)
			}
		}
		if len(page) == 0 || len(some) >= prunedTogether {
			if err := s.pruneSome(ctx, &o, some, now, &rep); err != nil {
				return rep, fmt.Errorf("recorder: prune: %w", err)
			}
			some = nil
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].id
	}
	if err := s.sweep(ctx, &o, now, &rep); err != nil {
		return rep, fmt.Errorf("recorder: prune: %w", err)
	}
	return rep, nil
}

// prunedTogether are so many sessions: nothing is stored while they are deleted.
const prunedTogether = 16

// pruneSome prunes some sessions, a few at a time.
func (s *DB) pruneSome(ctx context.Context, o *PruneOptions, some []*pruned, now time.Time, rep *PruneReport) error {
	for few := range slices.Chunk(some, prunedTogether) {
		if err := s.pruneFew(ctx, o, few, now, rep); err != nil {
			return err
		}
	}
	return nil
}

// pruneFew has one transaction that reads sessions and holds as they are and notes
// what is deleted, and another that looks for holds once more and deletes: while it
// does, nobody makes one.
func (s *DB) pruneFew(ctx context.Context, o *PruneOptions, few []*pruned, now time.Time, rep *PruneReport) error {
	if err := s.sound(ctx, o, now); err != nil {
		return err
	}
	a, list, err := s.beginHeld(ctx, o, now)
	if err != nil {
		return err
	}
	defer a.end()
	var all []Deletion
	for _, x := range few {
		again, err := prunedOnes(ctx, a.tx, `WHERE id = ?`, x.id)
		if err != nil || len(again) == 0 {
			return errors.Join(err, errors.New("the list of sessions was edited meanwhile"))
		}
		x = again[0]
		d, err := due(ctx, a.tx, &o.Retention, x, now)
		if err != nil {
			return fmt.Errorf("session %s: %w", x.ID, err)
		}
		by, err := held(ctx, a.tx, list, x)
		if err != nil {
			return err
		}
		if by != 0 {
			rep.Held = append(rep.Held, Kept{x.Host, x.ID, by})
			continue
		}
		for i := range d {
			switch _, err := s.apart.Store.Get(ctx, d[i].name); {
			case errors.Is(err, transcripts.ErrNone): // removed, or another place was named
				rep.Missing++
			case err != nil:
				return err
			default:
				all = append(all, d[i])
			}
		}
	}
	if o.Dry {
		rep.Deleted = append(rep.Deleted, all...)
		return nil
	}
	for i := range all {
		if err := a.noteDeleted(&all[i]); err != nil {
			return err
		}
	}
	if _, err := a.commit(); err != nil {
		return err
	}
	a.end()
	return s.deleteNoted(ctx, o, all, now, rep)
}

// deleteNoted deletes what is on the record as deleted and what no hold keeps.
func (s *DB) deleteNoted(ctx context.Context, o *PruneOptions, all []Deletion, now time.Time, rep *PruneReport) error {
	if len(all) == 0 {
		return nil
	}
	a, list, err := s.beginHeld(ctx, o, now)
	if err != nil {
		return err
	}
	defer a.end()
	for i := range all {
		d := &all[i]
		was, err := deletionOf(ctx, a.tx, d.Host, d.Chain, d.First, d.name)
		if err == nil && was == nil {
			err = errors.New("nothing more is deleted: the record of a deletion was edited meanwhile")
		}
		if err != nil {
			return err
		}
		by := int64(0)
		if len(list) > 0 {
			x, err := heldAs(ctx, a.tx, d.Host, d.Session)
			if err == nil {
				by, err = held(ctx, a.tx, list, x)
			}
			if err != nil {
				return err
			}
		}
		if by != 0 {
			if k := (Kept{d.Host, d.Session, by}); !slices.Contains(rep.Held, k) {
				rep.Held = append(rep.Held, k)
			}
			continue
		}
		if err := s.apart.Store.Delete(ctx, d.name); err != nil {
			return err
		}
		if d.id == 0 { // else an earlier one told it
			d.Time = now
			rep.Deleted = append(rep.Deleted, *d)
		}
	}
	return nil
}

// heldAs is a session as holds see it.
func heldAs(ctx context.Context, q querier, host, session string) (*pruned, error) {
	some, err := prunedOnes(ctx, q, `WHERE host = ? AND session = ?`, host, session)
	if err != nil || len(some) == 0 {
		return nil, errors.Join(err, fmt.Errorf("session %s is not in the list any more", session))
	}
	in, err := bodyBlocks(ctx, q, some[0])
	if err != nil {
		return nil, err
	}
	return some[0], some[0].learn(ctx, q, in)
}

// sound verifies the record of holds, once: the alarms' links have no key, so that it
// was not cut or made anew is proved by the log.
func (s *DB) sound(ctx context.Context, o *PruneOptions, now time.Time) error {
	if o.sound != nil {
		return nil
	}
	if o.Log == nil && !o.Dry {
		return errors.New("nothing is deleted: there is no transparency log to hold the record of holds against (name its folder: --state)")
	}
	tx, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	head, f, err := verifyAlarms(ctx, tx, nil)
	if err == nil && f == nil && o.Log != nil {
		_, f, err = verifyLog(ctx, tx, o.Log)
	}
	var logged int64
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT coalesce(max(alarm), 0) FROM leaves`).Scan(&logged)
	}
	switch {
	case err != nil:
		return fmt.Errorf("nothing is deleted: the record of holds can't be verified: %w", err)
	case f != nil:
		return fmt.Errorf("nothing is deleted: the record of holds is not sound: %s", f)
	case logged != head.ID:
		return fmt.Errorf("nothing is deleted: the record of holds is not sound: its newest entry is %d, and %d has a place in the log", head.ID, logged)
	}
	if !o.Late && !o.Dry {
		newest, err := newestStored(ctx, tx)
		if err != nil {
			return err
		}
		if now.Sub(newest) > quiet {
			return fmt.Errorf("nothing is deleted: the newest that was recorded is of %s: is the clock right? (where it is: prune --late)", newest.UTC().Format(time.DateOnly))
		}
	}
	o.sound = &head
	return nil
}

// beginHeld begins a transaction, during which nobody makes a hold, and returns the
// holds in force: of a record of which nothing was edited since it was verified. End
// what it returns.
func (s *DB) beginHeld(ctx context.Context, o *PruneOptions, now time.Time) (*adder, []Hold, error) {
	a, err := s.begin(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	var list []Hold
	_, f, err := verifyAlarms(ctx, a.tx, o.sound)
	if f != nil {
		err = fmt.Errorf("nothing is deleted: the record of holds is not sound: %s", f)
	}
	if err == nil {
		list, err = holds(ctx, a.tx, math.MaxInt64)
	}
	if err != nil {
		a.end()
		return nil, nil, err
	}
	return a, list, nil
}

// quiet is how long nothing can have been recorded: hosts send a heartbeat each minute.
const quiet = 30 * day

// newestStored is the newest time that the store knows of, by any clock.
func newestStored(ctx context.Context, q querier) (t time.Time, err error) {
	chains, err := listed(ctx, q)
	if err != nil {
		return t, err
	}
	for _, k := range chains {
		var first int64
		if err := q.QueryRowContext(ctx, `SELECT max(first) FROM blocks WHERE host = ? AND chain = ?`, k[0], k[1]).Scan(&first); err != nil {
			return t, err
		}
		for b, err := range blocks(ctx, q, k[0], k[1], first, first) {
			if err != nil {
				return t, err
			}
			for i := range b.apart {
				if at := b.apart[i].storedAt(); at.After(t) {
					t = at
				}
			}
			for i := range b.records {
				if r := &b.records[i]; r.Kind != 0 {
					if f, err := decode(r); err == nil && f.Time.After(t) {
						t = f.Time
					}
				}
			}
		}
	}
	return t, nil
}

func held(ctx context.Context, q querier, list []Hold, x *pruned) (by int64, err error) {
	for i := range list {
		meets, err := list[i].meets(ctx, q, x)
		if err != nil {
			return 0, err
		}
		if meets {
			return list[i].ID, nil
		}
	}
	return 0, nil
}

// due are the bodies of a session that a rule has deleted, and that are not yet. It
// learns what was said of the session where any can be.
func due(ctx context.Context, q querier, r *Retention, x *pruned, now time.Time) (out []Deletion, err error) {
	in, err := bodyBlocks(ctx, q, x)
	if err != nil {
		return nil, err
	}
	old := func(b *body, keep Age) (since time.Time, is bool) {
		from := b.storedAt()
		if end := x.end(now); end.After(from) {
			from = end
		}
		since = from.Add(time.Duration(keep)).UTC()
		return since, !since.After(now)
	}
	least := r.least()
	if least == forever || !slices.ContainsFunc(in, func(b bodyBlock) bool {
		return slices.ContainsFunc(b.apart, func(y body) bool { _, is := old(&y, least); return is })
	}) {
		return nil, nil
	}
	if err := x.learn(ctx, q, in); err != nil {
		return nil, err
	}
	if r.byRecording() {
		if err := x.learnRecording(ctx, q, in); err != nil {
			return nil, err
		}
	}
	rule, keep := r.of(x)
	if keep == forever {
		return nil, nil
	}
	for _, b := range in {
		for i := range b.apart {
			y := &b.apart[i]
			since, is := old(y, keep)
			if !is {
				continue
			}
			d := Deletion{
				Host: x.Host, Session: x.ID, Chain: b.chain, First: b.first, Size: y.size,
				Rule: rule, Keep: keep.String(), Due: since, name: y.name(x.Host, b.chain, uint64(b.first)),
			}
			was, err := deletionOf(ctx, q, x.Host, b.chain, b.first, d.name)
			if err != nil {
				return nil, err
			}
			if was == nil {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// noteDeleted puts a deletion on the record.
func (a *adder) noteDeleted(d *Deletion) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	r := events.Record{Chain: d.Chain, Seq: uint64(d.First)}
	if _, err := hex.Decode(r.Hash[:], []byte(d.name)); err != nil {
		return err
	}
	return a.note(d.Host, &r, b, actDeleted, fmt.Sprintf("the transcript of session %s in this block was deleted by rule %q, which keeps it for %s", d.Session, d.Rule, d.Keep))
}

// deletionOf returns what is on the record of a body's deletion, nil for nothing.
func deletionOf(ctx context.Context, q querier, host, chain string, first int64, name string) (*Deletion, error) {
	hash, err := hex.DecodeString(name)
	if err != nil {
		return nil, err
	}
	var ns, id int64
	var payload []byte
	err = q.QueryRowContext(ctx, `SELECT id, time, payload FROM alarms WHERE host = ? AND chain = ? AND seq = ? AND what = ? AND hash = ?`, host, chain, first, actDeleted, hash).Scan(&id, &ns, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := new(Deletion)
	if err := json.Unmarshal(payload, d); err != nil {
		return nil, fmt.Errorf("the record of a deletion can't be read: %w", err)
	}
	d.Time, d.id, d.name = unixNano(ns), id, name
	d.Host, d.Chain, d.First = host, chain, first
	return d, nil
}

// Deleted says that a rule had a body deleted.
type Deleted struct{ Deletion }

func (d *Deleted) Error() string {
	return fmt.Sprintf("a piece of it was deleted on %s by rule %q, which keeps it for %s", d.Time.UTC().Format(time.DateOnly), d.Rule, d.Keep)
}

var errMissing = errors.New("a piece of it is missing, and no rule deleted it (sallyport verify says more)")

// tell says of what is missing of a block whether a rule deleted it.
func (b *storedBlock) tell(ctx context.Context, q querier, host, chain string) error {
	for i := range b.apart {
		x := &b.apart[i]
		if !errors.Is(b.lost[x.session], transcripts.ErrNone) {
			continue
		}
		d, err := deletionOf(ctx, q, host, chain, b.first, x.name(host, chain, uint64(b.first)))
		if err != nil {
			return err
		}
		if b.lost[x.session] = errMissing; d != nil {
			b.lost[x.session] = &Deleted{*d}
		}
	}
	return nil
}

// sweep deletes what was on the record as deleted and is there still, and looks for
// what no record names. It believes no row before the record is verified, and no
// deletion that no rule can have made.
func (s *DB) sweep(ctx context.Context, o *PruneOptions, now time.Time, rep *PruneReport) error {
	in, ok := s.apart.Store.(transcripts.Lister)
	if !ok || o.Dry && !o.Sweep {
		return nil
	}
	old := map[string]bool{} // listed before the names are read: what came meanwhile is not among them
	for x, err := range in.List(ctx) {
		if err != nil {
			return err
		}
		if now.Sub(x.Stored) > day {
			old[x.Name] = true
		}
	}
	if len(old) == 0 {
		return nil
	}
	var again []Deletion
	for x, err := range namedBodies(ctx, s.db) {
		if err != nil {
			return err
		}
		if !old[x.name] {
			continue
		}
		delete(old, x.name)
		d, err := deletionOf(ctx, s.db, x.host, x.chain, x.first, x.name)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		why, err := d.wrong(ctx, s.db, &x.body)
		if err != nil {
			return err
		}
		if why != "" {
			return fmt.Errorf("nothing more is deleted: the transcript of session %s in the block of record %d: %s", x.session, x.first, why)
		}
		again = append(again, *d)
	}
	rep.Unnamed = len(old)
	if len(again) == 0 && (len(old) == 0 || !o.Sweep) {
		return nil
	}
	if err := s.sound(ctx, o, now); err != nil {
		return err
	}
	if !o.Dry {
		for few := range slices.Chunk(again, prunedTogether) {
			if err := s.deleteNoted(ctx, o, few, now, rep); err != nil {
				return err
			}
		}
	}
	if !o.Sweep {
		return nil
	}
	for name := range old {
		if rep.Swept++; o.Dry {
			continue
		}
		if err := s.apart.Store.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
