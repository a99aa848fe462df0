package oidc

import (
	"container/heap"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/identity"
)

// maxSpent is how many one-time tokens are remembered, a few MB.
const maxSpent = 64 << 10

// spent remembers one-time tokens until they expire. It is in memory alone:
// what was issued before it began may have been spent before, and is refused.
type spent struct {
	now   func() time.Time
	began time.Time

	mu   sync.Mutex
	seen map[spentKey]struct{}
	ends ends
	last time.Time // the clock's furthest: a clock set back forgets nothing
}

type spentKey struct{ issuer, id string }

func newSpent(now func() time.Time) *spent {
	return &spent{now: now, began: now(), seen: map[spentKey]struct{}{}}
}

// spend takes a token that nobody has presented before. When there is no room
// for one more it refuses: forgetting one would let it in again.
func (s *spent) spend(t *identity.Token, skew time.Duration) error {
	if t.Issued.Before(s.began.Add(skew)) {
		return errors.New("its one-time token was issued before this passage could know whether it was used: ask for a new one")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.After(s.last) {
		s.last = now
	}
	if !s.last.Before(t.Expires) {
		return fmt.Errorf("%w: ask for a new one", identity.ErrExpired)
	}
	for len(s.ends) > 0 && !s.last.Before(s.ends[0].at) {
		delete(s.seen, heap.Pop(&s.ends).(end).spentKey)
	}
	k := spentKey{t.Issuer, t.ID}
	if _, twice := s.seen[k]; twice {
		return errors.New("its one-time token was used before: ask for a new one")
	}
	if len(s.seen) >= maxSpent {
		return fmt.Errorf("more than %d one-time tokens are in use: try again when some have expired", maxSpent)
	}
	s.seen[k] = struct{}{}
	heap.Push(&s.ends, end{k, t.Expires})
	return nil
}

type end struct {
	spentKey
	at time.Time
}

// ends is a heap: the next to expire is the first.
type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}
