package recorder

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/events"
)

// A leaf is what becomes an entry of the transparency log: a block of records,
// or the newest alarm of a transaction. Leaves are numbered in the order of their
// transactions, in a table of their own, so that what is logged is what was
// committed.

// Entry is an entry of the transparency log, as JSON.
type Entry struct {
	Type  string `json:"type"` // records, alarm
	Host  string `json:"host,omitempty"`
	Chain string `json:"chain,omitempty"`
	First uint64 `json:"first,omitempty"` // number of the first record
	N     int    `json:"n,omitempty"`     // records, which follow each other
	// Root is that of a Merkle tree (RFC 6962) over the records: see recordLeaf.
	Root []byte `json:"root,omitempty"`
	// Marks are the first four bytes of each record's hash: they tell which one is
	// not what it was.
	Marks []byte `json:"marks,omitempty"`
	// Bodies is a hash of what is said of the transcripts that are kept apart.
	Bodies []byte `json:"bodies,omitempty"`
	// Alarm is the newest alarm's number, Link its hash over it and all before it.
	Alarm int64  `json:"alarm,omitempty"`
	Link  []byte `json:"link,omitempty"`
}

const markBytes = 4

// recordLeaf is the hash of a record in its block's tree: of a byte 0, the
// record's hash and prev, its number, kind, the length of its payload, and
// protocol and session with their lengths, integers big-endian.
func recordLeaf(r *events.Record, length int) [32]byte {
	b := append(make([]byte, 0, 256), 0)
	b = append(append(b, r.Hash[:]...), r.Prev[:]...)
	b = append(binary.BigEndian.AppendUint64(b, r.Seq), byte(r.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(length))
	for _, s := range [...]string{r.Protocol, r.Session} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return sha256.Sum256(b)
}

// bodiesHash is SHA-256 over what a block says of the bodies that are kept apart:
// for each its size, time, sum and session, with its length, integers big-endian.
// nil where there is none.
func bodiesHash(apart []body) []byte {
	if len(apart) == 0 {
		return nil
	}
	h := sha256.New()
	for i := range apart {
		x := &apart[i]
		b := binary.BigEndian.AppendUint64(nil, x.size)
		b = append(binary.BigEndian.AppendUint64(b, uint64(x.stored)), x.sum[:]...)
		h.Write(append(binary.BigEndian.AppendUint32(b, uint32(len(x.session))), x.session...))
	}
	return h.Sum(nil)
}

// fold replaces the nodes of a level by those above it, and returns them.
func fold(level [][32]byte) [][32]byte {
	var b [65]byte
	b[0] = 1
	n := 0
	for i := 0; i < len(level); i += 2 {
		if i+1 == len(level) {
			level[n] = level[i]
		} else {
			copy(b[1:], level[i][:])
			copy(b[33:], level[i+1][:])
			level[n] = sha256.Sum256(b[:])
		}
		n++
	}
	return level[:n]
}

// recordsEntry is the entry of a block with these heads, and when it was stored, where
// they say so (ns), else 0.
func recordsEntry(host, chain string, first uint64, heads []byte) (e Entry, stored int64, err error) {
	h, err := readHeads(chain, first, heads)
	if err != nil {
		return Entry{}, 0, err
	}
	rs, lengths := h.records, h.lengths
	e = Entry{Type: "records", Host: host, Chain: chain, First: first, N: len(rs), Marks: make([]byte, 0, markBytes*len(rs))}
	level := make([][32]byte, len(rs))
	for i := range rs {
		level[i] = recordLeaf(&rs[i], lengths[i])
		e.Marks = append(e.Marks, rs[i].Hash[:markBytes]...)
	}
	for len(level) > 1 {
		level = fold(level)
	}
	e.Root = level[0][:]
	if e.Bodies = bodiesHash(h.apart); len(h.apart) > 0 {
		stored = h.apart[0].storedAt().UnixNano()
	}
	return e, stored, nil
}

// leafRows selects leaves with what their entries are made of.
const leafRows = `SELECT l.leaf, l.host, l.chain, l.first, l.alarm, b.heads, a.link, coalesce(a.time, 0) FROM leaves l
	LEFT JOIN blocks b ON l.alarm = 0 AND b.host = l.host AND b.chain = l.chain AND b.first = l.first
	LEFT JOIN alarms a ON l.alarm <> 0 AND a.id = l.alarm `

// leaf is a row of leaves. err says what of its entry is not there.
type leaf struct {
	index uint64 // from 0, of the log
	Entry
	stored int64 // ns; 0: not known
	err    error
}

func scanLeaf(rows *sql.Rows) (l leaf, err error) {
	var at, first int64
	var heads sql.RawBytes
	if err := rows.Scan(&at, &l.Host, &l.Chain, &first, &l.Alarm, &heads, &l.Link, &l.stored); err != nil {
		return l, err
	}
	l.index, l.First = uint64(at-1), uint64(first)
	switch {
	case l.Alarm != 0:
		l.Type = "alarm"
		if l.Link == nil {
			l.err = fmt.Errorf("alarm %d is not there", l.Alarm)
		}
	case heads == nil:
		l.Type, l.err = "records", errors.New("their block is not there")
	default:
		l.Entry, l.stored, l.err = recordsEntry(l.Host, l.Chain, l.First, heads)
	}
	return l, nil
}

// Entries returns entries of the transparency log from an index on, at most so
// many. What was returned once is returned again, as long as nobody edits the
// store.
func (s *DB) Entries(ctx context.Context, from uint64, most int) ([][]byte, error) {
	rows, err := s.db.QueryContext(ctx, leafRows+`WHERE l.leaf > ? ORDER BY l.leaf LIMIT ?`, int64(from), most)
	if err != nil {
		return nil, fmt.Errorf("recorder: log: %w", err)
	}
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		l, err := scanLeaf(rows)
		if err == nil && l.index != from+uint64(len(out)) {
			err = fmt.Errorf("leaf %d is missing: somebody edited the store", from+uint64(len(out)))
		}
		if err == nil && l.err != nil {
			err = fmt.Errorf("leaf %d, host %s, chain %s, record %d: %w", l.index, l.Host, l.Chain, l.First, l.err)
		}
		if err != nil {
			return nil, fmt.Errorf("recorder: log: %w", err)
		}
		b, err := json.Marshal(&l.Entry)
		if err != nil {
			return nil, fmt.Errorf("recorder: log: %w", err)
		}
		out = append(out, b)
	}
	return out, rows.Err()
}

// leaf gives a block, or an alarm, its place in the log.
func (a *adder) leaf(host, chain string, first uint64, alarm int64) error {
	if !a.logged {
		return nil
	}
	return a.store(`INSERT INTO leaves VALUES ((SELECT coalesce(max(leaf), 0) + 1 FROM leaves), ?,?,?,?)`, host, chain, int64(first), alarm)
}

// leavesOf3 gives what a store of schema 3 holds its place in the log.
func leavesOf3(tx *sql.Tx) error {
	_, err := tx.Exec(`INSERT INTO leaves (host, chain, first, alarm) SELECT host, chain, first, 0 FROM blocks ORDER BY rowid;
		INSERT INTO leaves (host, chain, first, alarm) SELECT '', '', 0, max(id) FROM alarms HAVING count(*) > 0`)
	return err
}
