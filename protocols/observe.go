package protocols

import (
	"context"
	"fmt"
	"io"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// Observer is a Protocol that can tell what a session does from the client's
// bytes alone, for hosts that enforce nothing yet (enforcement: observe).
// There the connection is relayed byte for byte whatever an Observer does: it
// is handed copies, and has no way to hold anything up.
type Observer interface {
	// Observe reads the client's side of a session to its end and tells w
	// what would have been decided. An error says why the rest was not read,
	// and holds no data.
	Observe(ctx context.Context, w *Watch, client io.Reader) error
}

// WatchOptions are what the host gives a Watch.
type WatchOptions struct {
	Policy  *policy.Session
	Gate    *policy.Gate
	Journal events.Journal
	Nobody  string // why the session has no identity, "" where it has one
	// Renew proves the peer again when its identity has expired.
	Renew func(context.Context) (intercept.Identity, error)
}

// Watch is a session that is looked at and not held up: it has no doors. It
// belongs to one goroutine.
type Watch struct {
	o     WatchOptions
	began time.Time
}

// NewWatch returns a Watch of a session that was not told of yet.
func NewWatch(o WatchOptions) *Watch { return &Watch{o: o} }

// Policy returns who and where.
func (w *Watch) Policy() *policy.Session { return w.o.Policy }

// Scope returns what would be protected from this session right now.
func (w *Watch) Scope() *policy.Scope { return w.o.Gate.Scope(w.o.Policy) }

// Observe puts on the record what would have been decided about a request. A
// statement's outcome follows at once: nobody looks at its answer.
func (w *Watch) Observe(ctx context.Context, r *policy.Request) (policy.Recording, error) {
	p := w.o.Policy
	r.Session = p
	if w.o.Nobody == "" && w.o.Renew != nil && !p.Identity.Valid(time.Now()) {
		if id, err := w.o.Renew(ctx); err == nil && id.Same(&p.Identity) {
			p.Renew(id)
		}
	}
	rec, err := w.o.Gate.Observe(r, w.o.Nobody)
	if err != nil {
		return rec, err
	}
	if r.Kind == policy.Login || r.Kind == policy.Replication {
		return rec, w.open()
	}
	return rec, w.append(&events.Event{Kind: events.Response, Time: time.Now(), Number: r.Number, Status: "observed"})
}

// Record adds to the transcript; see events.Journal.
func (w *Watch) Record(c *events.Chunk) error {
	c.Session = w.o.Policy.Event
	_, err := w.o.Journal.Record(c)
	return err
}

// Unread tells of a session whose login was not read, and why; of another it
// says nothing.
func (w *Watch) Unread(why string) error {
	if !w.began.IsZero() {
		return nil
	}
	e := events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Observed, Rules: []string{"session"},
		Reason: "would have been refused (block): " + why,
	}
	if w.o.Nobody != "" {
		e.Rules, e.Reason = []string{"identity"}, "would have been refused (block): "+w.o.Nobody
		e.Message = why
	}
	if err := w.append(&e); err != nil {
		return err
	}
	return w.open()
}

// Close records the session's end. received are the bytes that went to the
// client; why, when it is not nil, is what ended its observation early.
func (w *Watch) Close(received int64, why error) error {
	if w.began.IsZero() {
		return nil
	}
	now := time.Now()
	e := events.Event{Kind: events.SessionClose, Time: now, Status: "observed", Bytes: received, Duration: now.Sub(w.began)}
	if why != nil {
		e.Reason = "not read to its end: " + why.Error()
	}
	return w.append(&e)
}

func (w *Watch) open() error {
	w.began = time.Now()
	return w.append(&events.Event{Kind: events.SessionOpen, Time: w.began})
}

func (w *Watch) append(e *events.Event) error {
	e.Session = w.o.Policy.Event
	if _, err := w.o.Journal.Append(e); err != nil {
		return fmt.Errorf("%w: %w", policy.ErrUnrecorded, err)
	}
	return nil
}
