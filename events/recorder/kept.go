package recorder

import (
	"context"
	"iter"
	"slices"
)

// blockReader gives blocks, as the function blocks does.
type blockReader func(ctx context.Context, q querier, host, chain string, from, to int64) iter.Seq2[storedBlock, error]

// keptBlocks are those that a search read last. Sessions of one time share blocks, and
// a search looks into one after the other. A block that is stored does not change.
type keptBlocks struct{ in []keptBlock } // the latest first

type keptBlock struct {
	host, chain string
	storedBlock // as it is stored: without what is kept apart of it
}

// keptAtOnce bounds what they take: what each holds is bounded as blocksAtOnce is.
// Sessions of several hosts take turns in a list.
const keptAtOnce = 16

// blocks is a blockReader.
func (k *keptBlocks) blocks(ctx context.Context, q querier, host, chain string, from, to int64) iter.Seq2[storedBlock, error] {
	return func(yield func(storedBlock, error) bool) {
		if b := k.holding(host, chain, from, to); b != nil {
			yield(b.copied(), nil)
			return
		}
		for b, err := range blocks(ctx, q, host, chain, from, to) {
			if err == nil && b.placed() && b.whole() && b.err == nil {
				k.in = slices.Insert(k.in, 0, keptBlock{host, chain, b})
				k.in = k.in[:min(len(k.in), keptAtOnce)]
				b = k.in[0].copied()
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// holding is a block with all records of a chain from one number to another.
func (k *keptBlocks) holding(host, chain string, from, to int64) *keptBlock {
	for i := range k.in {
		b := &k.in[i]
		if b.first > from || b.last < to || b.chain != chain || b.host != host {
			continue
		}
		found := *b
		copy(k.in[1:i+1], k.in[:i])
		k.in[0] = found
		return &k.in[0]
	}
	return nil
}

// copied is the block for one reader, who fills in payloads that are kept apart.
func (b *keptBlock) copied() storedBlock {
	c := b.storedBlock
	if len(c.apart) > 0 {
		c.records = slices.Clone(c.records)
	}
	return c
}
