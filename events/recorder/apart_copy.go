package recorder

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"

	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// namedBody is a body that a block names, under its name.
type namedBody struct {
	host, chain, name string
	first             int64 // of its block
	body
}

// namedBodies gives all bodies that a store's records name.
func namedBodies(ctx context.Context, q querier) iter.Seq2[namedBody, error] {
	return func(yield func(namedBody, error) bool) {
		chains, err := listed(ctx, q)
		if err != nil {
			yield(namedBody{}, err)
			return
		}
		for _, k := range chains {
			for b, err := range blocks(ctx, q, k[0], k[1], math.MinInt64, math.MaxInt64) {
				if err == nil && len(b.records) == 0 { // what it names is not to be told
					err = fmt.Errorf("host %s, chain %s, block of record %d: %w (sallyport verify says more)", k[0], k[1], b.first, errBlock)
				}
				if err != nil {
					yield(namedBody{}, err)
					return
				}
				for _, x := range b.apart {
					if !yield(namedBody{k[0], k[1], x.name(k[0], k[1], uint64(b.first)), b.first, x}, nil) {
						return
					}
				}
			}
		}
	}
}

// listed are the hosts and chains of a store.
func listed(ctx context.Context, q querier) (out [][2]string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT DISTINCT host, chain FROM blocks ORDER BY host, chain`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k [2]string
		if err := rows.Scan(&k[0], &k[1]); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}

// copyBodies copies what the records of an exported store name. What is not there is
// left out: Verify tells whether it should be.
func copyBodies(ctx context.Context, dir string, from transcripts.Store) error {
	s, err := OpenReader(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := os.Mkdir(TranscriptsFolder(dir), 0o700); err != nil {
		return err
	}
	to := transcripts.OpenFiles(TranscriptsFolder(dir))
	for x, err := range namedBodies(ctx, s.db) {
		if err != nil {
			return err
		}
		b, err := from.Get(ctx, x.name)
		if errors.Is(err, transcripts.ErrNone) {
			continue
		}
		if err == nil {
			err = to.Put(ctx, x.name, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
