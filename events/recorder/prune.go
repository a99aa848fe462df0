package recorder

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
	// Unnamed are bodies that no record names, of a recorder that was killed before it
	// stored their records; Swept how many of them were deleted.
	Unnamed int `json:"unnamed"`
	Swept   int `json:"swept"`
}

// pruned is a session as rules and holds see it.
type pruned struct {
	id int64
	Session
	verdicts int64
}

// PruneOptions are those of Prune.
type PruneOptions struct {
	Retention Retention
	Dry       bool
	// Sweep deletes what no record names and is a day old. No other recorder may have
	// its transcripts in the same place.
	Sweep bool

	sound bool // the record of holds was verified
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
	for after := int64(0); ; {
		some, err := s.prunable(ctx, after, now.Add(-time.Duration(min(o.Retention.least(), Age(now.UnixNano())))))
		if err != nil {
			return rep, fmt.Errorf("recorder: prune: %w", err)
		}
		if len(some) == 0 {
			break
		}
		after = some[len(some)-1].id
		if err := s.pruneSome(ctx, &o, some, now, &rep); err != nil {
			return rep, fmt.Errorf("recorder: prune: %w", err)
		}
	}
	if err := s.sweep(ctx, &o, now, &rep); err != nil {
		return rep, fmt.Errorf("recorder: prune: %w", err)
	}
	return rep, nil
}

// prunable are the next few sessions that were opened before a time.
func (s *DB) prunable(ctx context.Context, after int64, before time.Time) (out []*pruned, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, host, session, protocol, resource, workload, actor, principal, opened, closed, verdicts
		FROM sessions WHERE id > ? AND opened < ? ORDER BY id LIMIT 200`, after, before.UnixNano())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		x := new(pruned)
		var opened, closed int64
		if err := rows.Scan(&x.id, &x.Host, &x.ID, &x.Protocol, &x.Resource, &x.Workload, &x.Actor, &x.Principal, &opened, &closed, &x.verdicts); err != nil {
			return nil, err
		}
		x.Opened = unixNano(opened)
		if closed != 0 {
			t := unixNano(closed)
			x.Closed = &t
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

// pruneSome prunes some sessions: one transaction has the holds as they are, and the
// record of what is deleted.
func (s *DB) pruneSome(ctx context.Context, o *PruneOptions, some []*pruned, now time.Time, rep *PruneReport) error {
	var due []Deletion
	of := map[*pruned][]Deletion{}
	for _, x := range some {
		d, err := s.due(ctx, &o.Retention, x, now)
		if err != nil {
			return fmt.Errorf("session %s: %w", x.ID, err)
		}
		if len(d) > 0 {
			of[x] = d
		}
	}
	if len(of) == 0 {
		return nil
	}
	a, err := s.begin(ctx, now)
	if err != nil {
		return err
	}
	defer a.end()
	if !o.sound { // a hold that somebody removed would not hold
		if _, f, err := verifyAlarms(ctx, a.tx, nil); err != nil || f != nil {
			if f != nil {
				err = fmt.Errorf("nothing is deleted: the record of holds is not sound: %s", f)
			}
			return err
		}
		o.sound = true
	}
	list, err := holds(ctx, a.tx)
	if err != nil {
		return err
	}
	for _, x := range some {
		if of[x] == nil {
			continue
		}
		by, err := held(ctx, a.tx, list, x)
		if err != nil {
			return err
		}
		if by != 0 {
			rep.Held = append(rep.Held, Kept{x.Host, x.ID, by})
			continue
		}
		due = append(due, of[x]...)
	}
	if o.Dry {
		rep.Deleted = append(rep.Deleted, due...)
		return nil
	}
	for i := range due {
		if err := a.noteDeleted(&due[i]); err != nil {
			return err
		}
	}
	if _, err := a.commit(); err != nil {
		return err
	}
	for i := range due {
		if err := s.apart.Store.Delete(ctx, due[i].name); err != nil {
			return err
		}
		due[i].Time = now
		rep.Deleted = append(rep.Deleted, due[i])
	}
	return nil
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

// due are the bodies of a session that a rule has deleted, and that are not yet.
func (s *DB) due(ctx context.Context, r *Retention, x *pruned, now time.Time) (out []Deletion, err error) {
	rule, keep := r.of(x)
	if keep == forever {
		return nil, nil
	}
	spans, err := s.spans(ctx, x.Session)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, p := range spans {
		for b, err := range blocks(ctx, s.db, x.Host, p.chain, int64(p.first), int64(p.last)) {
			if err != nil {
				return nil, err
			}
			for i := range b.apart {
				y := &b.apart[i]
				if y.session != x.ID {
					continue
				}
				from := y.storedAt()
				if x.Closed != nil && x.Closed.After(from) {
					from = *x.Closed
				}
				d := Deletion{
					Host: x.Host, Session: x.ID, Chain: p.chain, First: b.first, Size: y.size,
					Rule: rule, Keep: keep.String(), Due: from.Add(time.Duration(keep)).UTC(), name: y.name(x.Host, p.chain, uint64(b.first)),
				}
				if seen[d.name] || d.Due.After(now) {
					continue
				}
				seen[d.name] = true
				switch was, err := deletionOf(ctx, s.db, x.Host, p.chain, b.first, d.name); {
				case err != nil:
					return nil, err
				case was == nil:
					out = append(out, d)
				}
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
	var ns int64
	var payload []byte
	err = q.QueryRowContext(ctx, `SELECT time, payload FROM alarms WHERE host = ? AND chain = ? AND seq = ? AND what = ? AND hash = ?`, host, chain, first, actDeleted, hash).Scan(&ns, &payload)
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
	d.Time = unixNano(ns)
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
// what no record names.
func (s *DB) sweep(ctx context.Context, o *PruneOptions, now time.Time, rep *PruneReport) error {
	in, ok := s.apart.Store.(transcripts.Lister)
	if !ok || o.Dry && !o.Sweep {
		return nil
	}
	var old []string // listed before the names are read: what came meanwhile is not among them
	for x, err := range in.List(ctx) {
		if err != nil {
			return err
		}
		if now.Sub(x.Stored) > day {
			old = append(old, x.Name)
		}
	}
	if len(old) == 0 {
		return nil
	}
	named := map[string]bool{}
	for x, err := range namedBodies(ctx, s.db) {
		if err != nil {
			return err
		}
		named[x.name] = true
	}
	gone, err := s.deletedNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range old {
		switch {
		case gone[name]:
		case named[name]:
			continue
		default:
			if rep.Unnamed++; !o.Sweep {
				continue
			}
			rep.Swept++
		}
		if o.Dry {
			continue
		}
		if err := s.apart.Store.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *DB) deletedNames(ctx context.Context) (map[string]bool, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT hash FROM alarms WHERE what = ?`, actDeleted)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var hash []byte
		if err := rows.Scan(&hash); err != nil {
			return nil, err
		}
		out[hex.EncodeToString(hash)] = true
	}
	return out, rows.Err()
}
