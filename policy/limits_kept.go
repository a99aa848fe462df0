package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What went out in the last minute and hour is kept over a restart, so that
// nobody is given a budget anew by it.

// keptCounts are the meters of identities, as a file has them.
type keptCounts struct {
	Version int         `json:"version"`        // 1
	Lost    int64       `json:"lost,omitempty"` // seconds since 1970; see LoseCounts
	Meters  []keptMeter `json:"meters"`
}

type keptMeter struct {
	Key    string     `json:"key"`
	Minute []keptTick `json:"minute,omitempty"` // of seconds since 1970
	Hour   []keptTick `json:"hour,omitempty"`   // of minutes
}

// keptTick is what was counted in one tick.
type keptTick struct {
	At         int64 `json:"at"`
	Rows       int64 `json:"rows,omitempty"`
	Bytes      int64 `json:"bytes,omitempty"`
	Statements int64 `json:"statements,omitempty"`
	Lookups    int64 `json:"lookups,omitempty"`
}

// errCounts: a text that SaveCounts did not write.
var errCounts = errors.New("policy: not what counts of limits look like")

// SaveCounts returns what counts for limits of a minute and an hour now, in a form
// for RestoreCounts. It is the same while nothing is counted, and nothing is too old
// to count.
func (g *Gate) SaveCounts() ([]byte, error) {
	kept := keptCounts{Version: 1}
	now := g.now()
	g.meters.mu.Lock()
	if at := g.meters.lost; !at.IsZero() && now.Sub(at) < time.Hour {
		kept.Lost = at.Unix()
	}
	for _, key := range slices.Sorted(maps.Keys(g.meters.by)) {
		m := g.meters.by[key]
		m.mu.Lock()
		m.minute.to(now.Unix())
		m.hour.to(now.Unix() / 60)
		k := keptMeter{Key: key, Minute: m.minute.ticks(), Hour: m.hour.ticks()}
		m.mu.Unlock()
		if len(k.Minute)+len(k.Hour) > 0 {
			kept.Meters = append(kept.Meters, k)
		}
	}
	g.meters.mu.Unlock()
	return json.Marshal(&kept)
}

// RestoreCounts goes on with what SaveCounts returned, before the first decision.
// What seems to be of the future, for a clock that was set back, counts as of now.
// After an error nothing is known: see LoseCounts.
func (g *Gate) RestoreCounts(b []byte) error {
	var kept keptCounts
	if err := json.Unmarshal(b, &kept); err != nil || kept.Version != 1 {
		return errors.Join(errCounts, err)
	}
	now := g.now()
	by := map[string]*meter{}
	for _, k := range kept.Meters {
		m := &meter{used: now}
		if err := errors.Join(m.minute.restore(k.Minute, now.Unix()), m.hour.restore(k.Hour, now.Unix()/60)); err != nil || k.Key == "" || by[k.Key] != nil {
			return errors.Join(errCounts, err)
		}
		by[k.Key] = m
	}
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	g.meters.by = by
	if kept.Lost != 0 {
		g.meters.lost = time.Unix(min(kept.Lost, now.Unix()), 0)
	}
	return nil
}

// LoseCounts says that what went out before is not known: every limit of a minute
// or an hour is taken for reached, until a minute or an hour from now.
func (g *Gate) LoseCounts() {
	g.meters.mu.Lock()
	defer g.meters.mu.Unlock()
	g.meters.by, g.meters.lost = nil, g.now()
}

// full is more than any limit lets through.
var full = Amount{Rows: 1 << 60, Bytes: 1 << 60, Statements: 1 << 60, Lookups: 1 << 60}

// fresh returns a meter for somebody of whom nothing is known; m.mu is held.
func (m *meters) fresh(now time.Time) *meter {
	x := &meter{used: now}
	if at := m.lost; !at.IsZero() && now.Sub(at) < time.Hour {
		x.minute.to(at.Unix())
		x.minute.add(full)
		x.hour.to(at.Unix() / 60)
		x.hour.add(full)
	}
	return x
}

// ticks returns what the window holds, oldest first.
func (w *window) ticks() (out []keptTick) {
	for at := w.at - int64(len(w.n)) + 1; at <= w.at; at++ {
		if at < 0 {
			continue
		}
		if a := w.n[at%int64(len(w.n))]; a != (Amount{}) {
			out = append(out, keptTick{at, a.Rows, a.Bytes, a.Statements, a.Lookups})
		}
	}
	return out
}

func (a Amount) most() int64 { return max(a.Rows, a.Bytes, a.Statements, a.Lookups) }

// restore fills an empty window; now is the tick of this moment.
func (w *window) restore(ticks []keptTick, now int64) error {
	last := int64(0)
	for _, t := range ticks {
		a := Amount{t.Rows, t.Bytes, t.Statements, t.Lookups}
		if t.At < last || a.Rows < 0 || a.Bytes < 0 || a.Statements < 0 || a.Lookups < 0 || a.most() > full.most() {
			return fmt.Errorf("a tick at %d", t.At)
		}
		last = t.At
		w.to(min(t.At, now))
		if w.add(a); w.sum.most() > 2*full.most() {
			return errors.New("more than can be counted")
		}
	}
	w.to(now)
	return nil
}
