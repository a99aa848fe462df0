package recorder_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/seal"
)

// sealedHost has what a host publishes of a session whose transcript it has encrypted.
func sealedHost(t *testing.T, to age.Recipient) (ms []recorder.Message) {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	in, err := seal.New(j, []age.Recipient{to})
	if err != nil {
		t.Fatal(err)
	}
	x := newSession("s-1")
	var last events.Ticket
	tell := func(e events.Event) {
		t.Helper()
		e.Session, e.Time = x, time.Now()
		if last, err = in.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	chunk := func(kind events.ChunkKind, text string) {
		t.Helper()
		if _, err := in.Record(&events.Chunk{Session: x, Number: 1, Kind: kind, Time: time.Now(), Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	tell(events.Event{Kind: events.SessionOpen})
	chunk(events.ChunkStatement, "SELECT '"+planted+"'")
	tell(events.Event{Kind: events.Statement, Number: 1, Normalized: "SELECT ?", Verdict: events.Allow})
	for range 100 {
		chunk(events.ChunkResult, planted+" ")
	}
	tell(events.Event{Kind: events.Response, Number: 1, Status: "ok", Rows: 100, Recorded: 100})
	tell(events.Event{Kind: events.SessionClose, Status: "ok"})
	if err := last.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := j.Reader(1)
	defer r.Close()
	for range j.Last() {
		rec, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rec.Payload = append([]byte(nil), rec.Payload...)
		ms = append(ms, recorder.Message{Host: "h1", Record: rec})
	}
	return ms
}

// What a host has encrypted the recorder stores as it is, beside it or in its blocks. Who
// has an identity shows, follows, replays and searches it; who has none is told so.
func TestSealedByTheHost(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ms := sealedHost(t, id.Recipient())
	for _, m := range ms {
		if strings.Contains(string(m.Record.Payload), planted) {
			t.Fatalf("record %d has the planted word", m.Record.Seq)
		}
	}
	for _, beside := range []bool{true, false} {
		dir := newStore(t)
		s := open(t, dir)
		if beside {
			s.KeepTranscripts(apart(t, dir)) // the recorder encrypts nothing
		}
		if alarms := add(t, s, ms...); len(alarms) > 0 {
			t.Fatal(alarms)
		}
		if found := holding(t, dir, planted); len(found) > 0 {
			t.Errorf("the planted word stands in %v", found)
		}
		for _, ids := range [][]age.Identity{{id}, nil} {
			r := reader(t, dir, ids...)
			if rep := verified(t, r, recorder.Noted{}); len(rep.Faults) > 0 {
				t.Fatalf("%+v", rep.Faults)
			}
			x, err := r.Find(t.Context(), "s-1")
			if err != nil {
				t.Fatal(err)
			}
			d, err := r.Show(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			text, err := said(t, r, "s-1")
			var live strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			for c, err := range r.LiveChunks(ctx, x, time.Millisecond) {
				if err == nil {
					live.Write(c.Data)
				}
			}
			cancel()
			list, serr := r.Sessions(t.Context(), recorder.Filter{Text: strings.ToLower(planted)})
			if ids != nil {
				if err != nil || strings.Count(text, planted) != 101 || live.String() != text || d.Requests[0].Exact != "SELECT '"+planted+"'" || len(d.Withheld) > 0 {
					t.Errorf("%v: %v, %d bytes, live %d, %+v", beside, err, len(text), live.Len(), d)
				}
				if serr != nil || len(list) != 1 {
					t.Errorf("%v: search finds %v, %v", beside, list, serr)
				}
				continue
			}
			if !errors.Is(err, recorder.ErrSealed) || text != "" || live.Len() > 0 || d.Requests[0].Exact != "" || d.Requests[0].Text != "SELECT ?" ||
				len(d.Withheld) != 1 || !strings.Contains(d.Withheld[0], "--identity-file") {
				t.Errorf("%v: %v, %q, %+v", beside, err, text, d)
			}
			if !errors.Is(serr, recorder.ErrSealed) {
				t.Errorf("%v: search says %v, %v", beside, list, serr)
			}
		}
	}
}

// Of a session that goes on, a rule deletes the beginning, and with it the key of what is
// kept for some time yet. All of that is told as deleted, and a search is not in doubt.
func TestSealedWithoutItsBeginning(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ms := sealedHost(t, id.Recipient())
	ms = ms[:len(ms)-1] // it is not closed
	dir, now := newStore(t), time.Now()
	s := open(t, dir)
	s.KeepTranscripts(apart(t, dir))
	for i, some := range [][]recorder.Message{ms[:3], ms[3:]} {
		if _, alarms, err := s.Add(t.Context(), some, now.Add(time.Duration(i)*10*aDay)); err != nil || len(alarms) > 0 {
			t.Fatal(alarms, err)
		}
	}
	if n := len(bodyFiles(t, dir)); n != 2 {
		t.Fatal(n)
	}
	o := recorder.PruneOptions{Retention: recorder.Retention{Rules: []recorder.Rule{{Name: "all", Host: "h1", Keep: keep(t, "30d")}}}}
	if got, _ := prune(t, dir, s, o, now.Add(31*aDay)); len(got) != 1 {
		t.Fatal(got)
	}
	r := reader(t, dir, id)
	x, err := r.Find(t.Context(), "s-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Show(t.Context(), x)
	if err != nil || len(d.Withheld) != 1 || !strings.Contains(d.Withheld[0], `deleted on`) {
		t.Errorf("%v: %q", err, d.Withheld)
	}
	if list, err := r.Sessions(t.Context(), recorder.Filter{Text: planted}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
