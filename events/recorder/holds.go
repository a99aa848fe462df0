package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// What the recorder, and who runs it, does to the evidence is kept among the alarms:
// it is tied to what was noted before, is in the transparency log, and Verify finds
// that it was removed or changed. Its payload is JSON.
const (
	actHold     = "hold"
	actReleased = "released"
	actDeleted  = "deleted"
)

// isAct is the condition that an alarm is none.
const isAct = `what IN ('` + actHold + `', '` + actReleased + `', '` + actDeleted + `')`

// Hold is a legal hold: what it meets is not deleted, whatever rules say, until it is
// released. Parts that are given must all be so.
type Hold struct {
	ID     int64     `json:"id,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	By     string    `json:"by"`     // the account that made it
	Reason string    `json:"reason"` // such as the number of a case

	Host      string    `json:"host,omitempty"`
	Session   string    `json:"session,omitempty"`
	Identity  string    `json:"identity,omitempty"` // workload, actor or principal
	Principal string    `json:"principal,omitempty"`
	Resource  string    `json:"resource,omitempty"`
	Since     time.Time `json:"since,omitzero"` // sessions that went on then or later,
	Until     time.Time `json:"until,omitzero"` // and were opened before
	// Subject is whose rows were shown, as events have it. What policy could not tell
	// whose it was is not met.
	Subject string `json:"subject,omitempty"`
}

// release ends a hold.
type release struct {
	Hold   int64  `json:"hold"`
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// String says what a hold meets.
func (h *Hold) String() string {
	var parts []string
	for _, p := range [...]struct{ name, is string }{
		{"host", h.Host}, {"session", h.Session}, {"identity", h.Identity}, {"principal", h.Principal}, {"resource", h.Resource}, {"subject", h.Subject},
	} {
		if p.is != "" {
			parts = append(parts, p.name+" "+p.is)
		}
	}
	for _, p := range [...]struct {
		name string
		is   time.Time
	}{{"since", h.Since}, {"until", h.Until}} {
		if !p.is.IsZero() {
			parts = append(parts, p.name+" "+p.is.UTC().Format(time.RFC3339))
		}
	}
	if parts == nil {
		return "all"
	}
	return strings.Join(parts, ", ")
}

// AddHold makes a hold; it binds every deletion from then on, and returns its number.
func (s *DB) AddHold(ctx context.Context, h Hold, now time.Time) (int64, error) {
	if h.By == "" || strings.TrimSpace(h.Reason) == "" {
		return 0, errors.New("recorder: a hold needs a reason, and who made it")
	}
	if h.Subject != "" {
		if _, err := events.ParseSubject(h.Subject); err != nil {
			return 0, fmt.Errorf("recorder: hold: %w", err)
		}
	}
	if !h.Since.IsZero() && !h.Until.IsZero() && !h.Since.Before(h.Until) {
		return 0, errors.New("recorder: a hold until a time before that since which it holds would meet nothing")
	}
	h.ID, h.Time = 0, time.Time{}
	return s.act(ctx, now, actHold, fmt.Sprintf("%s holds %s: %s", h.By, h.String(), h.Reason), &h)
}

// ReleaseHold ends one, from then on.
func (s *DB) ReleaseHold(ctx context.Context, id int64, by, reason string, now time.Time) error {
	if by == "" || strings.TrimSpace(reason) == "" {
		return errors.New("recorder: to release a hold needs a reason, and who does")
	}
	list, err := s.Holds(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].ID == id {
			_, err = s.act(ctx, now, actReleased, fmt.Sprintf("%s releases hold %d (%s): %s", by, id, list[i].String(), reason), &release{id, by, reason})
			return err
		}
	}
	return fmt.Errorf("recorder: there is no hold %d (list them with: sallyport-recorder hold ls)", id)
}

// act notes something that was done, in a transaction of its own.
func (s *DB) act(ctx context.Context, now time.Time, what, detail string, payload any) (int64, error) {
	a, err := s.begin(ctx, now)
	if err != nil {
		return 0, err
	}
	defer a.end()
	b, err := json.Marshal(payload)
	if err != nil {
		return 0, fmt.Errorf("recorder: %s: %w", what, err)
	}
	r := events.Record{Hash: sha256.Sum256(append(b, now.UTC().Format(time.RFC3339Nano)...))}
	if err := a.note("", &r, b, what, detail); err != nil {
		return 0, fmt.Errorf("recorder: %s: %w", what, err)
	}
	if len(a.alarms) == 0 {
		return 0, fmt.Errorf("recorder: %s: it is there already", what)
	}
	_, err = a.commit()
	return a.alarms[0].ID, err
}

// Holds returns those that are in force.
func (s *DB) Holds(ctx context.Context) ([]Hold, error) {
	list, err := holds(ctx, s.db, math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("recorder: holds: %w", err)
	}
	return list, nil
}

// holds are those that were in force before an alarm.
func holds(ctx context.Context, q querier, before int64) ([]Hold, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, time, what, payload FROM alarms WHERE host = '' AND chain = '' AND seq = 0 AND what IN ('`+actHold+`', '`+actReleased+`') AND id < ? ORDER BY id`, before)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []Hold{}
	for rows.Next() {
		var id, ns int64
		var what string
		var payload []byte
		if err := rows.Scan(&id, &ns, &what, &payload); err != nil {
			return nil, err
		}
		if what == actHold {
			h := Hold{}
			if err := json.Unmarshal(payload, &h); err != nil {
				return nil, fmt.Errorf("hold %d can't be read: %w", id, err)
			}
			h.ID, h.Time = id, unixNano(ns)
			out = append(out, h)
			continue
		}
		var r release
		if err := json.Unmarshal(payload, &r); err != nil {
			return nil, fmt.Errorf("the release of a hold can't be read: %w", err)
		}
		for i := range out {
			if out[i].ID == r.Hold {
				out = append(out[:i], out[i+1:]...)
				break
			}
		}
	}
	return out, rows.Err()
}

// meets reports whether a hold keeps a session.
func (h *Hold) meets(ctx context.Context, q querier, x *pruned) (bool, error) {
	if h.Host != "" && h.Host != x.Host || h.Session != "" && h.Session != x.ID || !may(h.Principal, x.principals) || !may(h.Resource, x.resources) ||
		!may(h.Identity, x.workloads, x.actors, x.principals) {
		return false, nil
	}
	// By the host's clock, or by the recorder's: a host may say any time.
	went := func(from time.Time, to *time.Time) bool {
		return (h.Since.IsZero() || to == nil || !to.Before(h.Since)) && (h.Until.IsZero() || from.Before(h.Until))
	}
	if !went(x.Opened, x.Closed) && (x.from.IsZero() || !went(x.from, &x.to)) {
		return false, nil
	}
	if h.Subject == "" {
		return true, nil
	}
	of1, err := events.ParseSubject(h.Subject)
	if err != nil {
		return true, nil // it was meant to hold something
	}
	var shown bool
	err = q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM subjects WHERE name = ? AND key = ? AND session = ?)`, of1.Name, of1.Key[:], x.id).Scan(&shown)
	return shown, err
}
