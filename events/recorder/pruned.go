package recorder

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// pruned is a session as rules and holds see it.
type pruned struct {
	id int64
	Session
	verdicts int64

	// What its records ever said of it, each thing once: a host that says another thing
	// later, or behind the close, takes no session from a rule or a hold.
	protocols, resources, workloads, actors, principals []string
	// What its transcript holds: both of recordingFull and recordingStatement where its
	// records leave that open. Empty: nobody asked.
	recordings []string
	// By the recorder's clock, when its first body and its last were stored; zero: none.
	from, to time.Time
}

// end is when a session was closed, zero if it was not: a host that says so of a time to
// come, by more than a clock can be wrong, says nothing, and its last body counts.
func (x *pruned) end(now time.Time) time.Time {
	switch {
	case x.Closed == nil:
		return time.Time{}
	case x.Closed.After(now.Add(day)):
		return x.to
	}
	return *x.Closed
}

const prunedRow = `SELECT id, host, session, protocol, resource, workload, actor, principal, opened, closed, verdicts FROM sessions `

// prunedOnes reads sessions.
func prunedOnes(ctx context.Context, q querier, rest string, args ...any) (out []*pruned, err error) {
	rows, err := q.QueryContext(ctx, prunedRow+rest, args...)
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

// bodyBlock is a block with what it says of one session.
type bodyBlock struct {
	chain string
	first int64
	apart []body // the session's: one, or none
	tells bool   // it has events that name the session's identity
	says  bool   // it has statements, or how they ended
	ends  bool   // it has one that ends it
}

// bodyBlocks are the blocks that have records of a session, by their heads alone.
func bodyBlocks(ctx context.Context, q querier, x *pruned) (out []bodyBlock, err error) {
	spans, err := spansOf(ctx, q, x.id)
	if err != nil {
		return nil, err
	}
	for _, p := range spans {
		start := int64(p.first)
		if err := q.QueryRowContext(ctx, `SELECT coalesce(max(first), ?3) FROM blocks WHERE host = ?1 AND chain = ?2 AND first <= ?3`, x.Host, p.chain, start).Scan(&start); err != nil {
			return nil, err
		}
		some, err := blockHeadsOf(ctx, q, x, p.chain, start, int64(p.last))
		if err != nil {
			return nil, err
		}
		for _, b := range some {
			if !slices.ContainsFunc(out, func(o bodyBlock) bool { return o.chain == b.chain && o.first == b.first }) {
				out = append(out, b)
			}
		}
	}
	return out, nil
}

func blockHeadsOf(ctx context.Context, q querier, x *pruned, chain string, from, to int64) (out []bodyBlock, err error) {
	rows, err := q.QueryContext(ctx, `SELECT first, heads FROM blocks WHERE host = ? AND chain = ? AND first >= ? AND first <= ? ORDER BY first`, x.Host, chain, from, to)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		b := bodyBlock{chain: chain}
		var heads []byte
		if err := rows.Scan(&b.first, &heads); err != nil {
			return nil, err
		}
		h, err := readHeads(chain, uint64(b.first), heads)
		if err != nil {
			return nil, fmt.Errorf("block of record %d: %w (sallyport verify says more)", b.first, err)
		}
		for i := range h.apart {
			if h.apart[i].session == x.ID {
				b.apart = append(b.apart, h.apart[i])
			}
		}
		for i := range h.records {
			if r := &h.records[i]; r.Session == x.ID {
				b.tells = b.tells || r.Kind == events.SessionOpen || r.Kind == events.Login
				b.says = b.says || r.Kind == events.Statement || r.Kind == events.Response || r.Kind == events.Block
				b.ends = b.ends || r.Kind == events.SessionClose || r.Kind == events.Login
				addOnce(&x.protocols, r.Protocol)
			}
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

func addOnce(to *[]string, s string) {
	if s != "" && !slices.Contains(*to, s) {
		*to = append(*to, s)
	}
}

// learn fills in what the records of a session ever said of it, and when its bodies
// were stored.
func (x *pruned) learn(ctx context.Context, q querier, in []bodyBlock) error {
	addOnce(&x.protocols, x.Protocol)
	tell := func(resource, workload, actor, principal string) {
		addOnce(&x.resources, resource)
		addOnce(&x.workloads, workload)
		addOnce(&x.actors, actor)
		addOnce(&x.principals, principal)
	}
	tell(x.Resource, x.Workload, x.Actor, x.Principal)
	for i := range in {
		for k := range in[i].apart {
			at := in[i].apart[k].storedAt()
			if x.from.IsZero() || at.Before(x.from) {
				x.from = at
			}
			if at.After(x.to) {
				x.to = at
			}
		}
		if !in[i].tells {
			continue
		}
		for b, err := range blocks(ctx, q, x.Host, in[i].chain, in[i].first, in[i].first) {
			if err == nil && b.first == in[i].first {
				err = b.err
			}
			if err != nil {
				return err
			}
			for k := range b.records {
				r := &b.records[k]
				if r.Session != x.ID || r.Kind != events.SessionOpen && r.Kind != events.Login {
					continue
				}
				if f, err := decode(r); err == nil { // else it says nothing, and there is an alarm
					tell(f.Who.Resource, f.Who.Workload, f.Who.Actor, f.Who.Principal)
				}
			}
		}
	}
	return nil
}

// learnRecording fills in what the transcript of a session holds, as its events say
// that results were recorded. Where one does not say how a statement ended, rows may
// have been.
func (x *pruned) learnRecording(ctx context.Context, q querier, in []bodyBlock) error {
	x.recordings = nil
	asked, ended := map[string]uint64{}, map[string]uint64{} // numbers of statements, by chain
	full, open, told := false, false, false
	for i := range in {
		if !in[i].says {
			continue
		}
		chain := in[i].chain
		for b, err := range blocks(ctx, q, x.Host, chain, in[i].first, in[i].first) {
			if err == nil && b.first == in[i].first {
				err = b.err
			}
			if err != nil {
				return err
			}
			for k := range b.records {
				r := &b.records[k]
				if r.Session != x.ID || r.Kind != events.Statement && r.Kind != events.Response && r.Kind != events.Block {
					continue
				}
				f, err := decode(r)
				if err != nil {
					open = true
					continue
				}
				full = full || f.Recorded > 0
				open = open || f.Status == "interrupted"
				told = true
				asked[chain] = max(asked[chain], f.Number)
				if f.Status != "" || r.Kind == events.Block {
					ended[chain] = max(ended[chain], f.Number)
				}
			}
		}
	}
	for chain, n := range asked {
		open = open || n > ended[chain]
	}
	open = open || !told // no event tells of what it has
	if full || open {
		x.recordings = append(x.recordings, recordingFull)
	}
	if !full {
		x.recordings = append(x.recordings, recordingStatement)
	}
	return nil
}

// may and must report whether what was said of a session is what is wanted: once, or
// always. Nothing is wanted with "".
func may(want string, said ...[]string) bool {
	return want == "" || slices.ContainsFunc(said, func(s []string) bool { return slices.Contains(s, want) })
}

func must(want string, said ...[]string) bool {
	return want == "" || slices.ContainsFunc(said, func(s []string) bool { return len(s) == 1 && s[0] == want })
}

// of is the rule for a session. Where its records said more than one thing of it, it is
// of the rules that may be for it the one that keeps longest.
func (r *Retention) of(x *pruned) (rule string, keep Age) {
	longer := func(name string, k Age) {
		if rule == "" || k > keep {
			rule, keep = name, k
		}
	}
	for i := range r.Rules {
		u := &r.Rules[i]
		is := func(is func(string, ...[]string) bool) bool {
			return (u.Host == "" || u.Host == x.Host) && (u.Verdict == "" || x.verdicts&verdictBit(u.Verdict) != 0) &&
				is(u.Resource, x.resources) && is(u.Protocol, x.protocols) && is(u.Workload, x.workloads) &&
				is(u.Actor, x.actors) && is(u.Principal, x.principals) && is(u.Identity, x.workloads, x.actors, x.principals) &&
				is(u.Recording, x.recordings)
		}
		if is(may) {
			longer(u.Name, u.Keep)
		}
		if is(must) {
			return rule, keep
		}
	}
	longer("default", r.keep())
	return rule, keep
}

// wrong says why a deletion is not one that a rule can have made, "" where it can: it
// came too early, or a hold was in force. What a row says anybody writes who can write
// to the database; when a body was stored is in the log.
func (d *Deletion) wrong(ctx context.Context, q querier, b *body) (string, error) {
	var keep Age
	if err := keep.UnmarshalText([]byte(d.Keep)); err != nil || keep == forever {
		return fmt.Sprintf("its deletion says that the rule keeps it for %q", d.Keep), nil
	}
	if d.Session != b.session {
		return "its deletion is of another session", nil
	}
	if d.Time.Before(b.storedAt().Add(time.Duration(keep))) {
		return fmt.Sprintf("its deletion is of %s, before the %s were over", d.Time.UTC().Format(time.RFC3339), d.Keep), nil
	}
	some, err := prunedOnes(ctx, q, `WHERE host = ? AND session = ?`, d.Host, d.Session)
	if err != nil || len(some) == 0 {
		return "", err
	}
	x := some[0]
	in, err := bodyBlocks(ctx, q, x)
	if err != nil {
		return "", err
	}
	if x.Closed != nil && !x.Closed.After(d.Time.Add(day)) && d.Time.Before(x.Closed.Add(time.Duration(keep))) {
		known, err := endedBefore(ctx, q, x, in, d.id)
		if err != nil {
			return "", err
		}
		if known {
			return fmt.Sprintf("its deletion is of %s, before the %s since its session was closed were over", d.Time.UTC().Format(time.RFC3339), d.Keep), nil
		}
	}
	list, err := holds(ctx, q, d.id)
	if err != nil || len(list) == 0 {
		return "", err
	}
	if err := x.learn(ctx, q, in); err != nil {
		return "", err
	}
	for i := range list {
		if list[i].Subject != "" && (x.Closed == nil || x.Closed.After(d.Time)) {
			continue // whose rows it was shown may have come later
		}
		meets, err := list[i].meets(ctx, q, x)
		if err != nil {
			return "", err
		}
		if meets {
			return fmt.Sprintf("hold %d was in force when it was deleted", list[i].ID), nil
		}
	}
	return "", nil
}

// endedBefore reports whether a record that ends a session was stored before an alarm,
// by their places in the log.
func endedBefore(ctx context.Context, q querier, x *pruned, in []bodyBlock, alarm int64) (bool, error) {
	for i := range in {
		if !in[i].ends {
			continue
		}
		var before bool
		if err := q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM leaves WHERE host = ? AND chain = ? AND first = ? AND alarm = 0
			AND leaf < (SELECT coalesce(min(leaf), ?) FROM leaves WHERE alarm >= ?))`, x.Host, in[i].chain, in[i].first, int64(math.MaxInt64), alarm).Scan(&before); err != nil || before {
			return before, err
		}
	}
	return false, nil
}

// Meets counts the sessions that a hold meets now.
func (s *DB) Meets(ctx context.Context, h Hold) (n int, err error) {
	for after := int64(0); ; {
		page, err := prunedOnes(ctx, s.db, `WHERE id > ? ORDER BY id LIMIT 200`, after)
		if err != nil {
			return n, fmt.Errorf("recorder: hold: %w", err)
		}
		if len(page) == 0 {
			return n, nil
		}
		for _, x := range page {
			meets := h.Host == "" && h.Session == "" || h.Host == x.Host || h.Session == x.ID // else it is not looked into
			if meets {
				in, err := bodyBlocks(ctx, s.db, x)
				if err == nil {
					err = x.learn(ctx, s.db, in)
				}
				if err == nil {
					meets, err = h.meets(ctx, s.db, x)
				}
				if err != nil {
					return n, fmt.Errorf("recorder: hold: session %s: %w", x.ID, err)
				}
			}
			if meets {
				n++
			}
		}
		after = page[len(page)-1].id
	}
}
