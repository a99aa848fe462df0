package rewrite

import (
	"encoding/json"
	"maps"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// pin is where a protected field was when it was first seen. A rename does
// not unprotect it.
type pin struct {
	oid   uint32
	num   int16
	parts []uint32 // of a relation's own pin: see parted
}

// Pins are where protected fields are known to be. They are never changed.
type Pins map[events.Field]pin

// keptPin is one of them as a file has it.
type keptPin struct {
	Schema   string `json:"schema"`
	Relation string `json:"relation"`
	Column   string `json:"column,omitempty"` // "": of the relation itself
	OID      uint32 `json:"oid"`
	Num      int16  `json:"num,omitempty"`

	Parts []uint32 `json:"parts,omitempty"`
}

// MarshalJSON implements json.Marshaler; it is the same for the same.
func (p Pins) MarshalJSON() ([]byte, error) {
	all := make([]keptPin, 0, len(p))
	for f, at := range p {
		all = append(all, keptPin{f.Schema, f.Relation, f.Column, at.oid, at.num, at.parts})
	}
	slices.SortFunc(all, func(a, b keptPin) int {
		return slices.Compare([]string{a.Schema, a.Relation, a.Column}, []string{b.Schema, b.Relation, b.Column})
	})
	return json.Marshal(all)
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Pins) UnmarshalJSON(b []byte) error {
	var all []keptPin
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*p = make(Pins, len(all))
	for _, k := range all {
		(*p)[events.Field{Schema: k.Schema, Relation: k.Relation, Column: k.Column}] = pin{k.OID, k.Num, k.Parts}
	}
	return nil
}

// Pins returns where protected fields are by now.
func (a *Analyzer) Pins() Pins {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.pins)
}

// pinned returns the relations that a policy's name protects: the one of that
// name, and the one that had it before while it exists. The caller holds the
// Analyzer's lock.
func (a *Analyzer) pinned(s *catalog.Snapshot, name policy.Relation) []*catalog.Relation {
	var out []*catalog.Relation
	key := events.Field{Schema: name.Schema, Relation: name.Name}
	for _, r := range s.ByName[name.Name] {
		if r.Schema == name.Schema {
			out = append(out, r)
		}
	}
	old := s.ByOID[a.pins[key].oid]
	switch {
	case old == nil && len(out) > 0:
		a.pins[key] = pin{oid: out[0].OID, parts: a.pins[key].parts}
	case old != nil && (len(out) == 0 || out[0] != old):
		out = append(out, old)
	}
	return out
}

// moved reports whether a protected column went by another name before and
// still exists: what has its name now is another column.
func (a *Analyzer) moved(r *catalog.Relation, f events.Field) bool {
	c := r.Column(f.Column)
	p, ok := a.pins[f]
	if !ok || p.oid != r.OID {
		if c != nil {
			a.pins[f] = pin{oid: r.OID, num: c.Num}
		}
		return false
	}
	for _, o := range r.Columns {
		if o.Num == p.num {
			return o.Name != f.Column
		}
	}
	if c != nil {
		a.pins[f] = pin{oid: r.OID, num: c.Num}
	}
	return false
}
