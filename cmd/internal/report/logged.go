package report

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// Log is a transparency log as it was when a report was made, which then proves of
// each record that it is in it. See recorder.Entry for what an entry says.
type Log struct {
	Raw    []byte                    // its checkpoint
	State  LogState                  // what that says
	Places map[recorder.Place]uint64 // of all blocks of the store, at that time
	// Prove returns an entry, and the proof that it is in the log.
	Prove func(ctx context.Context, index uint64) (entry []byte, path [][]byte, err error)
}

// LogState is what a checkpoint signs.
type LogState struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"` // entries
	Root   string `json:"root"` // hex
}

// checkpointFile holds the log's checkpoint in a bundle.
const checkpointFile = "log/checkpoint"

// logFile names the file of the n-th chain's entries, from 1.
func logFile(n int) string { return fmt.Sprintf("log/%03d.jsonl", n) }

// proved is a line of a file of log/: an entry, which is of records of the chain, and
// the proof that the log has it.
type proved struct {
	Index uint64   `json:"index"`
	Entry string   `json:"entry"` // JSON, as it was logged
	Path  []string `json:"path"`  // hex
}

func (p *proved) write(w io.Writer) error {
	b, err := json.Marshal(p)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// block is an entry whose records are read.
type block struct {
	proved
	recorder.Entry
	leaves [][32]byte
}

// open begins with the first record of an entry.
func (p proved) open(c tlog.Checkpoint, host, chain string, first uint64) (*block, error) {
	b := &block{proved: p}
	path := make([][]byte, len(p.Path))
	var err error
	for i, h := range p.Path {
		if path[i], err = hex.DecodeString(h); err != nil {
			return nil, fmt.Errorf("entry %d of the log: its proof: %w", p.Index, err)
		}
	}
	if err := c.CheckInclusion(p.Index, []byte(p.Entry), path); err != nil {
		return nil, fmt.Errorf("entry %d is not in the log: %w", p.Index, err)
	}
	if err := json.Unmarshal([]byte(p.Entry), &b.Entry); err != nil {
		return nil, fmt.Errorf("entry %d of the log: %w", p.Index, err)
	}
	if e := &b.Entry; e.Type != "records" || e.Host != host || e.Chain != chain || e.First != first || e.N < 1 {
		return nil, fmt.Errorf("entry %d of the log is not of records from %d on", p.Index, first)
	}
	return b, nil
}

// add takes in a record and its leaf. It returns how many records the entry has once
// they are all there, 0 before.
func (b *block) add(r *events.Record, leaf [32]byte) (n int, err error) {
	if i := len(b.leaves); r.Seq != b.First+uint64(i) || !b.Marked(i, r.Hash) {
		return 0, fmt.Errorf("record %d is not the one that the log has", r.Seq)
	}
	if b.leaves = append(b.leaves, leaf); len(b.leaves) < b.N {
		return 0, nil
	}
	if root := recorder.RootOf(b.leaves); !slices.Equal(root[:], b.Root) {
		return 0, fmt.Errorf("records %d to %d are not those that the log has", b.First, r.Seq)
	}
	return b.N, nil
}

func (s LogState) checkpoint() tlog.Checkpoint {
	return tlog.Checkpoint{Origin: s.Origin, Size: s.Size, Root: s.Root}
}

// errMoved says that the store was written to in a way that its snapshot does not allow for.
var errMoved = errors.New("a record came late while the report was made: make it again")

// logged is where the entries of a chain stand while its records are written.
type logged struct {
	log  *Log
	host string
	cur  *block
	past bool // the rest came after the log was looked at
}

// later reports whether a record came after the log was looked at.
func (l *logged) later(r *events.Record) (bool, error) {
	if l.cur != nil {
		return false, nil
	}
	_, known := l.log.Places[recorder.Place{Host: l.host, Chain: r.Chain, First: r.Seq}]
	if known && l.past {
		return false, errMoved
	}
	l.past = !known
	return l.past, nil
}

// take returns what the line of a record says of its leaf, "" where that can be computed
// of it, and the entry that it ends, nil for none.
func (l *logged) take(ctx context.Context, h *recorder.Held, spoken bool) (leaf string, done *block, err error) {
	r := &h.Record
	bad := func(err error) (string, *block, error) {
		return "", nil, fmt.Errorf("host %s, chain %s: %w (sallyport verify --log-key says more)", l.host, r.Chain, err)
	}
	if l.cur == nil {
		at := l.log.Places[recorder.Place{Host: l.host, Chain: r.Chain, First: r.Seq}]
		entry, path, err := l.log.Prove(ctx, at)
		if err != nil {
			return bad(err)
		}
		p := proved{Index: at, Entry: string(entry), Path: []string{}}
		for _, h := range path {
			p.Path = append(p.Path, hex.EncodeToString(h))
		}
		if l.cur, err = p.open(l.log.State.checkpoint(), l.host, r.Chain, r.Seq); err != nil {
			return bad(err)
		}
	}
	sum := recorder.LeafOf(r, h.Length)
	if !spoken {
		leaf = hex.EncodeToString(sum[:])
	}
	n, err := l.cur.add(r, sum)
	if err != nil {
		return bad(err)
	}
	if n > 0 {
		done, l.cur = l.cur, nil
	}
	return leaf, done, nil
}
