package recorder

import (
	"context"
	"time"
)

// ForgeDeletion is what anybody can do who can write to the database: the links of
// alarms have no key. It returns the name of the body.
func (s *DB) ForgeDeletion(ctx context.Context, session, keep string, now time.Time) (string, error) {
	a, err := s.begin(ctx, now)
	if err != nil {
		return "", err
	}
	defer a.end()
	var d Deletion
	for b, err := range namedBodies(ctx, a.tx) {
		if err != nil {
			return "", err
		}
		if b.session == session {
			d = Deletion{Host: b.host, Session: session, Chain: b.chain, First: b.first, Size: b.size, Rule: "default", Keep: keep, Due: now, name: b.name}
		}
	}
	if err := a.noteDeleted(&d); err != nil {
		return "", err
	}
	_, err = a.commit()
	return d.name, err
}
