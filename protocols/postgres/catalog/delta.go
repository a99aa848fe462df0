package catalog

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// passing reports a temporary table: these come and go with every session, and
// must not make analyses of others old. A temporary view may show what others do.
func (r *Relation) passing() bool { return r.Temp && r.Kind != 'v' }

func (t *Type) passing() bool {
	return strings.HasPrefix(t.Schema, "pg_temp") || strings.HasPrefix(t.Schema, "pg_toast")
}

// Apart returns the same under a version of its own, for a session of which
// temporary relations may be; nil where none are anybody's.
func (s *Snapshot) Apart() *Snapshot {
	temp := false
	for _, r := range s.ByOID {
		temp = temp || r.Temp
	}
	for _, t := range s.TypeByOID {
		temp = temp || strings.HasPrefix(t.Schema, "pg_temp")
	}
	if !temp {
		return nil
	}
	out := *s
	out.Version = versions.Add(1)
	return &out
}

func lasting[T any](*T) bool { return false }

// readDelta returns s with what has changed since, read in a transaction, and whether
// it says the same apart from what passes; nil where more has changed than should be
// read one by one.
func (s *Snapshot) readDelta(ctx context.Context, c side, ch *change) (out *Snapshot, same bool, err error) {
	own := s.touched(ch)
	if len(own) > maxChanged {
		return nil, false, nil
	}
	var oid uint32
	all := map[uint32]bool{}
	err = c.each(ctx, "WITH "+dependentsOf(array(own)), func() { all[oid] = true }, &oid)
	if err != nil || len(all) > maxChanged {
		return nil, false, err
	}
	delta := &reading{newSnapshot(), s}
	if err := c.together(ctx, array(all), delta.read); err != nil {
		return nil, false, fmt.Errorf("read what has changed: %w", err)
	}
	out, same = s.over(delta.Snapshot, all)
	return out, same, nil
}

// touched lists the objects that may have changed.
func (s *Snapshot) touched(ch *change) map[uint32]bool {
	own := maps.Clone(ch.objects)
	note := func(oid uint32) {
		if ch.touches(oid) {
			own[oid] = true
		}
	}
	for oid := range s.ByOID {
		note(oid)
	}
	for oid := range s.TypeByOID {
		note(oid)
	}
	for _, all := range []map[string][]*Function{s.Functions, s.Operators} {
		for _, fs := range all {
			for _, f := range fs {
				note(f.OID)
			}
		}
	}
	for _, c := range s.Casts {
		note(c.OID)
	}
	return own
}

// over returns s with what delta says of the objects that have changed: those that
// it does not have are gone. same reports that this makes no difference apart from
// what passes.
func (s *Snapshot) over(delta *Snapshot, changed map[uint32]bool) (out *Snapshot, same bool) {
	o := *s
	out = &o
	out.ByOID, out.ByName = maps.Clone(s.ByOID), maps.Clone(s.ByName)
	gone := func(r *Relation) bool { return changed[r.OID] }
	for oid := range changed {
		if r := s.ByOID[oid]; r != nil {
			delete(out.ByOID, oid)
			out.ByName[r.Name] = without(out.ByName[r.Name], gone)
			if len(out.ByName[r.Name]) == 0 {
				delete(out.ByName, r.Name)
			}
		}
	}
	for oid, r := range delta.ByOID {
		out.ByOID[oid] = r
		out.ByName[r.Name] = append(slices.Clip(out.ByName[r.Name]), r)
	}
	out.TypeByOID = maps.Clone(s.TypeByOID)
	maps.DeleteFunc(out.TypeByOID, func(oid uint32, _ *Type) bool { return changed[oid] })
	maps.Copy(out.TypeByOID, delta.TypeByOID)
	out.Types = overlaid(s.Types, delta.Types, func(t *Type) bool { return changed[t.OID] })
	stale := func(f *Function) bool { return changed[f.OID] }
	out.Functions = overlaid(s.Functions, delta.Functions, stale)
	out.Operators = overlaid(s.Operators, delta.Operators, stale)
	out.Casts = append(without(s.Casts, func(c *Cast) bool { return changed[c.OID] }), delta.Casts...)
	out.sumLiterals()
	return out, s.same(out, changed)
}

// same reports whether two snapshots say the same of some objects, all where that is
// nil, apart from what passes.
func (s *Snapshot) same(o *Snapshot, of map[uint32]bool) bool {
	return s.Server == o.Server && maps.Equal(s.Builtin, o.Builtin) && maps.Equal(s.BuiltinOp, o.BuiltinOp) &&
		agree(s.ByOID, o.ByOID, of, (*Relation).passing) &&
		agree(s.TypeByOID, o.TypeByOID, of, (*Type).passing) &&
		agree(byOID(s.Functions), byOID(o.Functions), of, lasting) &&
		agree(byOID(s.Operators), byOID(o.Operators), of, lasting) &&
		agree(castsByOID(s.Casts), castsByOID(o.Casts), of, lasting)
}

func agree[T any](a, b map[uint32]*T, of map[uint32]bool, passing func(*T) bool) bool {
	for oid, x := range a {
		y := b[oid]
		switch {
		case of != nil && !of[oid], x == y, passing(x) && (y == nil || passing(y)):
		case y == nil, !reflect.DeepEqual(x, y):
			return false
		}
	}
	for oid, y := range b {
		if a[oid] == nil && (of == nil || of[oid]) && !passing(y) {
			return false
		}
	}
	return true
}

func byOID(m map[string][]*Function) map[uint32]*Function {
	out := map[uint32]*Function{}
	for _, fs := range m {
		for _, f := range fs {
			out[f.OID] = f
		}
	}
	return out
}

func castsByOID(all []*Cast) map[uint32]*Cast {
	out := make(map[uint32]*Cast, len(all))
	for _, c := range all {
		out[c.OID] = c
	}
	return out
}

// without returns the others; the slice itself is shared and stays.
func without[T any](all []T, drop func(T) bool) []T {
	var out []T
	for _, x := range all {
		if !drop(x) {
			out = append(out, x)
		}
	}
	return out
}

func overlaid[T any](base, delta map[string][]T, stale func(T) bool) map[string][]T {
	out := make(map[string][]T, len(base))
	for name, all := range base {
		if slices.ContainsFunc(all, stale) {
			all = without(all, stale)
		}
		if len(all) > 0 {
			out[name] = slices.Clip(all)
		}
	}
	for name, all := range delta {
		out[name] = append(out[name], all...)
	}
	return out
}
