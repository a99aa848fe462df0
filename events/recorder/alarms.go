package recorder

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
)

// Limits of the alarms that one host can raise, each day: what comes after them is
// one alarm, limit, and is not there.
const (
	alarmsADay       = 10_000
	refusedBytesADay = 64 << 20 // of the contents of records that were refused
)

// AlarmHead is the newest alarm, and a hash over it and all before it.
type AlarmHead struct {
	ID   int64  `json:"id"`
	Hash string `json:"hash"` // hex
}

// link is the hash that ties an alarm to the one before it: SHA-256 over that
// one's, then the fields, integers big-endian, texts with their length.
func (a *Alarm) link(before, hash [32]byte, payload [32]byte) [32]byte {
	b := append(make([]byte, 0, 256), before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(a.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(a.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, a.Seq)
	for _, s := range [...]string{a.Host, a.Chain, a.What, a.Detail} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return sha256.Sum256(append(append(b, hash[:]...), payload[:]...))
}

// refuse notes an alarm with the record that raised it, which is kept nowhere
// else.
func (a *adder) refuse(host string, r *events.Record, what, detail string) error {
	full, keep, err := a.room(host, len(r.Payload))
	if err != nil {
		return err
	}
	if full {
		return a.limit(host)
	}
	payload := r.Payload
	if !keep {
		payload, detail = nil, detail+" (too much to keep: its content is not)"
	}
	if payload, err = a.sealed(r, payload); err != nil {
		return err
	}
	return a.note(host, r, payload, what, detail)
}

// alarm notes an alarm of a record that is stored, or that is missing.
func (a *adder) alarm(host string, r *events.Record, what, detail string) error {
	full, _, err := a.room(host, 0)
	if err != nil {
		return err
	}
	if full {
		return a.limit(host)
	}
	return a.note(host, r, nil, what, detail)
}

// limit notes that a host had its alarms of the day.
func (a *adder) limit(host string) error {
	r := events.Record{Seq: uint64(a.day().Unix())}
	return a.note(host, &r, nil, "limit", fmt.Sprintf("it raised %d alarms on %s: what more there are is not kept", alarmsADay, a.day().Format(time.DateOnly)))
}

func (a *adder) day() time.Time { return a.now.UTC().Truncate(24 * time.Hour) }

// refused is what was kept of a host's on a day.
type refused struct{ n, bytes int64 }

// room reports whether a host has had its day's alarms, and whether a content
// has room among them.
func (a *adder) room(host string, size int) (full, keep bool, err error) {
	had := a.refused[host]
	if had == nil {
		had = new(refused)
		if err := a.one(`SELECT count(*), coalesce(sum(length(payload)), 0) FROM alarms WHERE host = ? AND time >= ? AND NOT `+isAct,
			[]any{host, a.day().UnixNano()}, &had.n, &had.bytes); err != nil {
			return false, false, err
		}
		a.refused[host] = had
	}
	return had.n >= alarmsADay, had.bytes+int64(size) <= refusedBytesADay, nil
}

// note stores an alarm behind the last one, once.
func (a *adder) note(host string, r *events.Record, payload []byte, what, detail string) error {
	var there bool
	if err := a.one(`SELECT EXISTS (SELECT 1 FROM alarms WHERE host = ? AND chain = ? AND seq = ? AND what = ? AND hash = ?)`,
		[]any{host, r.Chain, int64(r.Seq), what, r.Hash[:]}, &there); err != nil || there {
		return err
	}
	if a.lastAlarm == nil {
		id, link, err := a.alarmHead()
		if err != nil {
			return err
		}
		a.lastAlarm = &alarmEnd{id, link}
	}
	body := sha256.Sum256(payload)
	x := Alarm{ID: a.lastAlarm.id + 1, Time: unixNano(a.now.UnixNano()), Host: host, Chain: r.Chain, Seq: r.Seq, What: what, Detail: detail}
	link := x.link(a.lastAlarm.link, r.Hash, body)
	if err := a.store(`INSERT INTO alarms VALUES (?,?,?,?,?,?,?,?,?,?,?)`, x.ID, a.now.UnixNano(), host, r.Chain, int64(r.Seq), what, detail, r.Hash[:], bytes(payload), body[:], link[:]); err != nil {
		return err
	}
	*a.lastAlarm = alarmEnd{x.ID, link}
	if had := a.refused[host]; had != nil {
		had.n, had.bytes = had.n+1, had.bytes+int64(len(payload))
	}
	a.alarms = append(a.alarms, x)
	return nil
}

type alarmEnd struct {
	id   int64
	link [32]byte
}

// alarmHead is what the store notes of the newest alarm, apart from it.
func (a *adder) alarmHead() (id int64, link [32]byte, err error) {
	var b []byte
	err = a.one(`SELECT alarm, alarm_link FROM ends`, nil, &id, &b)
	copy(link[:], b)
	return id, link, err
}

// keepAlarms notes the newest alarm of the transaction.
func (a *adder) keepAlarms() error {
	if a.lastAlarm == nil {
		return nil
	}
	if err := a.store(`UPDATE ends SET alarm = ?, alarm_link = ?`, a.lastAlarm.id, a.lastAlarm.link[:]); err != nil {
		return err
	}
	return a.leaf("", "", 0, a.lastAlarm.id)
}

// bytes keeps an empty payload from becoming NULL.
func bytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Alarms returns up to limit alarms behind one's id (0: from the first), oldest
// first.
func (s *DB) Alarms(ctx context.Context, after int64, limit int) ([]Alarm, error) {
	out, err := readAlarms(ctx, s.db, `SELECT id, time, host, chain, seq, what, detail FROM alarms WHERE id > ? AND NOT `+isAct+` ORDER BY id LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("recorder: alarms: %w", err)
	}
	return out, nil
}

func readAlarms(ctx context.Context, q querier, query string, args ...any) ([]Alarm, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []Alarm{}
	for rows.Next() {
		var a Alarm
		var ns, seq int64
		if err := rows.Scan(&a.ID, &ns, &a.Host, &a.Chain, &seq, &a.What, &a.Detail); err != nil {
			return nil, err
		}
		a.Time, a.Seq = unixNano(ns), uint64(seq)
		out = append(out, a)
	}
	return out, rows.Err()
}

// verifyAlarms follows the alarms from the first, and names the first that was
// removed, changed or inserted. expect is an id and hash that were noted earlier.
func verifyAlarms(ctx context.Context, tx *sql.Tx, expect *AlarmHead) (AlarmHead, *Fault, error) {
	var end alarmEnd
	fault := func(a *Alarm, id int64, what, format string, args ...any) *Fault {
		return &Fault{Host: a.Host, Chain: a.Chain, Seq: a.Seq, What: what, Detail: fmt.Sprintf("alarm %d: ", id) + fmt.Sprintf(format, args...)}
	}
	var noted []byte
	var last int64
	if err := tx.QueryRowContext(ctx, `SELECT alarm, alarm_link FROM ends`).Scan(&last, &noted); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return AlarmHead{}, nil, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, time, host, chain, seq, what, detail, hash, payload, body, link FROM alarms ORDER BY id`)
	if err != nil {
		return AlarmHead{}, nil, err
	}
	defer rows.Close()
	var found *Fault
	for rows.Next() && found == nil {
		var a Alarm
		var ns, seq int64
		var hash, body, link [32]byte
		var payload, h, b, l sql.RawBytes
		if err := rows.Scan(&a.ID, &ns, &a.Host, &a.Chain, &seq, &a.What, &a.Detail, &h, &payload, &b, &l); err != nil {
			return AlarmHead{}, nil, err
		}
		a.Time, a.Seq = unixNano(ns), uint64(seq)
		copy(hash[:], h)
		copy(body[:], b)
		copy(link[:], l)
		sum := a.link(end.link, hash, body)
		switch {
		case a.ID > last:
			found = fault(&a, a.ID, "inserted", "the recorder noted %d alarms", last)
		case a.ID != end.id+1:
			found = fault(&a, end.id+1, "removed", "the next is this record's, %d", a.ID)
		case sum != link || len(h) != 32 || len(b) != 32 || len(l) != 32:
			found = fault(&a, a.ID, "changed", "its hash is not that of its content")
		case sha256.Sum256(payload) != body: // where there was too much to keep, that of nothing
			found = fault(&a, a.ID, "changed", "the record that it holds is another")
		case expect != nil && expect.ID == a.ID && expect.Hash != hex.EncodeToString(link[:]):
			found = fault(&a, a.ID, "changed", "its hash is %x, and was noted as %s", link, expect.Hash)
		}
		end = alarmEnd{a.ID, link}
	}
	if err := rows.Err(); err != nil {
		return AlarmHead{}, nil, err
	}
	switch {
	case found != nil:
	case end.id < last:
		found = fault(&Alarm{}, end.id+1, "removed", "%d were noted", last)
	case string(noted) != string(end.link[:]) && last > 0:
		found = fault(&Alarm{}, end.id, "changed", "the recorder noted another hash for it")
	case expect != nil && expect.ID > end.id:
		found = fault(&Alarm{}, end.id+1, "removed", "%d were there when it was noted", expect.ID)
	}
	return AlarmHead{end.id, hex.EncodeToString(end.link[:])}, found, nil
}

// linkAlarms ties the alarms of a store of schema 2 to each other.
func linkAlarms(tx *sql.Tx) error {
	rows, err := tx.Query(`SELECT time, host, chain, seq, what, detail, hash, payload FROM alarms2 ORDER BY time, rowid`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var end alarmEnd
	for rows.Next() {
		x := Alarm{ID: end.id + 1}
		var ns, seq int64
		var h, payload []byte
		if err := rows.Scan(&ns, &x.Host, &x.Chain, &seq, &x.What, &x.Detail, &h, &payload); err != nil {
			return err
		}
		x.Time, x.Seq = unixNano(ns), uint64(seq)
		var hash [32]byte
		copy(hash[:], h)
		body := sha256.Sum256(payload)
		end = alarmEnd{x.ID, x.link(end.link, hash, body)}
		if _, err := tx.Exec(`INSERT INTO alarms VALUES (?,?,?,?,?,?,?,?,?,?,?)`, x.ID, ns, x.Host, x.Chain, seq, x.What, x.Detail, hash[:], bytes(payload), body[:], end.link[:]); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	_, err = tx.Exec(`INSERT INTO ends VALUES (1, ?, ?); DROP TABLE alarms2`, end.id, end.link[:])
	return err
}
