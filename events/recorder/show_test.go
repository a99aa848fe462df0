package recorder_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/recorder"
)

// A session is told while it goes on: each statement once, when its outcome is
// there, to the session's end.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
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
			case <-time.After(30 * time.Second):
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
