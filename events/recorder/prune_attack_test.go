package recorder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// TestSweepBelievesNoRow: rows that say of each body that it was deleted, behind the
// recorder's back, delete nothing.
func TestSweepBelievesNoRow(t *testing.T) {
	dir := newStore(t)
	s := kept(t, dir)
	if _, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "all"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	o := ruled(t, dir, s, recorder.PruneOptions{Sweep: true})
	for i, f := range bodyFiles(t, dir) {
		raw(t, dir, fmt.Sprintf(`INSERT INTO alarms SELECT %d, 1, 'h', 'c', 1, 'deleted', '', x'%s', x'', x'', x''`, 100+i, filepath.Base(f)))
	}
	rep, err := s.Prune(t.Context(), o, time.Now().Add(3*aDay))
	if n := len(bodyFiles(t, dir)); n != 4 {
		t.Errorf("%d bodies are left: %+v, %v", n, rep, err)
	}
}

// TestRelabelledSession: what a host says of a session later takes it from no hold and
// puts it under no shorter rule.
func TestRelabelledSession(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	s.KeepTranscripts(apart(t, dir))
	h := spoken("s-1")
	add(t, s, messages("h1", h.All())...)
	n := len(h.All())
	x := newSession("s-1")
	x.Resource, x.Principal = "lab", "nobody"
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	alarms := add(t, s, messages("h1", h.All()[n:])...)
	if !strings.Contains(fmt.Sprint(alarms), "relabelled") {
		t.Errorf("alarms: %+v", alarms)
	}
	o := recorder.PruneOptions{Dry: true, Retention: recorder.Retention{Rules: []recorder.Rule{{Name: "lab", Resource: "lab", Keep: keep(t, "1d")}}}}
	if got, _ := prune(t, dir, s, o, time.Now().Add(3*aDay)); got != nil {
		t.Errorf("deleted: %v", got)
	}
	if _, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "x", Principal: "dr.grey"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, rep := prune(t, dir, s, o, time.Now().Add(7*366*aDay)); got != nil || len(rep.Held) != 1 {
		t.Errorf("deleted: %v, held %v", got, rep.Held)
	}
}

// TestForgedDeletion: a deletion that no rule can have made hides no removal.
func TestForgedDeletion(t *testing.T) {
	for name, c := range map[string]struct {
		hold bool
		at   time.Duration
		want bool
	}{"too early": {false, 0, true}, "held": {true, 3 * aDay, true}, "as a rule does": {false, 3 * aDay, false}} {
		dir := newStore(t)
		s := kept(t, dir)
		if c.hold {
			if _, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "all"}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		name1, err := s.ForgeDeletion(t.Context(), "s-1", "1d", time.Now().Add(c.at))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(recorder.TranscriptsFolder(home(dir)), name1[:2], name1)); err != nil {
			t.Fatal(err)
		}
		rep := verified(t, reader(t, dir), recorder.Noted{})
		if (len(rep.Faults) == 1 && rep.Faults[0].What == "removed" && strings.Contains(rep.Faults[0].Detail, "s-1")) != c.want {
			t.Errorf("%s: %+v", name, rep.Faults)
		}
	}
}

// TestPruneRefuses what would delete by mistake.
func TestPruneRefuses(t *testing.T) {
	dir := newStore(t)
	s := kept(t, dir)
	good := ruled(t, dir, s, recorder.PruneOptions{Retention: recorder.Retention{Keep: keep(t, "1d")}})
	noLog, clock := good, good
	noLog.Log, clock.Late = nil, false
	for name, c := range map[string]struct {
		o  recorder.PruneOptions
		at time.Duration
	}{"no log": {noLog, 3 * aDay}, "a clock that leapt": {clock, 300 * aDay}} {
		if rep, err := s.Prune(t.Context(), c.o, time.Now().Add(c.at)); err == nil || len(rep.Deleted) > 0 || len(bodyFiles(t, dir)) != 4 {
			t.Errorf("%s: %+v, %v", name, rep, err)
		}
	}
	// The configuration names another place: nothing is noted of what stays.
	s.KeepTranscripts(apart(t, filepath.Join(home(dir), "none")))
	if _, err := s.Prune(t.Context(), good, time.Now().Add(3*aDay)); err == nil {
		t.Error("no such folder")
	}
	other := t.TempDir()
	if err := os.Mkdir(filepath.Join(other, "transcripts"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.KeepTranscripts(apart(t, other))
	if rep, err := s.Prune(t.Context(), good, time.Now().Add(3*aDay)); err != nil || rep.Missing != 4 || len(rep.Deleted) > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep := verified(t, reader(t, dir), recorder.Noted{}); rep.Acts != 0 || rep.Transcripts.Checked != 4 {
		t.Errorf("%+v", rep)
	}
	if _, err := s.AddHold(t.Context(), recorder.Hold{By: "x", Reason: "x", Since: noon, Until: noon.Add(-aDay)}, time.Now()); err == nil {
		t.Error("a hold that meets nothing is made")
	}
}

// TestFarFuture: a host that says 2226 is not kept for ever.
func TestFarFuture(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	s.KeepTranscripts(apart(t, dir))
	h, x := newHost("c1"), newSession("s-1")
	far := time.Now().AddDate(200, 0, 0)
	h.tell(events.Event{Kind: events.SessionOpen, Session: x, Time: far})
	h.chunk(x, 1, events.ChunkStatement, "SELECT 1")
	h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "closed", Time: far})
	add(t, s, messages("h1", h.All())...)
	raw(t, dir, fmt.Sprintf(`UPDATE sessions SET opened = %[1]d, closed = %[1]d`, far.UnixNano())) // as a host can
	o := recorder.PruneOptions{Dry: true, Retention: recorder.Retention{Keep: keep(t, "1d")}}
	if got, _ := prune(t, dir, s, o, time.Now().Add(3*aDay)); len(got) != 1 {
		t.Error(got)
	}
}
