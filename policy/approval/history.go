package approval

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
)

// History is what is known of requests like one, that one included. It holds no
// data: a statement is known by a digest of its shape.
type History struct {
	// Statement is of the same shape (the statement without its literals and values,
	// of the same relations, in the same database), whoever sent it; Workload of the
	// same workload, whatever it sent.
	Statement Tally `json:"statement"`
	Workload  Tally `json:"workload"`
	// Forgotten: of what was last asked for before, some is not known any more.
	Forgotten time.Time `json:"forgotten,omitzero"`
}

// Tally counts what became of requests.
type Tally struct {
	Asked     int       `json:"asked"`
	Approved  int       `json:"approved,omitempty"` // by as many as had to
	Denied    int       `json:"denied,omitempty"`
	Revoked   int       `json:"revoked,omitempty"`
	Withdrawn int       `json:"withdrawn,omitempty"`
	Expired   int       `json:"expired,omitempty"` // undecided, or approved and not used
	Ran       int       `json:"ran,omitempty"`     // uses
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"` // that something of it was asked or done
}

// maxTallies bounds each of the two; beyond it what was not touched for longest is
// forgotten, a tenth at once.
const maxTallies = 10_000

// history is what a Book counts.
type history struct {
	shapes, workloads map[string]*Tally
	forgotten         time.Time
}

// kept is a history as a log keeps it, or a part of it.
type kept struct {
	Shapes    map[string]*Tally `json:"shapes,omitempty"`
	Workloads map[string]*Tally `json:"workloads,omitempty"`
	Forgotten time.Time         `json:"forgotten,omitzero"`
}

// shapeOf is the digest of what a statement is but for its values, hex.
func shapeOf(a *policy.Asked) string {
	h := sha256.New()
	field(h, []byte("sallyport approval shape 1"))
	r := a.Request
	for _, x := range []string{r.Session.Resource, r.Session.Protocol, r.Session.Database, r.Normalized} {
		field(h, []byte(x))
	}
	number(h, len(r.Objects))
	for _, o := range r.Objects {
		field(h, []byte(o.Access.String()))
		field(h, []byte(o.Schema))
		field(h, []byte(o.Name))
	}
	for _, n := range a.Exact.Names { // what a name stands for is what runs
		field(h, []byte(n))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// count has both tallies of an entry take note of a step.
func (h *history) count(e *entry, at time.Time, step func(*Tally)) {
	for _, x := range []struct {
		all *map[string]*Tally
		key string
	}{{&h.shapes, e.shape}, {&h.workloads, e.Who.Workload}} {
		if x.key == "" {
			continue
		}
		t := (*x.all)[x.key]
		if t == nil {
			if *x.all == nil {
				*x.all = map[string]*Tally{}
			}
			t = &Tally{First: at}
			(*x.all)[x.key] = t
		}
		step(t)
		t.Last = at
		h.bound(*x.all)
	}
}

// bound forgets what was not touched for longest where there is too much.
func (h *history) bound(all map[string]*Tally) {
	if len(all) <= maxTallies {
		return
	}
	oldest := slices.SortedFunc(maps.Keys(all), func(x, y string) int {
		return cmp.Or(all[x].Last.Compare(all[y].Last), cmp.Compare(x, y))
	})
	for _, key := range oldest[:maxTallies/10] {
		if t := all[key]; t.Last.After(h.forgotten) {
			h.forgotten = t.Last
		}
		delete(all, key)
	}
}

// of is what is known of requests like an entry.
func (h *history) of(e *entry) *History {
	out := &History{Forgotten: h.forgotten}
	if t := h.shapes[e.shape]; t != nil {
		out.Statement = *t
	}
	if t := h.workloads[e.Who.Workload]; t != nil {
		out.Workload = *t
	}
	return out
}

// put takes what a log has kept.
func (h *history) put(k *kept) {
	if h.shapes == nil {
		h.shapes, h.workloads = map[string]*Tally{}, map[string]*Tally{}
	}
	add := func(to, from map[string]*Tally) {
		for key, t := range from {
			if t != nil {
				to[key] = t
			}
		}
	}
	add(h.shapes, k.Shapes)
	add(h.workloads, k.Workloads)
	if k.Forgotten.After(h.forgotten) {
		h.forgotten = k.Forgotten
	}
}

// keep returns the parts that a log keeps, each of a bounded size.
func (h *history) keep() (out []*kept) {
	const part = 500
	split := func(all map[string]*Tally, add func(*kept, map[string]*Tally)) {
		for keys := range slices.Chunk(slices.Sorted(maps.Keys(all)), part) {
			some := map[string]*Tally{}
			for _, key := range keys {
				some[key] = all[key]
			}
			k := &kept{Forgotten: h.forgotten}
			add(k, some)
			out = append(out, k)
		}
	}
	split(h.shapes, func(k *kept, m map[string]*Tally) { k.Shapes = m })
	split(h.workloads, func(k *kept, m map[string]*Tally) { k.Workloads = m })
	return out
}

// Text says it in words, like: asked for 3 times since ..., this one included.
func (t *Tally) Text() string {
	s := fmt.Sprintf("asked for %d %s since %s, this one included", t.Asked, plural(t.Asked), t.First.Local().Format(time.RFC3339))
	for _, x := range []struct {
		n    int
		what string
	}{{t.Approved, "approved"}, {t.Denied, "denied"}, {t.Revoked, "revoked"}, {t.Withdrawn, "withdrawn"}, {t.Expired, "expired"}} {
		if x.n > 0 {
			s += fmt.Sprintf(", %d %s", x.n, x.what)
		}
	}
	return s + fmt.Sprintf("; ran %d %s", t.Ran, plural(t.Ran))
}

func plural(n int) string {
	if n == 1 {
		return "time"
	}
	return "times"
}
