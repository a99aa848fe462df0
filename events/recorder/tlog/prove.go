package tlog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera/client"
)

// Prover gives the proofs of many entries of a log of one size.
type Prover struct {
	l       *Log
	size    uint64
	builder *client.ProofBuilder
}

// Prover returns one for a log of a size.
func (l *Log) Prover(ctx context.Context, size uint64) (*Prover, error) {
	b, err := client.NewProofBuilder(ctx, size, l.files.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("tlog: %w", err)
	}
	return &Prover{l, size, b}, nil
}

// Prove returns an entry, and the proof that the log has it.
func (p *Prover) Prove(ctx context.Context, index uint64) (entry []byte, path [][]byte, err error) {
	if entry, err = p.l.Entry(ctx, index, p.size); err != nil {
		return nil, nil, err
	}
	if path, err = p.builder.InclusionProof(ctx, index); err != nil {
		return nil, nil, fmt.Errorf("tlog: entry %d: %w", index, err)
	}
	return entry, path, nil
}

// Raw returns the newest checkpoint and what it says, whoever signed it; nil where
// there is none.
func (l *Log) Raw(ctx context.Context) (raw []byte, c Checkpoint, err error) {
	raw, err = l.files.ReadCheckpoint(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return nil, c, nil
	}
	if err == nil {
		c, err = Unverified(raw)
	}
	if err != nil {
		return nil, c, fmt.Errorf("tlog: checkpoint: %w", err)
	}
	return raw, c, nil
}

// Unverified is what a checkpoint says, whoever signed it.
func Unverified(raw []byte) (Checkpoint, error) {
	var c log.Checkpoint
	if _, err := c.Unmarshal(raw); err != nil {
		return Checkpoint{}, fmt.Errorf("tlog: checkpoint: %w", err)
	}
	if strings.ContainsAny(c.Origin, "\n\x00") {
		return Checkpoint{}, errors.New("tlog: checkpoint: its origin is no line")
	}
	return Checkpoint{Origin: c.Origin, Size: c.Size, Root: hex.EncodeToString(c.Hash)}, nil
}
