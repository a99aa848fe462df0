package postgres

// touched is whether something has run that reached protected data: in the
// transaction under way at the server, and in what a Query may end of it, as far as
// the server has answered. Deferred constraints speak at a transaction's end, and held
// cursors are read there: its words are of all that the transaction did.
type touched struct {
	transaction, batch bool
	piped              bool // an extended message was answered, and no Sync behind it
}

// answered takes note of a step whose answers begin.
func (t *touched) answered(s *step) {
	switch s.kind {
	case stepQuery, stepFunction, stepBind, stepExecute:
		reached := s.reading == nil && (s.sanitize || s.rewritten)
		t.transaction, t.batch = t.transaction || reached, t.batch || reached
	}
	t.piped = t.piped || !s.kind.alone()
}

// ready takes note of a ReadyForQuery, the answer to s. A Query need not end what was
// executed before it without a Sync: a server of 18 or newer keeps that transaction
// open, and any later Query may end it, or a Sync does.
func (t *touched) ready(s *step, status byte) {
	if status == 'I' {
		t.transaction = false
	}
	if status == 'I' || s.kind == stepSync {
		t.piped = false
	}
	t.batch = t.batch && t.piped
}

// withholds reports whether words about a step could tell of protected data.
func (t *touched) withholds(s *step) bool {
	switch {
	case s.sanitize:
		return true
	case s.kind == stepSync || s.commits:
		return t.transaction
	case s.kind == stepQuery || s.kind == stepFunction:
		return t.batch // it may end what was executed before it without a Sync
	}
	return false
}
