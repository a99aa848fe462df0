package jetstream

import (
	"fmt"
	"time"
)

// patience is longer than receipts of several recorders of one store can cross each
// other: all are sent again within 30 s.
const patience = 90 * time.Second

// signed is what a recorder has signed of this host's chain. A recorder whose store was
// put back to an earlier state, together with its log, is sound in itself: that it has
// signed more the host knows.
type signed struct {
	high  uint64    // record of the newest receipt that was believed
	since time.Time // when a receipt was behind that, and none came since that is not; zero: none is
}

// behind reports whether a receipt's record is one that a recorder was past. A crossed
// one is no error; where nothing else has come for long it is.
func (s *Shipper) behind(seq uint64, now time.Time) (bool, error) {
	was := max(s.signed.high, s.Source.First()-1) // released by a receipt, of before this start perhaps
	if seq >= was {
		s.signed.since = time.Time{}
		return false, nil
	}
	if s.signed.since.IsZero() {
		s.signed.since = now
		return true, nil
	}
	p := s.Patience
	if p == 0 {
		p = patience
	}
	if now.Sub(s.signed.since) < p {
		return true, nil
	}
	if s.PutBack != nil {
		s.PutBack(seq, was)
	}
	return true, fmt.Errorf("jetstream: receipt: the recorder has this chain up to record %d, and signed up to %d: its store was put back to an earlier state", seq, was)
}
