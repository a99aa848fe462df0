package recorder_test

import (
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// A statement that tells its outcome counts and reads as one with a response.
func TestStatementsWithTheirOutcome(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	x := newSession("aaa-1")
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	h.tell(events.Event{
		Kind: events.Statement, Session: x, Number: 1, Command: "SELECT", Normalized: "SELECT $1", Verdict: events.Allow,
		Status: "ok", Rows: 2, Bytes: 30, Duration: time.Millisecond,
	})
	h.chunk(x, 1, events.ChunkResult, "two rows")
	h.tell(events.Event{
		Kind: events.Statement, Session: x, Number: 2, Command: "FETCH", Normalized: "FETCH $1", Verdict: events.Mask,
		Status: "suspended", Rows: 1, Bytes: 10,
	})
	h.tell(events.Event{Kind: events.Response, Session: x, Number: 2, Status: "ok", Rows: 3, Bytes: 20})
	h.tell(events.Event{Kind: events.Statement, Session: x, Number: 3, Command: "SELECT", Verdict: events.Allow, Status: "error", Code: "22012"})
	h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "ok"})
	add(t, s, messages("h1", h.All())...)
	found, err := s.Sessions(t.Context(), recorder.Filter{})
	if err != nil || len(found) != 1 || found[0].Rows != 6 || found[0].Statements != 3 || found[0].Masked != 1 {
		t.Fatalf("%+v %v", found, err)
	}
	d, err := s.Show(t.Context(), found[0])
	if err != nil || len(d.Requests) != 3 {
		t.Fatalf("%+v %v", d, err)
	}
	for i, want := range []recorder.Facts{
		{Status: "ok", Rows: 2, Bytes: 30, Duration: time.Millisecond},
		{Status: "ok", Rows: 4, Bytes: 30},
		{Status: "error", Code: "22012"},
	} {
		q := d.Requests[i]
		if q.Status != want.Status || q.Rows != want.Rows || q.Bytes != want.Bytes || q.Code != want.Code || want.Duration > 0 && q.Duration != want.Duration {
			t.Errorf("%d: %+v", i+1, q.Facts)
		}
	}
}
