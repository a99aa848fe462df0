package recorder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/events"
)

// seen is a subject of which a statement was shown rows.
type seen struct {
	events.Subject
	number uint64
}

// sees notes whose rows went out. What is no subject names nobody.
func (s *sessionState) sees(f *Facts) {
	for _, text := range f.Subjects {
		of, err := events.ParseSubject(text)
		if err != nil {
			continue
		}
		if s.seen == nil {
			s.seen = map[seen]bool{}
		}
		s.seen[seen{of, f.Number}] = true
	}
}

// sightings notes of sessions, by the ids of their rows, whose rows they are listed to
// have been shown: how many subjects, and one that their records do not tell of.
func (l *listing) sightings(of map[int64]*tally) error {
	for ids := range inTwos(slices.Collect(maps.Keys(of)), rowsAtOnce) {
		args := make([]any, len(ids))
		for i, id := range ids {
			args[i] = id
		}
		if err := l.sightingsOf(of, `SELECT session, name, key, statement FROM subjects WHERE session IN (`+marks(len(ids))+`)`, args); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) sightingsOf(of map[int64]*tally, query string, args []any) error {
	rows, err := l.query(query, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var x seen
		var key []byte
		var id, n int64
		if err := rows.Scan(&id, &x.Name, &key, &n); err != nil {
			return err
		}
		x.number = uint64(n)
		t := of[id]
		t.listed++
		if copy(x.Key[:], key); t.odd == nil && (len(key) != len(x.Key) || !t.seen[x]) {
			t.odd = &x
		}
	}
	return rows.Err()
}

// misnames names what is listed of whose rows a session was shown, and is not so.
func (t *tally) misnames() (what, is, says string) {
	switch {
	case t.odd != nil:
		return "a subject of statement " + strconv.FormatUint(t.odd.number, 10), t.odd.Name, ""
	case t.listed != len(t.seen):
		return "subjects", strconv.Itoa(t.listed), strconv.Itoa(len(t.seen))
	}
	return "", "", ""
}

// sight is the condition that a session was shown rows of one of some subjects.
func sight(of []events.Subject) (cond string, args []any) {
	var parts []string
	for _, s := range of {
		parts = append(parts, "name = ? AND key = ?")
		args = append(args, s.Name, s.Key[:])
	}
	return "(" + strings.Join(parts, " OR ") + ")", args
}

// sightings fills in which statements of the listed sessions were shown rows of one
// of some subjects.
func (s *DB) sightings(ctx context.Context, list []Session, of []events.Subject) error {
	cond, args := sight(of)
	for i := range list {
		x := &list[i]
		rows, err := s.db.QueryContext(ctx, "SELECT DISTINCT statement FROM subjects WHERE "+cond+
			" AND session = ? ORDER BY statement", append(args[:len(args):len(args)], x.row)...)
		if err != nil {
			return fmt.Errorf("recorder: subjects: %w", err)
		}
		for rows.Next() {
			var n int64
			if err = rows.Scan(&n); err != nil {
				break
			}
			x.Sightings = append(x.Sightings, uint64(n))
		}
		if err2 := rows.Close(); err == nil {
			err = err2
		}
		if err == nil {
			err = rows.Err()
		}
		if err != nil {
			return fmt.Errorf("recorder: subjects: %w", err)
		}
	}
	return nil
}
