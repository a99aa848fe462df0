package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Rows are the rows of one result, their values in the text format; nil is NULL.
type Rows = [][][]byte

// Ask runs statements, each on its own and in order, and returns their results.
type Ask = func(ctx context.Context, sql ...string) ([]Rows, error)

// Inside returns base as a transaction sees it that is still open, or base itself
// where it has changed nothing. ask runs statements in the transaction. They read
// pg_catalog, under a search_path in which nothing comes before it, which is put
// back; nothing else is changed. The transaction must be READ COMMITTED: in
// another the server's own catalog is newer than what it shows.
func Inside(ctx context.Context, base *Snapshot, ask Ask) (s *Snapshot, err error) {
	now, err := one(ask(ctx, insideSQL))
	if err != nil {
		return nil, err
	}
	if len(now) != 2 || string(now[1]) != "read committed" {
		return nil, ErrIsolation
	}
	// pg_temp is named so that it comes last: else it is first for types and
	// relations.
	defer func() {
		_, back := ask(ctx, setPath(string(now[0])))
		if err == nil && back != nil {
			s, err = nil, back
		}
	}()
	found, err := ask(ctx, setPath("pg_catalog, pg_temp"), changedSQL, existsSQL)
	if err != nil {
		return nil, err
	}
	changed, err := oids(found[1])
	if err != nil {
		return nil, err
	}
	exists, err := oids(found[2])
	if err != nil {
		return nil, err
	}
	delta := newSnapshot()
	if len(changed) > 0 {
		l := &list{oids: array(changed)}
		if err := delta.read(ctx, l); err != nil {
			return nil, err
		}
		results, err := ask(ctx, l.sql...)
		if err != nil {
			return nil, err
		}
		if err := delta.read(ctx, &replies{results}); err != nil {
			return nil, fmt.Errorf("read what the transaction has changed: %w", err)
		}
	}
	return base.over(delta, changed, exists), nil
}

// ErrIsolation: what the transaction has changed can't be told from what was
// there.
var ErrIsolation = errors.New("catalog: the transaction's isolation level is not READ COMMITTED")

func one(results []Rows, err error) ([][]byte, error) {
	if err == nil && (len(results) != 1 || len(results[0]) != 1) {
		err = errors.New("catalog: not one row")
	}
	if err != nil {
		return nil, err
	}
	return results[0][0], nil
}

// setPath sets search_path for the transaction. The path as it was is put back as
// the transaction's own: what was set before it, or for the session in it, is
// there again when it ends.
func setPath(path string) string {
	return "SELECT pg_catalog.set_config('search_path', '" + strings.ReplaceAll(path, "'", "''") + "', true)"
}

func oids(rows Rows) (map[uint32]bool, error) {
	m := make(map[uint32]bool, len(rows))
	for _, r := range rows {
		var oid uint32
		if err := scan(r, []any{&oid}); err != nil {
			return nil, err
		}
		m[oid] = true
	}
	return m, nil
}

func array(m map[uint32]bool) string {
	var b strings.Builder
	b.WriteString("'{")
	for i, oid := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(oid), 10))
	}
	b.WriteString("}'::pg_catalog.oid[]")
	return b.String()
}

// over returns s with what delta says of the objects that were changed, and
// without the relations that do not exist. What was dropped besides stays: it
// only refuses more.
func (s *Snapshot) over(delta *Snapshot, changed, exists map[uint32]bool) *Snapshot {
	gone := func(r *Relation) bool { return changed[r.OID] || !exists[r.OID] }
	out := *s
	out.ByOID, out.ByName = maps.Clone(s.ByOID), maps.Clone(s.ByName)
	tables := true // that are temporary and of plain types, at most
	for oid, r := range s.ByOID {
		if gone(r) {
			tables = tables && r.passing()
			delete(out.ByOID, oid)
			out.ByName[r.Name] = without(out.ByName[r.Name], gone)
		}
	}
	for oid, r := range delta.ByOID {
		tables = tables && r.passing()
		out.ByOID[oid] = r
		out.ByName[r.Name] = append(slices.Clip(out.ByName[r.Name]), r)
	}
	stale := func(f *Function) bool { return changed[f.OID] }
	out.Functions = overlaid(s.Functions, delta.Functions, stale)
	out.Operators = overlaid(s.Operators, delta.Operators, stale)
	out.TypeByOID = maps.Clone(s.TypeByOID)
	for oid, t := range delta.TypeByOID {
		tables = tables && strings.HasPrefix(t.Schema, "pg_temp")
		out.TypeByOID[oid] = t
	}
	out.Types = overlaid(s.Types, delta.Types, func(t *Type) bool { return delta.TypeByOID[t.OID] != nil })
	out.Casts = append(without(s.Casts, func(c *Cast) bool { return changed[c.OID] }), delta.Casts...)
	out.Literals.Indexes = s.Literals.Indexes || delta.Literals.Indexes
	out.Literals.Constraints = s.Literals.Constraints || delta.Literals.Constraints
	out.Literals.Defaults = s.Literals.Defaults || delta.Literals.Defaults
	if !tables || len(delta.Functions)+len(delta.Operators)+len(delta.Casts) > 0 || out.Literals != s.Literals {
		out.Version = versions.Add(1)
	}
	return &out
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
