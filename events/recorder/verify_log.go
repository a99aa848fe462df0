package recorder

import (
	stdbytes "bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events/recorder/tlog"
)

// Logged says against which transparency log a store is held.
type Logged struct {
	Dir  string
	Keys tlog.Keys
	// All: what the log does not have yet is a fault, as in an export, which was
	// made when the log had all of it.
	All bool
	// Earlier is a checkpoint that was seen before, nil for none: the log must begin
	// with that one.
	Earlier *tlog.Checkpoint
}

// unloggedTime is what the log has to get what is stored.
const unloggedTime = 10 * time.Minute

// LogReport is what Verify found of the transparency log.
type LogReport struct {
	tlog.Checkpoint
	Unlogged uint64 `json:"unlogged"` // entries that the log does not have yet
}

// verifyLog holds what is stored against the log: each entry must be made of
// what the store holds, in its order. It names the first that is not.
func verifyLog(ctx context.Context, tx *sql.Tx, by *Logged) (*LogReport, *Fault, error) {
	l := tlog.Open(by.Dir)
	cp, _, err := l.Checkpoint(ctx, by.Keys)
	if err != nil {
		return nil, nil, err
	}
	rep := &LogReport{Checkpoint: cp}
	if e := by.Earlier; e != nil && e.Size > cp.Size {
		return rep, &Fault{What: "cut", Detail: fmt.Sprintf("the log has %d entries, and had %d", cp.Size, e.Size)}, nil
	}
	var fault *Fault
	tree := tlog.NewTree()
	rows, err := tx.QueryContext(ctx, leafRows+`ORDER BY l.leaf`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	wrong := false
	var more *Fault
	now := time.Now()
	for rows.Next() {
		x, err := scanLeaf(rows)
		if err != nil {
			return nil, nil, err
		}
		if x.index >= cp.Size {
			if rep.Unlogged++; by.All && more == nil {
				more = &Fault{x.Host, x.Chain, x.First, "inserted", "the log does not have it" + x.kind()}
			}
			if late := now.Sub(unixNano(x.stored)); x.stored != 0 && late > unloggedTime && more == nil {
				more = &Fault{x.Host, x.Chain, x.First, "unlogged", fmt.Sprintf("the log does not have it%s, and it was stored %s ago: start the recorder; where that does not help, the log was put back", x.kind(), late.Round(time.Second))}
			}
			continue
		}
		if wrong = wrong || x.err != nil || x.index != tree.Size(); wrong {
			continue
		}
		b, err := json.Marshal(&x.Entry)
		if err == nil {
			err = tree.Add(b)
		}
		if err != nil {
			return nil, nil, err
		}
		if e := by.Earlier; e != nil && tree.Size() == e.Size {
			if root, err := tree.Root(); err != nil {
				return nil, nil, err
			} else if root != e.Root {
				fault = &Fault{What: "changed", Detail: fmt.Sprintf("the first %d entries of the log are others than when it was seen before", e.Size)}
			}
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, nil, err
	}
	root, err := tree.Root()
	if err != nil {
		return nil, nil, err
	}
	if wrong || tree.Size() != cp.Size || root != cp.Root {
		fault, err = locate(ctx, tx, l, cp)
	}
	if err == nil && fault == nil {
		fault = more
	}
	if err == nil && fault == nil {
		if err := l.Check(ctx, cp); err != nil {
			fault = &Fault{What: "changed", Detail: fmt.Sprintf("the store is what the log's checkpoint signs, and the log's own files are not, or are gone: it can't prove its entries to others: %v", err)}
		}
	}
	if err == nil && fault == nil {
		fault, err = unlogged(ctx, tx)
	}
	return rep, fault, err
}

func (e *Entry) kind() string {
	if e.Alarm != 0 {
		return fmt.Sprintf(" (alarm %d)", e.Alarm)
	}
	return ""
}

// unlogged names a block or an alarm that has no place in the log.
func unlogged(ctx context.Context, tx *sql.Tx) (*Fault, error) {
	f := Fault{What: "inserted", Detail: "it has no place in the log"}
	var first int64
	err := tx.QueryRowContext(ctx, `SELECT host, chain, first FROM blocks b
		WHERE NOT EXISTS (SELECT 1 FROM leaves l WHERE l.host = b.host AND l.chain = b.chain AND l.first = b.first AND l.alarm = 0) LIMIT 1`).Scan(&f.Host, &f.Chain, &first)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, `SELECT host, chain, seq FROM alarms WHERE id > (SELECT coalesce(max(alarm), 0) FROM leaves) LIMIT 1`).Scan(&f.Host, &f.Chain, &first)
		f.Detail = "this alarm has no place in the log"
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	f.Seq = uint64(first)
	return &f, err
}

// errFound ends a walk.
var errFound = errors.New("found")

// locate names the first entry of the log that is not made of what the store
// holds.
func locate(ctx context.Context, tx *sql.Tx, l *tlog.Log, cp tlog.Checkpoint) (*Fault, error) {
	// The log's own copy of its entries counts once it gives the signed root.
	tree := tlog.NewTree()
	err := l.Entries(ctx, cp.Size, func(_ uint64, e []byte) error { return tree.Add(e) })
	if err == nil {
		var root string
		if root, err = tree.Root(); err == nil && root != cp.Root {
			err = errors.New("its entries are not those that its checkpoint signs")
		}
	}
	if err != nil {
		return &Fault{What: "changed", Detail: fmt.Sprintf("the store does not give the root that the log's checkpoint signs, and the log can't say where: %v", err)}, nil
	}
	rows, err := tx.QueryContext(ctx, leafRows+`ORDER BY l.leaf`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var fault *Fault
	err = l.Entries(ctx, cp.Size, func(at uint64, e []byte) error {
		var was Entry
		if err := json.Unmarshal(e, &was); err != nil {
			return fmt.Errorf("entry %d of the log: %w", at, err)
		}
		if !rows.Next() {
			fault = was.lost("cut", "the store ends before it")
			return errFound
		}
		x, err := scanLeaf(rows)
		if err != nil {
			return err
		}
		if fault = was.differs(&x, at); fault != nil {
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, err
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if fault == nil {
		return nil, errors.New("the store was edited while it was verified")
	}
	return fault, nil
}

func (e *Entry) lost(what, why string) *Fault {
	return &Fault{e.Host, e.Chain, e.First, what, "the log has it" + e.kind() + ", and " + why}
}

// differs names the first record of a logged entry that is not in a leaf.
func (e *Entry) differs(x *leaf, at uint64) *Fault {
	switch {
	case x.index != at:
		return e.lost("removed", "the store does not")
	case e.Type != x.Type || e.Host != x.Host || e.Chain != x.Chain || e.First != x.First || e.Alarm != x.Alarm:
		return e.lost("reordered", fmt.Sprintf("the store has record %d of host %s, chain %s in its place%s", x.First, x.Host, x.Chain, x.kind()))
	case x.err != nil && e.Alarm != 0:
		return e.lost("removed", "the store does not")
	case x.err != nil:
		return e.lost("removed", x.err.Error())
	case e.Alarm != 0 && !stdbytes.Equal(e.Link, x.Link):
		return e.lost("changed", "the store has another")
	}
	for i := 0; i < min(len(e.Marks), len(x.Marks)); i += markBytes {
		if string(e.Marks[i:i+markBytes]) != string(x.Marks[i:i+markBytes]) {
			return &Fault{e.Host, e.Chain, e.First + uint64(i/markBytes), "changed", "the log has another record in its place"}
		}
	}
	switch {
	case x.N < e.N:
		return &Fault{e.Host, e.Chain, e.First + uint64(x.N), "removed", "the log has it"}
	case x.N > e.N:
		return &Fault{e.Host, e.Chain, e.First + uint64(e.N), "inserted", "the log does not have it"}
	case !stdbytes.Equal(e.Bodies, x.Bodies):
		return &Fault{e.Host, e.Chain, e.First, "changed", fmt.Sprintf("what is said of the transcripts that it and the %d behind it keep apart: sizes, sums, or when they were stored", e.N-1)}
	case !stdbytes.Equal(e.Root, x.Root):
		return &Fault{e.Host, e.Chain, e.First, "changed", fmt.Sprintf("it or one of the %d behind it is said to be of another kind, protocol, session or length", e.N-1)}
	}
	return nil
}
