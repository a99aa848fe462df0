package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
)

// Check holds the log's own files against a checkpoint: its entries must give the root,
// and its tiles be made of them, so that it can prove each of them to others.
func (l *Log) Check(ctx context.Context, c Checkpoint) error {
	tree := NewTree()
	var levels tiles
	err := l.Entries(ctx, c.Size, func(_ uint64, entry []byte) error {
		if err := tree.Add(entry); err != nil {
			return err
		}
		return levels.add(ctx, l, 0, LeafHash(entry))
	})
	if err != nil {
		return err
	}
	switch root, err := tree.Root(); {
	case err != nil:
		return err
	case root != c.Root:
		return errors.New("tlog: its entries are not those that its checkpoint signs")
	}
	for level := range levels {
		if err := levels.hold(ctx, l, level); err != nil {
			return err
		}
	}
	return nil
}

// tiles are the newest tile of each level, as the entries give them.
type tiles []struct {
	index uint64
	nodes []byte
}

// add appends a node to a level.
func (t *tiles) add(ctx context.Context, l *Log, level int, node []byte) error {
	if level == len(*t) {
		*t = append(*t, tiles{{}}...)
	}
	x := &(*t)[level]
	if x.nodes = append(x.nodes, node...); len(x.nodes) < layout.TileWidth*rfc6962.DefaultHasher.Size() {
		return nil
	}
	if err := t.hold(ctx, l, level); err != nil {
		return err
	}
	root := above(x.nodes)
	x.index, x.nodes = x.index+1, x.nodes[:0]
	return t.add(ctx, l, level+1, root)
}

// hold compares the newest tile of a level with the log's.
func (t *tiles) hold(ctx context.Context, l *Log, level int) error {
	x := &(*t)[level]
	n := len(x.nodes) / rfc6962.DefaultHasher.Size()
	if n == 0 {
		return nil
	}
	have, err := l.files.ReadTile(ctx, uint64(level), x.index, uint8(n%layout.TileWidth)) // 0: a full one
	if err != nil {
		return fmt.Errorf("tlog: %w", err)
	}
	if !bytes.HasPrefix(have, x.nodes) {
		return fmt.Errorf("tlog: tile %d of level %d is not made of its entries", x.index, level)
	}
	return nil
}

// above is the node over those of a full tile.
func above(nodes []byte) []byte {
	h := rfc6962.DefaultHasher
	level := bytes.Clone(nodes)
	for len(level) > h.Size() {
		n := 0
		for i := 0; i < len(level); i += 2 * h.Size() {
			n += copy(level[n:], h.HashChildren(level[i:i+h.Size()], level[i+h.Size():i+2*h.Size()]))
		}
		level = level[:n]
	}
	return level
}
