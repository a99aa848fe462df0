package recorder

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// verifyBeside holds what the store notes beside the records, and no record is made of,
// against what is there: who was shown whose rows, and what is known of signatures, which
// would keep alarms from being raised.
func verifyBeside(ctx context.Context, tx *sql.Tx, now time.Time) (*Fault, error) {
	if f, err := vouchedBeside(ctx, tx, now); f != nil || err != nil {
		return f, err
	}
	var session int64
	err := tx.QueryRowContext(ctx, `SELECT session FROM subjects WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE id = subjects.session) LIMIT 1`).Scan(&session)
	if err == nil {
		return &Fault{What: "invented", Detail: fmt.Sprintf("a session %d is listed to have been shown rows, and there is none", session)}, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	f := Fault{What: "altered"}
	var seq, since, due int64
	// Of a host that had its alarms of a day there may be none.
	err = tx.QueryRowContext(ctx, `SELECT s.host, s.chain, s.seq, s.since, s.due FROM signers s LEFT JOIN chains c ON c.host = s.host AND c.chain = s.chain
		WHERE c.host IS NULL OR s.seq < 0 OR s.seq > c.head_seq OR s.since < 0 OR s.since > ?1 OR s.due < 0 OR s.due > ?1 AND s.due <> ?2
		OR s.due = ?2 AND NOT EXISTS (SELECT 1 FROM alarms a WHERE a.host = s.host AND (a.chain = s.chain AND a.seq = s.seq + 1 AND a.what = 'unsigned' OR a.what = 'limit'))
		ORDER BY s.host, s.chain LIMIT 1`, now.Add(2*day).UnixNano(), int64(told)).Scan(&f.Host, &f.Chain, &seq, &since, &due)
	if errors.Is(err, sql.ErrNoRows) {
		if f, err := verifyBegun(ctx, tx); f != nil || err != nil {
			return f, err
		}
		return verifyWaiting(ctx, tx, now)
	}
	if err != nil {
		return nil, err
	}
	f.Seq = uint64(max(seq, 0)) + 1
	f.Detail = "what the store notes of the host's signatures is not so: that the next ones are missing would be no alarm"
	return &f, nil
}

// verifyBegun holds when the second and later chains of hosts began, by which two hosts
// with one name are told, against the alarms that were raised then.
func verifyBegun(ctx context.Context, tx *sql.Tx) (*Fault, error) {
	f := Fault{Seq: 1, What: "altered", Detail: "when it began is not what its alarm says: that it goes on beside another would be no alarm"}
	err := tx.QueryRowContext(ctx, `SELECT c.host, c.chain FROM chains c JOIN alarms a ON a.host = c.host AND a.chain = c.chain AND a.what = 'second-chain'
		WHERE a.time <> c.first_seen ORDER BY c.host, c.chain LIMIT 1`).Scan(&f.Host, &f.Chain)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &f, err
}

// verifyWaiting holds the records that wait for one in front of them against their hashes:
// of those that are encrypted, their place alone.
func verifyWaiting(ctx context.Context, tx *sql.Tx, now time.Time) (*Fault, error) {
	rows, err := tx.QueryContext(ctx, `SELECT a.host, a.chain, a.first, a.n, a.arrived, a.heads, a.bodies, c.head_seq FROM ahead a
		LEFT JOIN chains c ON c.host = a.host AND c.chain = a.chain ORDER BY a.host, a.chain, a.first`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		f := Fault{What: "changed"}
		var first, n, arrived int64
		var heads, bodies []byte
		var end sql.NullInt64
		if err := rows.Scan(&f.Host, &f.Chain, &first, &n, &arrived, &heads, &bodies, &end); err != nil {
			return nil, err
		}
		a := adder{w: new(blockWriter)}
		rs, err := a.readWaiting(f.Chain, uint64(first), heads, bodies)
		f.Seq = uint64(max(first, 0))
		switch {
		case err != nil:
			f.Detail = err.Error()
		case !end.Valid || first <= end.Int64 || int64(len(rs)) != n || arrived <= 0 || arrived > now.Add(2*day).UnixNano():
			f.Detail = "what the store notes of the records that wait, of which it is the first, is not so"
		}
		for i := range rs {
			if _, sealed := a.waiting[rs[i].Hash]; f.Detail == "" && !sealed && !rs[i].Intact() {
				f.Seq, f.Detail = rs[i].Seq, "it waits for one in front of it, and its hash is not that of its content"
			}
		}
		if f.Detail != "" {
			return &f, nil
		}
	}
	return nil, rows.Err()
}
