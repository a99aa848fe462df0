package postgres

import "bytes"

// voice is what a step says of whom the next statements are for.
type voice uint8

const (
	voiceNone        voice = iota
	voiceSession           // it says so until it says otherwise
	voiceTransaction       // ... or the transaction ends
	voiceAhead             // it prepares to
)

// heard is what the server has made of the latest that was said. queue.mu guards
// it.
type heard struct {
	open   bool // in a transaction that has not ended
	local  bool // for the transaction only
	failed bool // something in it has failed
	over   bool // it does not hold, or does no more
}

// said takes note that the server confirmed a step.
func (h *heard) said(s *step, idle bool) {
	if s.voice != voiceSession && s.voice != voiceTransaction {
		return
	}
	h.local, h.failed = s.voice == voiceTransaction, false
	h.open = s.kind != stepQuery || !idle
	h.over = h.over || !h.open && h.local
}

// unsaid takes note of a step that failed or was skipped.
func (h *heard) unsaid(s *step) {
	h.over = h.over || s.voice != voiceNone
	h.failed = h.failed || h.open
}

// ended takes note of a transaction's end.
func (h *heard) ended(rolledBack bool) {
	if h.open {
		h.over = h.over || h.local || h.failed || rolledBack
		h.open = false
	}
}

// tagged reads from a command's tag whether it ended a transaction.
func (q *queue) tagged(tag []byte) {
	back := bytes.Equal(tag, []byte("ROLLBACK"))
	if back || bytes.Equal(tag, []byte("COMMIT")) || bytes.Equal(tag, []byte("PREPARE TRANSACTION")) {
		q.mu.Lock()
		q.voice.ended(back)
		if q.n > 0 && q.steps[q.first].mark.kind != markRollbackTo {
			q.own.ended(back)
		}
		q.mu.Unlock()
	}
}

// heard returns whether the latest that was said is over, whether it may be yet,
// and whether something is under way that may end its transaction.
func (q *queue) heard() (over, open, turns bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.voice.over, q.voice.open || q.n > 0, q.turns > 0
}

// turns reports whether a step may end a transaction.
func (s *step) turns() bool {
	return s.ends || s.mark.kind != markNone || s.kind == stepSync || s.kind == stepQuery || s.kind == stepFunction
}

// mayEnd reports whether one of the commands may end a transaction.
func mayEnd(commands []string) bool {
	for _, c := range commands {
		switch c {
		case "commit", "rollback", "prepare_transaction", "transaction", "call", "do", "unknown":
			return true
		}
	}
	return false
}
