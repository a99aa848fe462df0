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
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f.Seq = uint64(max(seq, 0)) + 1
	f.Detail = "what the store notes of the host's signatures is not so: that the next ones are missing would be no alarm"
	return &f, nil
}
