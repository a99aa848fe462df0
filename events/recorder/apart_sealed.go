package recorder

import (
	"context"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// ErrInClear says that transcripts were encrypted until now, and would not be from here on.
var ErrInClear = errors.New("its newest transcript is encrypted, and there are no recipients: was the configuration lost? (name recipients_file in --config, or say --in-clear)")

// CheckSealed returns ErrInClear where the newest transcript that is there is encrypted,
// and no recipients are named for those to come.
func (s *DB) CheckSealed(ctx context.Context) error {
	if s.apart == nil || len(s.apart.Recipients) > 0 {
		return nil
	}
	for before := int64(-1); ; {
		b, err := s.newestWithBody(ctx, before)
		if err != nil || b == nil {
			return wrapSealed(err)
		}
		before = b.leaf
		for i := range b.apart {
			raw, err := s.apart.Store.Get(ctx, b.apart[i].name(b.host, b.chain, uint64(b.first)))
			switch {
			case errors.Is(err, transcripts.ErrNone): // deleted
				continue
			case err != nil:
				return wrapSealed(err)
			case len(raw) > 1 && raw[1] == sealedPart:
				return wrapSealed(ErrInClear)
			}
			return nil
		}
	}
}

func wrapSealed(err error) error {
	if err != nil {
		err = fmt.Errorf("recorder: %w", err)
	}
	return err
}

type leafBlock struct {
	leaf, first int64
	host, chain string
	blockHeads
}

// newestWithBody is the newest block before a leaf that names bodies; nil where none of
// the 4096 before it does: what waits for its first transcript for so long is new.
func (s *DB) newestWithBody(ctx context.Context, before int64) (*leafBlock, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT l.leaf, l.host, l.chain, l.first, b.heads FROM leaves l
		JOIN blocks b ON b.host = l.host AND b.chain = l.chain AND b.first = l.first
		WHERE l.alarm = 0 AND (?1 < 0 OR l.leaf < ?1) ORDER BY l.leaf DESC LIMIT 4096`, before)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b leafBlock
		var heads []byte
		if err := rows.Scan(&b.leaf, &b.host, &b.chain, &b.first, &heads); err != nil {
			return nil, err
		}
		if b.blockHeads, err = readHeads(b.chain, uint64(b.first), heads); err != nil {
			continue // Verify names it
		}
		if len(b.apart) > 0 {
			return &b, nil
		}
	}
	return nil, rows.Err()
}
