package postgres

import (
	"sync"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// stepKind says which answers a step may have.
type stepKind uint8

const (
	_ stepKind = iota
	stepQuery
	stepFunction
	stepParse
	stepBind
	stepDescribeStatement
	stepDescribePortal
	stepExecute
	stepClose
	stepSync
)

// alone reports whether an error of the step is followed by ReadyForQuery;
// behind an error of the others the server skips all up to the next Sync.
func (k stepKind) alone() bool { return k == stepQuery || k == stepFunction || k == stepSync }

// step is a message under way to the server, and what its answer means.
type step struct {
	kind      stepKind
	statement bool   // it is a statement with an event, whose outcome is to be recorded
	number    uint64 // of the statement that its answer belongs to; 0: it is not recorded
	record    policy.Recording
	started   time.Time

	refusal   *refusal      // takes the place of the server's error
	sanitize  bool          // of errors and notices
	rewritten bool          // the server's positions are those of another text
	guard     *policy.Scope // nil: nothing is protected
	analyzer  query.Analyzer
	origins   []query.Origin  // of its result, to be told of
	outputs   []query.Output  // of its result, to be masked
	width     int             // columns of that result
	subjects  []query.Subject // columns of that result that the client is not shown
	forms     []scrub.Copy    // of each COPY whose rows say whose they are, or are masked
	untold    string          // why it is not known of all of its rows whose they are
	search    *search         // for what its rows hold; nil: nothing
	asked     bool            // by us: the client does not see the answer
	reading   *reading        // what we asked for; nil: a description
	copies    bool            // it may start a COPY from the client
	defines   bool            // it may change the catalog
	voice     voice
	mark      mark            // what it does to settings of our own
	params    []uint32        // not nil: what the client is told of its parameters
	ends      bool            // it may end a transaction, though a Sync does not follow
	commits   bool            // it may end one; deferred constraints speak then
	event     *events.Session // for whom its statement was decided; nil: it has none
	change    change
	texts     *texts            // a Query's, while an error of it may have to be placed
	left      *policy.Allowance // nil: nothing limits its rows
	tallies   []*tally          // then: of the cursors that it takes rows from
}

// maxQueue bounds the steps under way; the client waits beyond it.
const maxQueue = 8 << 10

// copyState is where a COPY from the client stands.
type copyState uint8

const (
	copyNone    copyState = iota
	copyPending           // the server has not said yet whether it takes data
	copyIn                // it takes data
	copyEnding            // the client said that its data ends
)

// queue is what both goroutines of a session share.
type queue struct {
	mu         sync.Mutex
	moved      sync.Cond // something was answered, or over is set
	steps      []step    // a ring
	first, n   int
	batch      uint64 // Syncs sent so far
	skipping   bool   // the server skips all up to the next Sync
	over       bool   // no answer will come any more
	final      *refusal
	copy       copyState
	copies     int    // steps under way that may start a COPY
	idle       bool   // the last ReadyForQuery was outside of a transaction
	failed     bool   // ... or inside of one that has failed
	rested     func() // nothing is under way; called with mu held
	voice      heard
	own        own
	sets       int // steps under way that change one
	turns      int // steps under way that may end a transaction
	names      names
	spare      *texts        // for the next step
	cancelling chan struct{} // closed when a cancel request of our own has been taken
	fails      stepKind      // the step under way is to fail at the server: by a decoy of this kind
}

func (q *queue) init() {
	q.moved.L = &q.mu
	q.names.init()
}

// full reports whether push would wait.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n >= maxQueue
}

// fate is what becomes of a message.
type fate uint8

const (
	goes  fate = iota // its step is in the queue: send it
	skips             // the server will skip it
	lost              // nothing is answered any more: the session's end is its outcome
)

// push adds a step before its message is sent.
func (q *queue) push(s *step) fate {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n >= maxQueue && !q.over && !q.skipping {
		q.moved.Wait()
	}
	if q.over {
		return lost
	}
	if s.kind == stepSync {
		q.skipping = false
		q.batch++
	} else if q.skipping {
		return skips
	}
	if q.n == len(q.steps) {
		q.grow()
	}
	if s.copies {
		q.copies++
		q.copy = copyPending
	}
	if s.voice != voiceNone {
		q.voice.over = false
	}
	if s.turns() {
		q.turns++
	}
	if s.mark.sets() {
		q.sets++
	}
	q.names.predict(&s.change, q.batch)
	q.steps[(q.first+q.n)%len(q.steps)] = *s
	q.n++
	return goes
}

func (q *queue) grow() {
	bigger := make([]step, max(4, 2*len(q.steps)))
	for i := range q.n {
		bigger[i] = q.steps[(q.first+i)%len(q.steps)]
	}
	q.steps, q.first = bigger, 0
}

// skips reports whether the server skips what comes before the next Sync.
func (q *queue) skips() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.skipping
}

// peek returns a copy of the oldest step.
func (q *queue) peek(into *step) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return false
	}
	*into = q.steps[q.first]
	return true
}

// pop takes the oldest step off; q.mu is held.
func (q *queue) pop() (s step) {
	s = q.steps[q.first]
	q.steps[q.first] = step{}
	q.first = (q.first + 1) % len(q.steps)
	q.n--
	if s.turns() {
		q.turns--
	}
	if s.mark.sets() {
		q.sets--
	}
	if s.copies {
		if q.copies--; q.copies == 0 {
			q.copy = copyNone
		} else {
			q.copy = copyPending
		}
	}
	if s.texts != nil && cap(s.texts.b) <= maxSpareTexts {
		q.spare = s.texts
	}
	if q.n == 0 && len(q.steps) > 64 {
		q.steps, q.first = nil, 0 // what one long pipeline needed is not kept
	}
	return s
}

// done ends the oldest step as the server confirmed it.
func (q *queue) done() {
	q.mu.Lock()
	s := q.pop()
	q.voice.said(&s, q.idle)
	q.own.did(&s, q.idle)
	q.names.confirm(&s.change)
	q.moved.Broadcast()
	q.settle()
	q.mu.Unlock()
}

// settle notes whether nothing is under way any more; q.mu is held.
func (q *queue) settle() {
	if q.n == 0 && q.idle && q.rested != nil {
		q.rested()
	}
}

// fail ends the oldest step as failed, and those that the server skips for it.
// skipped is called for each of these.
func (q *queue) fail(skipped func(*step)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.pop()
	if !s.takenBack() {
		q.voice.unsaid(&s)
		q.own.failed = true
	}
	q.names.undo(&s.change, true)
	if !s.kind.alone() {
		q.skip(skipped)
	}
	q.moved.Broadcast()
	q.settle()
}

// skip takes off the steps up to the next Sync; q.mu is held.
func (q *queue) skip(skipped func(*step)) {
	for q.n > 0 && q.steps[q.first].kind != stepSync {
		s := q.pop()
		if !s.takenBack() {
			q.voice.unsaid(&s)
		}
		q.names.undo(&s.change, false)
		skipped(&s)
	}
	q.skipping = q.n == 0
}

// drained waits until every step is answered, or none will be.
func (q *queue) drained() {
	q.mu.Lock()
	for q.n > 0 && !q.over {
		q.moved.Wait()
	}
	q.mu.Unlock()
}

// end says that no answer will come any more, and why the session ends.
func (q *queue) end(final *refusal) {
	q.mu.Lock()
	q.over = true
	if q.final == nil {
		q.final = final
	}
	q.moved.Broadcast()
	q.mu.Unlock()
}

// copying sets where the COPY of the oldest step stands.
func (q *queue) copying(s copyState) {
	q.mu.Lock()
	q.copy = s
	q.moved.Broadcast()
	q.mu.Unlock()
}

// copyEnds says that the client's data ends, if the server takes any.
func (q *queue) copyEnds() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.copy != copyIn {
		return false
	}
	q.copy = copyEnding
	return true
}

// takesData reports whether a COPY needs the client's data, or may: also another
// one of the same text.
func (q *queue) takesData() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.over && (q.copy == copyIn || q.copyUnsure())
}

// copyFailed says that the oldest step, if it could start a COPY, has failed.
func (q *queue) copyFailed(s *step) {
	if s.copies {
		q.copying(copyNone)
	}
}

// copyState returns where a COPY from the client stands, and whether only the
// server knows what comes next: whether it takes data or, within one Query,
// data again.
func (q *queue) copyState() (s copyState, unsure bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.copy, q.copyUnsure()
}

func (q *queue) copyUnsure() bool {
	return q.copy == copyPending || q.copy == copyEnding && q.n > 0 && q.steps[q.first].kind == stepQuery
}

// copyNow waits for the server to say it, and returns where the COPY stands.
func (q *queue) copyNow() copyState {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.copyUnsure() && !q.over {
		q.moved.Wait()
	}
	return q.copy
}
