package main

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/events/recorder"
)

// listOf gives so many sessions, and counts those that were asked for.
func listOf(n int, asked *int) iter.Seq2[recorder.Session, error] {
	return func(yield func(recorder.Session, error) bool) {
		for *asked = 0; *asked < n; {
			*asked++
			x := recorder.Session{ID: fmt.Sprintf("s-%d", *asked), Opened: time.Unix(int64(*asked), 0), Statements: *asked}
			x.Workload = []string{"bot", "a bot <with> a longer näme"}[*asked%2]
			if !yield(x, nil) {
				return
			}
		}
	}
}

// early notes how many sessions had been asked for when the first was written; it
// takes so many bytes.
type early struct {
	asked, first *int
	room         int
}

func (e *early) Write(b []byte) (int, error) {
	if *e.first == 0 {
		*e.first = *e.asked
	}
	if e.room -= len(b); e.room < 0 {
		return 0, errors.New("nobody reads on")
	}
	return len(b), nil
}

// Sessions are printed as they come, and no more are read once nobody takes them.
func TestSessionsAreListedAsTheyCome(t *testing.T) {
	const all = 20000
	for name, show := range map[string]func(*early, iter.Seq2[recorder.Session, error]) error{
		"text": func(w *early, l iter.Seq2[recorder.Session, error]) error { return listSessions(w, l, false) },
		"json": func(w *early, l iter.Seq2[recorder.Session, error]) error { return printJSONList(w, l) },
	} {
		asked, first := 0, 0
		if err := show(&early{&asked, &first, 1 << 30}, listOf(all, &asked)); err != nil || asked != all || first > tableRows {
			t.Errorf("%s: %v: the first of %d was printed once %d were read", name, err, asked, first)
		}
		if err := show(&early{&asked, &first, 1 << 18}, listOf(all, &asked)); err == nil || asked == all {
			t.Errorf("%s: %v: %d were read for who has gone away", name, err, asked)
		}
		broken := errors.New("the store is gone")
		err := show(&early{&asked, &first, 1 << 30}, func(yield func(recorder.Session, error) bool) {
			_ = yield(recorder.Session{}, nil) && yield(recorder.Session{}, broken)
		})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The list looks as one does that was all there before it was printed.
func TestSessionsListedLookTheSame(t *testing.T) {
	asked := 0
	for _, n := range []int{0, 1, 3, tableRows - 1} {
		var list []recorder.Session
		for x := range listOf(n, &asked) {
			list = append(list, x)
		}
		var got, want bytes.Buffer
		if list == nil {
			list = []recorder.Session{}
		}
		if err := errors.Join(printJSONList(&got, listOf(n, &asked)), printJSON(&want, list)); err != nil || got.String() != want.String() {
			t.Errorf("%d sessions: %v\n%s\nwant\n%s", n, err, &got, &want)
		}
		got.Reset()
		want.Reset()
		w := tabwriter.NewWriter(&want, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SESSION\tOPENED\tLASTED\tWORKLOAD\tACTOR\tFOR\tRESOURCE\tSTATEMENTS\tMASKED\tREFUSED\tROWS\tSEEN BY")
		for _, x := range list {
			fmt.Fprintf(w, "%s\t%s\topen\t%s\t-\t-\t-\t%d\t0\t0\t0\t\n", x.ID, x.Opened.Local().Format(time.DateTime), x.Workload, x.Statements)
		}
		w.Flush()
		if err := listSessions(&got, listOf(n, &asked), true); err != nil || got.String() != want.String() {
			t.Errorf("%d sessions: %v\n%q\nwant\n%q", n, err, &got, &want)
		}
	}
	var got bytes.Buffer
	if err := listSessions(&got, listOf(3*tableRows, &asked), false); err != nil || strings.Count(got.String(), "\n") != 3*tableRows+1 {
		t.Fatal(err, strings.Count(got.String(), "\n"))
	}
	lines := strings.Split(got.String(), "\n")
	for _, l := range lines[1 : len(lines)-1] {
		if utf8.RuneCountInString(l) != utf8.RuneCountInString(lines[1]) {
			t.Fatalf("%q\n%q", lines[1], l)
		}
	}
}
