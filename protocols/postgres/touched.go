package postgres

// touched is whether something has run that reached protected data: in the
// transaction under way at the server, and since its last ReadyForQuery, as far as
// it has answered. Deferred constraints speak at a transaction's end, and held cursors
// are read there: its words are of all that the transaction did.
type touched struct{ transaction, batch bool }

// answered takes note of a step whose answers begin.
func (t *touched) answered(s *step) {
	switch s.kind {
	case stepQuery, stepFunction, stepBind, stepExecute:
		reached := s.reading == nil && (s.sanitize || s.rewritten)
		t.transaction, t.batch = t.transaction || reached, t.batch || reached
	}
}

// ready takes note of a ReadyForQuery.
func (t *touched) ready(status byte) {
	t.batch = false
	if status == 'I' {
		t.transaction = false
	}
}

// withholds reports whether words about a step could tell of protected data.
func (t *touched) withholds(s *step) bool {
	switch {
	case s.sanitize:
		return true
	case s.kind == stepSync || s.commits:
		return t.transaction
	case s.kind == stepQuery || s.kind == stepFunction:
		return t.batch // it ends what was executed before it without a Sync
	}
	return false
}
