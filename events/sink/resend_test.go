package sink_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// picky takes what it does not refuse.
type picky struct {
	refuses map[string]bool
	took    []string
}

func (p *picky) Send(_ context.Context, batch []sink.Event) (a sink.Answer) {
	for _, e := range batch {
		if p.refuses[e.UID] {
			a.Refused = append(a.Refused, sink.Refusal{Event: e, Why: errors.New("mapping conflict")})
			continue
		}
		p.took = append(p.took, e.UID)
	}
	return a
}

func (p *picky) Close() error { return nil }

// What a target refused comes to it again once it takes it, each once and as it was;
// what is refused again waits apart, and what no host may publish is never sent.
func TestResend(t *testing.T) {
	state := t.TempDir()
	c := chaintest.New("c1")
	for i := range 12 {
		e := &events.Event{Kind: events.Lifecycle, Time: time.Unix(int64(i), 0), Status: "heartbeat", Session: &events.Session{Host: "h1"}}
		c.Add(e.Kind, "", "", ocsf.Append(nil, fmt.Sprintf("c1-%d", i+1), e))
	}
	var records iter.Seq2[sink.Stored, error] = func(yield func(sink.Stored, error) bool) {
		for _, r := range c.All() {
			if !yield(sink.Stored{Host: "h1", Record: r}, nil) {
				return
			}
		}
	}
	k := &sink.Config{Name: "siem", Batch: 4, BatchBytes: 1 << 20}
	refused := map[string]bool{"c1-3": true, "c1-4": true, "c1-9": true}
	p := &picky{refuses: refused}
	if n, err := sink.Backfill(t.Context(), k, p, state, records, time.Time{}, time.Unix(100, 0), nil); err != nil || n != 12 || len(p.took) != 9 {
		t.Fatal(n, err, p.took)
	}
	file := filepath.Join(state, "siem.backfill.rejected.jsonl")
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), "\n") != 3 {
		t.Fatalf("%s %v", b, err)
	}
	// What somebody else's host is said to have said, another number, what is no event,
	// and a line that is being written.
	first := strings.SplitAfter(string(b), "\n")[0]
	b = append(b, strings.ReplaceAll(first, `"host":"h1"`, `"host":"h2"`)...)
	b = append(b, strings.ReplaceAll(first, `"uid":"c1-3"`, `"uid":"c1-5"`)...)
	b = append(b, "no event\n"+first[:len(first)/2]...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	resend := func(refuses map[string]bool, want sink.Resent, took ...string) {
		t.Helper()
		p := &picky{refuses: refuses}
		r, err := sink.Resend(t.Context(), k, p, state, nil)
		if err != nil || r != want || !slices.Equal(p.took, took) {
			t.Errorf("%+v %v, took %q; want %+v, %q", r, err, p.took, want, took)
		}
	}
	resend(map[string]bool{"c1-4": true}, sink.Resent{Sent: 3, Refused: 1, Passed: 3}, "c1-3", "c1-9")
	resend(nil, sink.Resent{})
	again, err := os.ReadFile(filepath.Join(state, "siem.resend.rejected.jsonl"))
	if err != nil || strings.Count(string(again), "\n") != 1 || !strings.Contains(string(again), `"uid":"c1-4"`) {
		t.Errorf("%s %v", again, err)
	}
	// The line that was being written is there now.
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(first[len(first)/2:]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	resend(nil, sink.Resent{Sent: 1}, "c1-3")
	if err := os.Truncate(file, 1); err != nil {
		t.Fatal(err)
	}
	if r, err := sink.Resend(t.Context(), k, &picky{}, state, nil); err == nil {
		t.Errorf("a file that was cut: %+v", r)
	}
}
