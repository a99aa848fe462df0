package postgres

// setting is a setting of the passage's own, as the server has it: what is set in a
// transaction that is rolled back was never set, and what is set for a transaction
// ends with it. The zero T is what it is while nobody sets it. queue.mu guards it.
type setting[T any] struct {
	now    T
	kept   T    // once the transaction is committed
	before T    // what held before the transaction first changed it
	open   bool // it was changed in a transaction that has not ended
	points []point[T]
}

// point is a savepoint that was made since.
type point[T any] struct {
	name      string
	now, kept T
}

// setTo is what a step sets.
type setTo[T any] struct {
	to    T
	local bool // for the transaction
	is    bool // it sets it
}

// did takes note that the server confirmed a step, which sets it or not.
func (e *setting[T]) did(s *step, set setTo[T], idle bool) {
	m := &s.mark
	switch {
	case set.is:
		if s.kind == stepQuery && idle { // it was its own transaction
			if !set.local {
				e.now, e.kept = set.to, set.to
			}
			return
		}
		if !e.open {
			*e = setting[T]{now: e.now, kept: e.now, before: e.now, open: true}
		}
		e.now = set.to
		if !set.local {
			e.kept = set.to
		}
	case !e.open:
	case m.kind == markSavepoint:
		e.points = append(e.points, point[T]{m.name, e.now, e.kept})
	case m.kind == markRelease || m.kind == markRollbackTo:
		e.back(m)
	}
}

// back goes back to a savepoint, or forgets it. One that is not known was made
// before anything changed.
func (e *setting[T]) back(m *mark) {
	i := len(e.points) - 1
	for i >= 0 && e.points[i].name != m.name {
		i--
	}
	to := point[T]{now: e.before, kept: e.before}
	if i >= 0 {
		to = e.points[i]
	}
	if m.kind == markRollbackTo {
		e.now, e.kept = to.now, to.kept
		i++
	}
	e.points = e.points[:max(i, 0)]
}

// ended takes note of a transaction's end.
func (e *setting[T]) ended(rolledBack bool) {
	if !e.open {
		return
	}
	last := e.kept
	if rolledBack {
		last = e.before
	}
	*e = setting[T]{now: last, kept: last}
}

// own are the settings that hold for whatever comes next; queue.mu guards them.
type own struct {
	explain setting[bool]   // statements are explained
	why     setting[string] // what is masked is to be seen for
	failed  bool            // something has failed since the transaction changed one
}

func (o *own) did(s *step, idle bool) {
	was := o.explain.open || o.why.open
	o.explain.did(s, s.mark.explain, idle)
	o.why.did(s, s.mark.why, idle)
	if !was {
		o.failed = false
	}
}

func (o *own) ended(rolledBack bool) {
	o.explain.ended(rolledBack)
	o.why.ended(rolledBack)
}

// ownSettings are as of the last answer.
type ownSettings struct {
	explain              bool
	why                  string
	explainOpen, whyOpen bool // a transaction's end may change it
	unsettled            bool // what is under way may
}

func (q *queue) ownSettings() ownSettings {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := &q.own
	return ownSettings{
		explain: o.explain.now, why: o.why.now, explainOpen: o.explain.open, whyOpen: o.why.open,
		unsettled: q.sets > 0 || (o.explain.open || o.why.open) && q.turns > 0,
	}
}

// unjustify has nothing be justified any more, whatever becomes of the transaction.
func (q *queue) unjustify() {
	q.mu.Lock()
	q.own.why = setting[string]{}
	q.mu.Unlock()
}
