package recorder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// Filter selects sessions; empty parts select all.
type Filter struct {
	Identity                             string // workload, actor or principal
	Workload, Actor, Principal, Resource string
	Verdict                              string    // with at least one request of it
	Since, Until                         time.Time // opened not before, and before
	// Table and Text look into what was said: a statement that touches the relation
	// (with its schema or without), and one that has the text in it, as it was sent
	// or as the events have it, in any case of letters.
	Table, Text string

	// Subjects selects sessions that were shown rows of one of these, and lists their
	// statements as Sightings. None: all sessions.
	Subjects []events.Subject

	After *Session // those behind this one in the list; nil: from the newest
	Limit int      // newest first; 0: all
}

// rareVerdicts are the sets of verdicts whose sessions have an index: refused, masked,
// and what runs or is told without being enforced. Most sessions were allowed something.
var rareVerdicts = [...]int64{1<<events.Deny | 1<<events.Blocked, 1 << events.Mask, 1<<events.Observed | 1<<events.Explained | 15<<32}

// Sessions lists sessions, newest first, as List gives them.
func (s *DB) Sessions(ctx context.Context, f Filter) ([]Session, error) {
	out := []Session{}
	for x, err := range s.List(ctx, f) {
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// listedAtOnce are so many sessions that List has in memory.
const listedAtOnce = 500

// List gives sessions, newest first, and an error as the last. Where an identity or a
// resource is given it reads as many as it gives, by an index, unless Table or Text ask
// what was said in them. It reads page by page, and nothing is under way in the
// database while one is given: who takes their time holds up no recorder.
func (s *DB) List(ctx context.Context, f Filter) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		kept := new(keptBlocks)
		looks := f.Table != "" || f.Text != ""
		given := 0
		for after := f.After; ; {
			some := listedAtOnce
			if f.Limit > 0 && !looks {
				some = min(some, f.Limit-given)
			}
			page, err := s.page(ctx, &f, after, some)
			if err != nil {
				yield(Session{}, err)
				return
			}
			for i := range page {
				if looks {
					said, err := s.said(ctx, page[i], &f, kept)
					if err != nil {
						yield(Session{}, fmt.Errorf("recorder: session %s: %w", page[i].ID, err))
						return
					}
					if !said {
						continue
					}
				}
				if !yield(page[i], nil) {
					return
				}
				if given++; given == f.Limit {
					return
				}
			}
			if len(page) < some {
				return
			}
			after = &page[len(page)-1]
		}
	}
}

// page lists by what has a column.
func (s *DB) page(ctx context.Context, f *Filter, after *Session, limit int) ([]Session, error) {
	seen := func(list []Session, err error) ([]Session, error) {
		if err != nil || len(f.Subjects) == 0 {
			return list, err
		}
		return list, s.sightings(ctx, list, f.Subjects)
	}
	where, args := []string{}, []any{}
	and := func(cond string, with ...any) { where, args = append(where, cond), append(args, with...) }
	for _, c := range [...]struct{ column, is string }{
		{"workload", f.Workload}, {"actor", f.Actor}, {"principal", f.Principal}, {"resource", f.Resource},
	} {
		if c.is != "" {
			and(c.column+" = ?", c.is)
		}
	}
	if len(f.Subjects) > 0 {
		cond, of := sight(f.Subjects)
		and("id IN (SELECT session FROM subjects WHERE "+cond+")", of...)
	}
	if !f.Since.IsZero() {
		and("opened >= ?", f.Since.UnixNano())
	}
	if !f.Until.IsZero() {
		and("opened < ?", f.Until.UnixNano())
	}
	if f.Verdict != "" {
		bit := verdictBit(f.Verdict)
		for _, set := range rareVerdicts {
			if bit&set != 0 {
				and(fmt.Sprintf("verdicts & %d <> 0", set)) // to the letter what its index has
			}
		}
		and("verdicts & ? <> 0", bit)
	}
	if after != nil {
		at := after.Opened.UnixNano()
		and("opened <= ? AND (opened, -id) < (?, ?)", at, at, -after.row)
	}
	const order = " ORDER BY opened DESC, id LIMIT ?"
	if f.Identity == "" {
		return seen(s.sessions(ctx, strings.Join(append([]string{"WHERE true"}, where...), " AND ")+order, append(args, limit)...))
	}
	// The newest of each column, by its index, and of these the newest.
	var any3 []string
	var all []any
	for _, column := range [...]string{"workload", "actor", "principal"} {
		cond := strings.Join(append([]string{column + " = ?"}, where...), " AND ")
		any3 = append(any3, "SELECT id FROM (SELECT id FROM sessions WHERE "+cond+order+") AS "+column)
		all = append(append(append(all, f.Identity), args...), limit)
	}
	return seen(s.sessions(ctx, "WHERE id IN ("+strings.Join(any3, " UNION ")+")"+order, append(all, limit)...))
}

// said reports whether statements of a session are as a filter wants them. What
// can't be decoded says nothing: Show tells of it.
func (s *DB) said(ctx context.Context, x Session, f *Filter, kept *keptBlocks) (bool, error) {
	table, text := f.Table == "", f.Text == ""
	want := strings.ToLower(f.Text)
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), want) }
	var exact []byte // of the statement that is told, in pieces
	var number uint64
	for r, err := range s.behind(ctx, x, nil, s.opener(x), kept.blocks) {
		if IsWithheld(err) {
			if gone := (*Deleted)(nil); text || errors.As(err, &gone) {
				continue // the events have it, without literals
			}
			// To leave it out would say that it was not said.
			return false, fmt.Errorf("whether it has the text can't be told: %w", err)
		}
		if err != nil {
			return false, err
		}
		switch r.Kind {
		case 0:
			if text {
				continue
			}
			cs, err := events.ParseChunks(nil, r.Payload)
			if err != nil {
				continue
			}
			for _, c := range cs {
				if c.Kind != events.ChunkStatement {
					continue
				}
				if c.Number != number {
					number, exact = c.Number, exact[:0]
				}
				exact = append(exact, c.Data...)
				text = text || has(string(exact))
			}
		case events.Statement, events.Block:
			v, err := decode(&r)
			if err != nil {
				continue
			}
			text = text || has(v.Text)
			table = table || slices.ContainsFunc(v.Objects, func(o string) bool {
				_, name, _ := strings.Cut(o, ".")
				return strings.EqualFold(o, f.Table) || strings.EqualFold(name, f.Table)
			})
		}
		if table && text {
			return true, nil
		}
	}
	return table && text, nil
}
