package postgres

// explaining is whether statements are explained, as the server has the setting:
// what is set in a transaction that is rolled back was never set, and what is set
// for a transaction ends with it. queue.mu guards it.
type explaining struct {
	on     bool // now
	kept   bool // once the transaction is committed
	before bool // what held before the transaction first changed it
	open   bool // it was changed in a transaction that has not ended
	failed bool // something failed since
	points []point
}

// point is a savepoint that was made since.
type point struct {
	name     string
	on, kept bool
}

// did takes note that the server confirmed a step.
func (e *explaining) did(s *step, idle bool) {
	m := &s.mark
	switch m.kind {
	case markSet:
		if s.kind == stepQuery && idle { // it was its own transaction
			if !m.set.local {
				e.on, e.kept = m.set.on, m.set.on
			}
			return
		}
		if !e.open {
			*e = explaining{on: e.on, kept: e.on, before: e.on, open: true}
		}
		e.on = m.set.on
		if !m.set.local {
			e.kept = m.set.on
		}
	case markSavepoint:
		if e.open {
			e.points = append(e.points, point{m.name, e.on, e.kept})
		}
	case markRelease, markRollbackTo:
		if e.open {
			e.back(m)
		}
	}
}

// back goes back to a savepoint, or forgets it. One that is not known was made
// before anything changed.
func (e *explaining) back(m *mark) {
	i := len(e.points) - 1
	for i >= 0 && e.points[i].name != m.name {
		i--
	}
	to := point{on: e.before, kept: e.before}
	if i >= 0 {
		to = e.points[i]
	}
	if m.kind == markRollbackTo {
		e.on, e.kept = to.on, to.kept
		i++
	}
	e.points = e.points[:max(i, 0)]
}

// ended takes note of a transaction's end.
func (e *explaining) ended(rolledBack bool) {
	if !e.open {
		return
	}
	on := e.kept
	if rolledBack {
		on = e.before
	}
	*e = explaining{on: on, kept: on}
}

// explains returns whether statements are explained, and whether that may change
// by itself; of steps under way that may change it, unsettled tells.
func (q *queue) explains() (on, open, unsettled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.explain.on, q.explain.open, q.turns > 0
}
