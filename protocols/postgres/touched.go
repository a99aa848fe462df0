package postgres

import "sallyport.dev/sallyport/policy"

// touched is whether something has run that reached protected data: in the
// transaction under way at the server, and in what a Query may end of it, as far as
// the server has answered. Deferred constraints speak at a transaction's end, and held
// cursors are read there: its words are of all that the transaction did.
type touched struct {
	transaction, batch bool
	piped              bool // an extended message was answered, and no Sync behind it

	// What was open when it ran may be protected when it speaks: the policy may have
	// changed in between.
	ran, swapped bool          // anything; under more than one policy
	under        *policy.Scope // what protected the first; nil: nothing
}

// answered takes note of a step whose answers begin.
func (t *touched) answered(s *step) {
	t.piped = t.piped || !s.kind.alone()
	if s.reading != nil {
		return
	}
	switch s.kind {
	case stepQuery, stepFunction, stepBind, stepExecute:
		reached := s.sanitize || s.rewritten
		t.transaction, t.batch = t.transaction || reached, t.batch || reached
		t.swapped = t.swapped || t.ran && !alike(t.under, s.guard)
		if !t.ran {
			t.ran, t.under = true, s.guard
		}
	}
}

// ready takes note of a ReadyForQuery, the answer to s. A Query need not end what was
// executed before it without a Sync: a server of 18 or newer keeps that transaction
// open, and any later Query may end it, or a Sync does.
func (t *touched) ready(s *step, status byte) {
	if status == 'I' {
		*t = touched{}
		return
	}
	t.piped = t.piped && s.kind != stepSync
	t.batch = t.batch && t.piped
}

// withholds reports whether words about a step could tell of protected data.
func (t *touched) withholds(s *step) bool {
	switch {
	case s.sanitize:
		return true
	case s.kind == stepSync || s.commits:
		return t.transaction || t.closed(s)
	case s.kind == stepQuery || s.kind == stepFunction:
		return t.batch || t.closed(s) // it may end what was executed before it without a Sync
	}
	return false
}

// closed reports that a step is under a policy by which something before it was not.
func (t *touched) closed(s *step) bool {
	return s.guard != nil && t.ran && (t.swapped || !alike(t.under, s.guard))
}

// alike reports whether two scopes protect the same; nil protects nothing.
func alike(a, b *policy.Scope) bool {
	return a == b || a != nil && b != nil && a.ID == b.ID && a.ID != ""
}
