package recorder

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"sallyport.dev/sallyport/events"
)

// Held is a record of the store, with the host that published it.
type Held struct {
	Host   string
	Record events.Record
	Length int // bytes of its payload, also where that is left out
}

// Records gives every record of the store, chain by chain in their order, as of
// one moment. It ends with an error at what is damaged. The payloads of
// transcripts that are kept apart are left out. Payloads are valid until
// the next one.
func (s *DB) Records(ctx context.Context) iter.Seq2[Held, error] {
	return func(yield func(Held, error) bool) {
		bad := func(err error) { yield(Held{}, fmt.Errorf("recorder: records: %w", err)) }
		tx, err := s.read(ctx)
		if err != nil {
			bad(err)
			return
		}
		defer tx.Rollback()
		ends, err := chainEnds(ctx, tx)
		if err != nil {
			bad(err)
			return
		}
		for _, k := range slices.SortedFunc(maps.Keys(ends), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
			for b, err := range blocks(ctx, tx, k[0], k[1], math.MinInt64, math.MaxInt64) {
				switch {
				case err == nil && !b.placed():
					err = fmt.Errorf("host %s, chain %s: a block stands before the first record (sallyport verify says more)", k[0], k[1])
				case err == nil && (b.err != nil || !b.whole()):
					err = fmt.Errorf("host %s, chain %s: block of record %d: %w (sallyport verify says more)", k[0], k[1], b.first, errBlock)
				}
				if err != nil {
					bad(err)
					return
				}
				for i := range b.records {
					if !yield(Held{k[0], b.records[i], b.lengths[i]}, nil) {
						return
					}
				}
			}
		}
	}
}
