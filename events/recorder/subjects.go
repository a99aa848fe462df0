package recorder

import (
	"context"
	"fmt"
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

// keepSeen stores whose rows the session was shown; it has an id.
func (a *adder) keepSeen(s *sessionState) error {
	for x := range s.seen {
		if err := a.exec(`INSERT INTO subjects VALUES (?,?,?,?) ON CONFLICT DO NOTHING`, x.Name, x.Key[:], s.id, int64(x.number)); err != nil {
			return err
		}
	}
	clear(s.seen)
	return nil
}

// misnames holds whose rows a session is listed to have been shown against its records.
func (l *listing) misnames(t *tally, id int64) (what, is, says string, err error) {
	rows, err := l.seen.QueryContext(l.ctx, id)
	if err != nil {
		return "", "", "", err
	}
	defer rows.Close()
	listed := 0
	for rows.Next() {
		var x seen
		var key []byte
		var n int64
		if err := rows.Scan(&x.Name, &key, &n); err != nil {
			return "", "", "", err
		}
		x.number = uint64(n)
		if copy(x.Key[:], key); len(key) != len(x.Key) || !t.seen[x] {
			return "a subject of statement " + strconv.FormatUint(x.number, 10), x.Name, "", rows.Err()
		}
		listed++
	}
	if listed != len(t.seen) {
		return "subjects", strconv.Itoa(listed), strconv.Itoa(len(t.seen)), rows.Err()
	}
	return "", "", "", rows.Err()
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
			" AND session = (SELECT id FROM sessions WHERE host = ? AND session = ?) ORDER BY statement", append(args[:len(args):len(args)], x.Host, x.ID)...)
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
