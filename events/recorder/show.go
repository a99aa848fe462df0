package recorder

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// Show returns all that is recorded of a session, results apart.
func (s *DB) Show(ctx context.Context, x Session) (Detail, error) {
	t := newTeller(x)
	for r, err := range s.of(ctx, x) {
		switch {
		case err == nil:
			_, err = t.take(&r)
		case IsWithheld(err):
			err = t.withhold(err)
		}
		if err != nil {
			return t.Detail, fmt.Errorf("recorder: session %s: %w", x.ID, err)
		}
	}
	return t.Detail, nil
}

// Watch calls f with each statement of a session once its outcome is recorded,
// or it was refused, from the first one on, until the session is closed or ctx
// ends. It looks for more each time that every has passed.
func (s *DB) Watch(ctx context.Context, x Session, every time.Duration, f func(*Statement) error) error {
	w := newWatcher(x, f)
	for r, err := range s.live(ctx, x, every, w.looked) {
		if err == nil {
			err = w.take(&r)
		}
		if err != nil && !IsWithheld(err) { // the events are told
			return err
		}
	}
	return nil
}

// watcher tells statements as they are done. The text of one that is recorded
// together with its outcome comes behind it: so it is told at the session's next
// event, or when one more look has found none.
type watcher struct {
	*teller
	f     func(*Statement) error
	done  uint64 // a statement's number
	waits bool   // done is not told yet
	looks int    // since it was done
}

func newWatcher(x Session, f func(*Statement) error) *watcher {
	return &watcher{teller: newTeller(x), f: f}
}

func (w *watcher) take(r *events.Record) error {
	if r.Kind != 0 && r.Kind != events.Subjects {
		if err := w.tell(); err != nil {
			return err
		}
	}
	done, err := w.teller.take(r)
	if err != nil {
		return fmt.Errorf("recorder: session %s: %w", w.ID, err)
	}
	if done != nil {
		w.done, w.waits, w.looks = done.Number, true, 0
	}
	return nil
}

// looked is called when all that there is was taken, last when there will be no more.
func (w *watcher) looked(last bool) error {
	w.looks++
	if w.looks < 2 && !last {
		return nil
	}
	return w.tell()
}

func (w *watcher) tell() error {
	if !w.waits {
		return nil
	}
	w.waits = false
	if err := w.f(w.request(w.done)); err != nil {
		return err
	}
	w.forget(w.done)
	return nil
}

// LiveChunks gives a session's transcript, and what is added to it, until the
// session is closed or ctx ends.
func (s *DB) LiveChunks(ctx context.Context, x Session, every time.Duration) iter.Seq2[events.Chunk, error] {
	return chunksOf(s.live(ctx, x, every, func(bool) error { return nil }))
}

// live gives a session's records, and those that come behind them. What comes
// late, in front of others of its chain, it does not give. It calls looked when it
// has given all that there is.
func (s *DB) live(ctx context.Context, x Session, every time.Duration, looked func(last bool) error) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		seen, open := map[string]uint64{}, s.opener(x)
		for {
			closed := false
			for r, err := range s.behind(ctx, x, seen, open, blocks) {
				if err != nil && ctx.Err() != nil {
					return
				}
				if !yield(r, err) || err != nil && !IsWithheld(err) {
					return
				}
				seen[r.Chain] = r.Seq
				closed = closed || r.Kind == events.SessionClose
			}
			if err := looked(closed); err != nil {
				yield(events.Record{}, err)
				return
			}
			if closed {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(every):
			}
		}
	}
}

// teller puts a session together from its records.
type teller struct {
	Detail
	at   map[uint64]int // of a statement's number in Requests
	told idSet          // numbers of those that were forgotten
}

func newTeller(x Session) *teller {
	return &teller{Detail: Detail{Session: x, Requests: []Statement{}, Events: []Facts{}}, at: map[uint64]int{}}
}

func (t *teller) request(n uint64) *Statement {
	i, ok := t.at[n]
	if !ok {
		i = len(t.Requests)
		t.at[n] = i
		t.Requests = append(t.Requests, Statement{Facts: Facts{Number: n}})
	}
	return &t.Requests[i]
}

// forget drops a statement that was told; the others may change places.
func (t *teller) forget(n uint64) {
	i, ok := t.at[n]
	if !ok {
		return
	}
	last := len(t.Requests) - 1
	t.Requests[i] = t.Requests[last]
	t.at[t.Requests[i].Number] = i
	t.Requests = t.Requests[:last]
	delete(t.at, n)
	t.told.add(int64(n))
	t.Events = t.Events[:0]
}

// withhold notes that a piece of the transcript is not there.
func (t *teller) withhold(err error) error {
	if text := err.Error(); !slices.Contains(t.Withheld, text) && len(t.Withheld) < 1000 {
		t.Withheld = append(t.Withheld, text)
	}
	return nil
}

// take adds a record, and returns the statement that it ends, nil for none.
func (t *teller) take(r *events.Record) (done *Statement, err error) {
	if r.Kind == 0 {
		cs, err := events.ParseChunks(nil, r.Payload)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Seq, err)
		}
		for _, c := range cs {
			if t.told.has(int64(c.Number)) {
				continue
			}
			switch c.Kind {
			case events.ChunkStatement:
				t.request(c.Number).Exact += string(c.Data)
			case events.ChunkBinds:
				q := t.request(c.Number)
				q.Binds = append(q.Binds, string(c.Data))
			}
		}
		return nil, nil
	}
	f, err := decode(r)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", r.Seq, err)
	}
	if f.Who.Workload != "" || t.Proof == "" {
		t.Identity = f.Who
	}
	switch r.Kind {
	case events.Statement, events.Block:
		q := t.request(f.Number)
		ended := f.Status != "" || r.Kind == events.Block
		if f.Status == "" { // else it tells its outcome
			f.Rows, f.Bytes, f.Status, f.Duration, f.Detected = q.Rows, q.Bytes, q.Status, q.Duration, q.Detected
		}
		f.Subjects, f.Named = append(q.Subjects, f.Subjects...), q.Named+f.Named
		q.Facts, q.RecordedOnly = f, f.Status == "interrupted"
		if ended && f.Status != "suspended" {
			return q, nil
		}
	case events.Response:
		q := t.request(f.Number)
		q.Rows = count(q.Rows + count(f.Rows))
		q.Bytes = count(q.Bytes + count(f.Bytes))
		q.Status, q.Duration, q.RecordedOnly = f.Status, f.Duration, f.Status == "interrupted"
		q.Detected = append(q.Detected, f.Detected...)
		q.Subjects, q.Named = append(q.Subjects, f.Subjects...), q.Named+f.Named
		if q.Code == "" {
			q.Code = f.Code
		}
		if f.Status != "suspended" {
			return q, nil
		}
	case events.Subjects:
		if t.told.has(int64(f.Number)) {
			break
		}
		q := t.request(f.Number)
		q.Subjects = append(q.Subjects, f.Subjects...)
	default:
		t.Events = append(t.Events, f)
	}
	return nil, nil
}
