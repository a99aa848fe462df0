package recorder

import (
	"context"
	"fmt"

	"sallyport.dev/sallyport/events"
)

// Place says where a block of records stands in the transparency log.
type Place struct {
	Host, Chain string
	First       uint64 // number of its first record
}

// Places returns the index in the log of each block of the store.
func (s *DB) Places(ctx context.Context) (map[Place]uint64, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT leaf, host, chain, first FROM leaves WHERE alarm = 0`)
	if err != nil {
		return nil, fmt.Errorf("recorder: log: %w", err)
	}
	defer rows.Close()
	out := map[Place]uint64{}
	for rows.Next() {
		var p Place
		var leaf, first int64
		if err := rows.Scan(&leaf, &p.Host, &p.Chain, &first); err != nil {
			return nil, fmt.Errorf("recorder: log: %w", err)
		}
		p.First = uint64(first)
		out[p] = uint64(leaf - 1)
	}
	return out, rows.Err()
}

// LeafOf is the hash of a record, whose payload has a length, in the tree of its entry:
// see Entry.Root.
func LeafOf(r *events.Record, length int) [32]byte { return recordLeaf(r, length) }

// RootOf is the root of the tree over leaves, of which there is one at least; it
// overwrites them.
func RootOf(leaves [][32]byte) [32]byte {
	for len(leaves) > 1 {
		leaves = fold(leaves)
	}
	return leaves[0]
}

// Marked tells whether the entry says of its i-th record, from 0, that it has this hash.
func (e *Entry) Marked(i int, hash [32]byte) bool {
	return i >= 0 && (i+1)*markBytes <= len(e.Marks) && string(e.Marks[i*markBytes:(i+1)*markBytes]) == string(hash[:markBytes])
}
