package recorder_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// A session is told while it goes on: each statement once, when its outcome is
// there, to the session's end.
func TestWatch(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	h := newHost("c1")
	work(h, "aaa-1")
	all := messages("h1", h.All())
	add(t, s, all[:2]...)
	r, err := recorder.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := r.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	told, kinds, done := make(chan string, 100), make(chan int, 1), make(chan error, 1)
	go func() {
		done <- r.Watch(t.Context(), x, 5*time.Millisecond, func(q *recorder.Statement) error {
			told <- fmt.Sprintf("%d %s %s %d %q", q.Number, q.Verdict, q.Status, q.Rows, q.Exact)
			return nil
		})
	}()
	go func() {
		n := 0
		for _, err := range r.LiveChunks(t.Context(), x, 5*time.Millisecond) {
			if err != nil {
				t.Error(err)
			}
			n++
		}
		kinds <- n
	}()
	var got []string
	wait := func(n int) {
		t.Helper()
		for len(got) < n {
			select {
			case s := <-told:
				got = append(got, s)
			case <-time.After(2 * time.Minute):
				t.Fatalf("%q, and no more", got)
			}
		}
	}
	add(t, s, all[2:9]...)
	wait(1)
	for _, m := range all[9:] {
		add(t, s, m)
	}
	wait(3)
	if err := <-done; err != nil {
		t.Error(err)
	}
	want := []string{
		`1 mask ok 5 "SELECT ssn FROM patients WHERE id = $1"`,
		`2 block  0 "DELETE FROM patients"`,
		`3 allow error 0 ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := <-kinds; n != 5 {
		t.Errorf("%d pieces of the transcript", n)
	}
}

// outcomes is a session as a journal writes it: a statement with its outcome, and
// its text behind it.
func outcomes(h *host, n uint64) *events.Session {
	x := newSession("aaa-1")
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	for i := range n {
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: i + 1, Command: "SELECT", Verdict: events.Allow, Status: "ok", Rows: 1})
		h.chunk(x, i+1, events.ChunkStatement, fmt.Sprint("SELECT ", i+1))
	}
	return x
}

// A statement that is on record together with its outcome is told with its text,
// the last one too while the session goes on.
func TestWatchWaitsForTheText(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	x := outcomes(h, 3)
	add(t, s, messages("h1", h.All())...)
	found, err := s.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	told, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- s.Watch(t.Context(), found, 5*time.Millisecond, func(q *recorder.Statement) error {
			told <- fmt.Sprintf("%d %s %q", q.Number, q.Status, q.Exact)
			return nil
		})
	}()
	want := []string{`1 ok "SELECT 1"`, `2 ok "SELECT 2"`, `3 ok "SELECT 3"`, `4 ok "SELECT 4"`}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("no %s", want)
		}
	}
	for _, w := range want[:3] {
		next(w)
	}
	n := h.Last()
	h.tell(events.Event{Kind: events.Statement, Session: x, Number: 4, Command: "SELECT", Verdict: events.Allow, Status: "ok"})
	h.chunk(x, 4, events.ChunkStatement, "SELECT 4")
	h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "ok"})
	add(t, s, messages("h1", h.All()[n:])...)
	next(want[3])
	if err := <-done; err != nil || len(told) > 0 {
		t.Errorf("%v, and %d more", err, len(told))
	}
}

// Text that comes after its statement was told is left out, and nothing is kept of
// it; nor is a statement told before its second look.
func TestWatchKeepsNothingOfWhatWasTold(t *testing.T) {
	h := newHost("c1")
	x := outcomes(h, 1000)
	told := 0
	w := recorder.NewStatementWatcher(recorder.Session{}, func(*recorder.Statement) error { told++; return nil })
	for _, r := range h.All() {
		if err := w.Take(&r); err != nil {
			t.Fatal(err)
		}
	}
	if w.Looked(false); told != 999 {
		t.Errorf("%d told after a look", told)
	}
	if w.Looked(false); told != 1000 || w.Held() != 0 {
		t.Errorf("%d told after another, %d kept", told, w.Held())
	}
	n := h.Last()
	h.chunk(x, 1000, events.ChunkStatement, "late")
	h.tell(events.Event{Kind: events.Subjects, Session: x, Number: 7})
	for _, r := range h.All()[n:] {
		if err := w.Take(&r); err != nil {
			t.Fatal(err)
		}
	}
	if w.Looked(true); told != 1000 || w.Held() != 0 {
		t.Errorf("%d told at the end, %d kept", told, w.Held())
	}
}
