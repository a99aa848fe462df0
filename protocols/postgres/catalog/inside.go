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
// back; nothing else is changed. In a transaction that is not READ COMMITTED, base
// must not be newer than what it sees: else it is ErrIsolation.
func Inside(ctx context.Context, base *Snapshot, ask Ask) (s *Snapshot, err error) {
	now, err := one(ask(ctx, insideSQL))
	if err != nil {
		return nil, err
	}
	if len(now) != 3 {
		return nil, errors.New("catalog: not three columns")
	}
	// A transaction that goes on seeing what was there when it began sees the catalog
	// as the server does only where nobody else has changed it since.
	if string(now[1]) != "read committed" {
		began, err := parseMoment(string(now[2]))
		if err != nil {
			return nil, err
		}
		if !began.sees(&base.since) {
			return nil, ErrIsolation
		}
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
	delta := &reading{newSnapshot(), base}
	if len(changed) > 0 {
		l := &list{oids: array(changed)}
		if err := delta.read(ctx, l); err != nil {
			return nil, err
		}
		results, err := ask(ctx, l.sql...)
		if err != nil {
			return nil, err
		}
		if err := delta.read(ctx, &replies{results, words{}}); err != nil {
			return nil, fmt.Errorf("read what the transaction has changed: %w", err)
		}
	}
	// What was dropped besides relations stays: it only refuses more.
	gone := maps.Clone(changed)
	for oid := range base.ByOID {
		if !exists[oid] {
			gone[oid] = true
		}
	}
	if len(gone) == 0 {
		return base, nil
	}
	s, _ = base.over(delta.Snapshot, gone)
	s.follow(base)
	s.Version = versions.Add(1) // temporary relations count: they are the session's own
	return s, nil
}

// ErrIsolation: another session has changed the catalog since the transaction began,
// and the transaction, which is not READ COMMITTED, does not see it while the server
// goes by it.
var ErrIsolation = errors.New("catalog: it was changed after the transaction began, whose isolation level is not READ COMMITTED")

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
	m, w := make(map[uint32]bool, len(rows)), words{}
	for _, r := range rows {
		var oid uint32
		if err := w.scan(r, []any{&oid}); err != nil {
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
