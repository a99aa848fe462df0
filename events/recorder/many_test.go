package recorder_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

const manySessions = 700 // more than are read, written or looked up together

func manyID(i int) string { return fmt.Sprintf("s-%04d", i) }

// many is a host's sessions, each of one statement, several of them begun at one
// moment: when they were all open, and what came then.
func many() (opened, rest []events.Record) {
	h := newHost("c1")
	for i := range manySessions {
		h.n = i / 9
		h.tell(events.Event{Kind: events.SessionOpen, Session: newSession(manyID(i))})
	}
	for i := range manySessions {
		s := newSession(manyID(i))
		h.tell(events.Event{
			Kind: events.Statement, Session: s, Number: 1, Verdict: events.Allow, Status: "ok", Rows: 1, Bytes: 9,
			Subjects: []events.Subject{{Name: "patient", Key: [16]byte{byte(i), byte(i >> 8)}}},
		})
		h.tell(events.Event{Kind: events.SessionClose, Session: s, Status: "ok"})
	}
	return h.All()[:manySessions], h.All()[manySessions:]
}

// A list is given as it is read, page after page, in one order.
func TestListOfMany(t *testing.T) {
	s := open(t, newStore(t))
	first, rest := many()
	add(t, s, messages("h1", first)...)
	add(t, s, messages("h1", rest)...)
	all, err := s.Sessions(t.Context(), recorder.Filter{})
	if err != nil || len(all) != manySessions {
		t.Fatal(len(all), err)
	}
	listed := map[string]bool{}
	for i, x := range all {
		if listed[x.ID] = true; x.Statements != 1 || x.Rows != 1 || x.Closed == nil || x.Status != "ok" {
			t.Fatalf("%+v", x)
		}
		if i > 0 && (x.Opened.After(all[i-1].Opened) || x.Opened.Equal(all[i-1].Opened) && recorder.Row(x) < recorder.Row(all[i-1])) {
			t.Fatalf("%s stands behind %s", x.ID, all[i-1].ID)
		}
	}
	if len(listed) != manySessions {
		t.Errorf("%d sessions are listed", len(listed))
	}
	for _, f := range []recorder.Filter{{}, {Limit: 600}, {Limit: 3}, {Identity: "dr.grey", Limit: 600}, {After: &all[550]}, {After: &all[10], Limit: 550}, {Text: "nowhere"}} {
		want := all
		if f.After != nil {
			want = want[1+map[bool]int{true: 10, false: 550}[f.Limit > 0]:]
		}
		if f.Limit > 0 {
			want = want[:f.Limit]
		}
		if f.Text != "" {
			want = nil
		}
		n := 0
		for x, err := range s.List(t.Context(), f) {
			if err != nil || n >= len(want) || x.ID != want[n].ID {
				t.Fatalf("%+v: %d: %s %v", f, n, x.ID, err)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("%+v: %d sessions, want %d", f, n, len(want))
		}
	}
	for range s.List(t.Context(), recorder.Filter{}) {
		break // who goes away holds nothing: the store can be closed
	}
}

// Each row of many in a block is held against its records, and the first that lies is named.
func TestVerifyManyInABlock(t *testing.T) {
	const of = `(SELECT id FROM sessions WHERE session = 's-0300')`
	for edit, want := range map[string]string{
		``: ``,
		`UPDATE sessions SET rows = 9 WHERE session = 's-0300'`:                                                                         "301 misstated",
		`UPDATE sessions SET rows = 9 WHERE session = 's-0699'`:                                                                         "700 misstated",
		`UPDATE sessions SET rows = 9 WHERE session IN ('s-0300', 's-0010')`:                                                            "11 misstated",
		`UPDATE sessions SET session = 's-0700' WHERE session = 's-0300'`:                                                               "301 hidden",
		`DELETE FROM spans WHERE session = ` + of:                                                                                       "301 hidden",
		`UPDATE spans SET last = last - 1 WHERE first > 700 AND session = ` + of:                                                        "1301 hidden",
		`UPDATE spans SET last = last - 1 WHERE session = ` + of:                                                                        "301 hidden",
		`DELETE FROM subjects WHERE session = ` + of:                                                                                    "301 misstated",
		`UPDATE subjects SET statement = 2 WHERE session = ` + of:                                                                       "301 misstated",
		`UPDATE subjects SET session = session + 1 WHERE session = ` + of:                                                               "misstated",
		`INSERT INTO subjects SELECT 'clerk', key, session, 1 FROM subjects`:                                                            "1 misstated",
		`INSERT INTO spans SELECT id, 'c9', 1, 1 FROM sessions`:                                                                         "",
		`UPDATE sessions SET rows = 9 WHERE session = 's-0010'; UPDATE spans SET last = last - 1 WHERE first > 700 AND session = ` + of: "11 misstated",
		`INSERT INTO spans SELECT id, 'c9', 1, 1 FROM sessions; UPDATE sessions SET status = 'error' WHERE session = 's-0300'`:          "301 misstated",
	} {
		dir := newStore(t)
		s := open(t, dir)
		first, rest := many()
		add(t, s, messages("h1", first)...)
		add(t, s, messages("h1", rest)...)
		s.Close()
		raw(t, dir, edit)
		if got := faults(verify(t, dir)); got != want && (want != "misstated" || !strings.HasSuffix(got, want)) {
			t.Errorf("%s: found %q, want %q", edit, got, want)
		}
	}
}

// What becomes of many sessions at once, and is not written, is an error.
func TestManyRowsThatAreNotWritten(t *testing.T) {
	for _, of := range []string{"INSERT ON sessions", "UPDATE ON sessions", "INSERT ON spans"} {
		dir := newStore(t)
		s := open(t, dir)
		batch, rest := many()
		if of == "UPDATE ON sessions" {
			add(t, s, messages("h1", batch)...)
			batch = rest
		}
		err := s.AddAfter(t.Context(), dropping(dir, of), messages("h1", batch))
		if err == nil || !strings.Contains(err.Error(), "somebody edited the store") {
			t.Errorf("%s: %v", of, err)
		}
	}
}
