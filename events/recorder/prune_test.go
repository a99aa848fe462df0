package recorder_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

const aDay = 24 * time.Hour

func keep(t *testing.T, text string) (a recorder.Age) {
	t.Helper()
	if err := a.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return a
}

// kept is a store with three closed sessions and one that goes on, each with a body.
func kept(t *testing.T, dir string) *recorder.DB {
	t.Helper()
	s := open(t, dir)
	s.KeepTranscripts(apart(t, dir))
	for _, id := range []string{"s-1", "s-2", "s-3"} {
		add(t, s, messages("h1", spoken(id).All())...)
	}
	on := newHost("c-on")
	begun := newSession("s-on")
	begun.Resource = "lab"
	on.tell(events.Event{Kind: events.SessionOpen, Session: begun})
	on.chunk(begun, 1, events.ChunkStatement, "SELECT 1")
	add(t, s, messages("h2", on.All())...)
	if n := len(bodyFiles(t, dir)); n != 4 {
		t.Fatal(n)
	}
	return s
}

// ruled has the log have all that is stored, and o hold the store against it. Tests
// go far into the future at once.
func ruled(t *testing.T, dir string, s *recorder.DB, o recorder.PruneOptions) recorder.PruneOptions {
	t.Helper()
	if !o.Dry {
		logAll(t, dir, s, follow.Options{})
		o.Log = &recorder.Logged{Dir: recorder.LogFolder(home(dir)), Keys: logKeys(t)}
	}
	o.Late = true
	return o
}

func prune(t *testing.T, dir string, s *recorder.DB, o recorder.PruneOptions, now time.Time) (deleted []string, rep recorder.PruneReport) {
	t.Helper()
	o = ruled(t, dir, s, o)
	rep, err := s.Prune(t.Context(), o, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range rep.Deleted {
		deleted = append(deleted, d.Session+" "+d.Rule)
	}
	slices.Sort(deleted)
	return deleted, rep
}

// TestPrune deletes by rule what nothing holds; the chains stay sound, what was deleted
// is told, and what somebody deletes by hand is missed all the same.
func TestPrune(t *testing.T) {
	dir := newStore(t)
	s, ctx := kept(t, dir), t.Context()
	o := recorder.PruneOptions{Retention: recorder.Retention{Rules: []recorder.Rule{
		{Name: "lab", Resource: "lab", Keep: keep(t, "400d")}, {Name: "clinic", Resource: "clinic", Keep: keep(t, "30d")},
	}}}
	now := time.Now()
	if got, _ := prune(t, dir, s, o, now.Add(29*aDay)); got != nil {
		t.Fatal("too early:", got)
	}
	hold, err := s.AddHold(ctx, recorder.Hold{By: "counsel", Reason: "case 7", Session: "s-2"}, now)
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(31 * aDay)
	dry := o
	dry.Dry = true
	want := []string{"s-1 clinic", "s-3 clinic"}
	got, rep := prune(t, dir, s, dry, later)
	if !slices.Equal(got, want) || len(rep.Held) != 1 || rep.Held[0] != (recorder.Kept{Host: "h1", Session: "s-2", Hold: hold}) || len(bodyFiles(t, dir)) != 4 {
		t.Fatalf("%v %+v", got, rep)
	}
	if got, _ := prune(t, dir, s, o, later); !slices.Equal(got, want) || len(bodyFiles(t, dir)) != 2 {
		t.Fatal(got)
	}
	if got, _ := prune(t, dir, s, o, later); got != nil {
		t.Fatal("again:", got)
	}
	r := verified(t, reader(t, dir), recorder.Noted{})
	if len(r.Faults) > 0 || len(r.Alarms) != 2 || r.Acts != 3 || r.Alarm.ID != 5 || r.Transcripts.Checked != 2 || r.Transcripts.Deleted != 2 ||
		r.Transcripts.Deletions[0].Rule != "clinic" || !r.Transcripts.Deletions[0].Time.Equal(later.Truncate(0)) {
		t.Fatalf("%+v", r)
	}
	// What is left tells all but the transcript, and why that is not there.
	x, err := s.Find(ctx, "s-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Show(ctx, x)
	if err != nil || d.Requests[0].Text == "" || d.Requests[0].Exact != "" || len(d.Withheld) != 1 || !strings.Contains(d.Withheld[0], `rule "clinic"`) {
		t.Fatal(d, err)
	}
	if _, err := said(t, s, "s-1"); !errors.As(err, new(*recorder.Deleted)) {
		t.Error(err)
	}
	// Released, it is deleted; the one that was never closed when its own time has come.
	if err := s.ReleaseHold(ctx, hold, "counsel", "case closed", later); err != nil {
		t.Fatal(err)
	}
	if got, _ := prune(t, dir, s, o, later); !slices.Equal(got, []string{"s-2 clinic"}) {
		t.Error(got)
	}
	if got, _ := prune(t, dir, s, o, now.Add(399*aDay)); got != nil {
		t.Error(got)
	}
	files := bodyFiles(t, dir)
	if len(files) != 1 {
		t.Fatal(files)
	}
	if err := os.Remove(files[0]); err != nil { // by hand
		t.Fatal(err)
	}
	r = verified(t, s, recorder.Noted{})
	if len(r.Faults) != 1 || r.Faults[0].What != "removed" || r.Faults[0].Host != "h2" || r.Transcripts.Deleted != 3 {
		t.Errorf("%+v", r.Faults)
	}
}

// TestHolds tries each way to say what is held, with a session that it meets and one
// that it does not.
func TestHolds(t *testing.T) {
	dir := newStore(t)
	s, ctx := kept(t, dir), t.Context()
	o := recorder.PruneOptions{Retention: recorder.Retention{Keep: keep(t, "1d")}, Dry: true}
	now := time.Now()
	var all []string
	if all, _ = prune(t, dir, s, o, now.Add(3*aDay)); len(all) != 4 {
		t.Fatal(all)
	}
	after, before := noon.Add(aDay), noon.Add(-aDay)
	for name, c := range map[string]struct {
		hold recorder.Hold
		held int
	}{
		"host": {recorder.Hold{Host: "h2"}, 1}, "session": {recorder.Hold{Session: "s-2"}, 1}, "part of an id": {recorder.Hold{Session: "s-"}, 0},
		"identity": {recorder.Hold{Identity: "agent-a"}, 4}, "principal": {recorder.Hold{Principal: "dr.grey"}, 4}, "another": {recorder.Hold{Principal: "agent-a"}, 0},
		"resource": {recorder.Hold{Resource: "clinic"}, 3}, "both": {recorder.Hold{Resource: "clinic", Host: "h2"}, 0},
		"since": {recorder.Hold{Since: before}, 4}, "went on": {recorder.Hold{Since: after}, 4}, "neither stored": {recorder.Hold{Since: now.Add(aDay), Host: "h1"}, 0}, "until": {recorder.Hold{Until: before}, 0}, "opened": {recorder.Hold{Until: after}, 4},
		"nobody": {recorder.Hold{Subject: "patient:00000000000000000000000000000000"}, 0}, "everything": {recorder.Hold{}, 4},
	} {
		c.hold.By, c.hold.Reason = "counsel", name
		id, err := s.AddHold(ctx, c.hold, now)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.Meets(ctx, c.hold); n != c.held || err != nil {
			t.Errorf("%s: it meets %d, %v", name, n, err)
		}
		if got, rep := prune(t, dir, s, o, now.Add(3*aDay)); len(rep.Held) != c.held || len(got) != 4-c.held {
			t.Errorf("%s: %+v, %v", name, rep.Held, got)
		}
		if err := s.ReleaseHold(ctx, id, "counsel", "over", now); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Holds(ctx); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	for name, h := range map[string]recorder.Hold{"no reason": {By: "x"}, "nobody": {Reason: "x"}, "no subject": {By: "x", Reason: "x", Subject: "patient 7"}} {
		if _, err := s.AddHold(ctx, h, now); err == nil {
			t.Errorf("%s: it is held", name)
		}
	}
	if err := s.ReleaseHold(ctx, 99, "x", "x", now); err == nil {
		t.Error("a hold that is not there is released")
	}
}

// TestHoldBySubject holds the sessions that were shown somebody's rows.
func TestHoldBySubject(t *testing.T) {
	dir := newStore(t)
	s := kept(t, dir)
	h := newHost("c-seen")
	x := newSession("s-seen")
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	h.chunk(x, 1, events.ChunkStatement, "SELECT 1")
	who := events.Subject{Name: "patient", Key: [16]byte{7}}
	h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Command: "SELECT", Verdict: events.Allow})
	h.tell(events.Event{Kind: events.Response, Session: x, Number: 1, Status: "ok", Rows: 1, Subjects: []events.Subject{who}, Named: 1})
	h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "closed"})
	add(t, s, messages("h1", h.All())...)
	if _, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "case 8", Subject: who.String()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	got, rep := prune(t, dir, s, recorder.PruneOptions{Retention: recorder.Retention{Keep: keep(t, "1d")}}, time.Now().Add(3*aDay))
	if len(got) != 4 || len(rep.Held) != 1 || rep.Held[0].Session != "s-seen" {
		t.Errorf("%v %+v", got, rep.Held)
	}
}

// TestPruneTrustsNoEditedHolds: whoever removes or changes a hold behind the
// recorder's back gets nothing deleted, and is found.
func TestPruneTrustsNoEditedHolds(t *testing.T) {
	for name, edit := range map[string]string{
		"removed": `DELETE FROM alarms WHERE what = 'hold'`,
		"cut off": `DELETE FROM leaves WHERE alarm >= 3; DELETE FROM alarms WHERE what = 'hold';
			UPDATE ends SET alarm = (SELECT max(id) FROM alarms), alarm_link = (SELECT link FROM alarms ORDER BY id DESC LIMIT 1)`,
		"changed":  `UPDATE alarms SET payload = CAST(replace(payload, 's-2', 's-9') AS BLOB) WHERE what = 'hold'`,
		"released": `INSERT INTO alarms SELECT 5, time, '', '', 0, 'released', '', zeroblob(32), CAST('{"hold":3}' AS BLOB), zeroblob(32), zeroblob(32) FROM alarms WHERE id = 1`,
	} {
		dir := newStore(t)
		s := kept(t, dir)
		for _, id := range []string{"s-2", "s-3"} {
			if _, err := s.AddHold(t.Context(), recorder.Hold{By: "counsel", Reason: "case 7", Session: id}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		o := ruled(t, dir, s, recorder.PruneOptions{Retention: recorder.Retention{Keep: keep(t, "1d")}})
		raw(t, dir, edit)
		rep, err := s.Prune(t.Context(), o, time.Now().Add(3*aDay))
		if err == nil || len(rep.Deleted) > 0 || len(bodyFiles(t, dir)) != 4 {
			t.Errorf("%s: %+v %v", name, rep, err)
		}
		if r := verified(t, reader(t, dir), recorder.Noted{Log: o.Log}); len(r.Faults) == 0 {
			t.Errorf("%s: verify finds nothing", name)
		}
	}
}

// failing is a place from which nothing can be deleted.
type failing struct{ *transcripts.Files }

func (failing) Delete(context.Context, string) error { return errAway }

// TestPruneGoesOn: what a crash left between the record of a deletion and the deletion
// goes with the next; what no record names is kept until somebody says so.
func TestPruneGoesOn(t *testing.T) {
	dir := newStore(t)
	s := kept(t, dir)
	o := recorder.PruneOptions{Retention: recorder.Retention{Keep: keep(t, "1d")}}
	files := transcripts.OpenFiles(recorder.TranscriptsFolder(home(dir)))
	if err := files.Put(t.Context(), strings.Repeat("ab", 32), []byte(planted)); err != nil {
		t.Fatal(err)
	}
	s.KeepTranscripts(recorder.Transcripts{Store: failing{files}})
	if _, err := s.Prune(t.Context(), ruled(t, dir, s, o), time.Now().Add(3*aDay)); !errors.Is(err, errAway) {
		t.Fatal(err)
	}
	if n := len(bodyFiles(t, dir)); n != 5 {
		t.Fatal(n)
	}
	if r := verified(t, reader(t, dir), recorder.Noted{}); len(r.Faults) > 0 {
		t.Errorf("%+v", r.Faults)
	}
	s.KeepTranscripts(apart(t, dir))
	if _, rep := prune(t, dir, s, o, time.Now().Add(3*aDay)); rep.Unnamed != 1 || rep.Swept != 0 || len(bodyFiles(t, dir)) != 1 {
		t.Errorf("%+v, %v", rep, bodyFiles(t, dir))
	}
	if r := verified(t, reader(t, dir), recorder.Noted{}); len(r.Faults) > 0 || r.Transcripts.Deleted != 4 {
		t.Errorf("%+v", r)
	}
	o.Sweep = true
	if _, rep := prune(t, dir, s, o, time.Now()); rep.Unnamed != 0 || len(bodyFiles(t, dir)) != 1 {
		t.Errorf("what is new is swept: %+v", rep)
	}
	if _, rep := prune(t, dir, s, o, time.Now().Add(3*aDay)); rep.Swept != 1 || len(bodyFiles(t, dir)) != 0 {
		t.Errorf("%+v", rep)
	}
}

// TestRetentionByRecording goes by whether rows of results were recorded; where that can't
// be told the longer time counts.
func TestRetentionByRecording(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	s.KeepTranscripts(apart(t, dir))
	for id, end := range map[string][]events.Event{
		"rows":        {{Kind: events.Response, Number: 1, Status: "ok", Rows: 1, Recorded: 9}},
		"text":        {{Kind: events.Response, Number: 1, Status: "ok", Rows: 1}},
		"refused":     {{Kind: events.Block, Number: 2, Verdict: events.Blocked}, {Kind: events.Response, Number: 1, Status: "ok"}},
		"open":        nil,
		"interrupted": {{Kind: events.Response, Number: 1, Status: "interrupted", Rows: 1}},
	} {
		h, x := newHost("c-"+id), newSession(id)
		h.tell(events.Event{Kind: events.SessionOpen, Session: x})
		h.chunk(x, 1, events.ChunkStatement, "SELECT 1")
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Command: "SELECT", Verdict: events.Allow})
		for _, e := range end {
			e.Session = x
			h.tell(e)
		}
		h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "closed"})
		add(t, s, messages("h-"+id, h.All())...)
	}
	h, x := newHost("c-untold"), newSession("untold") // a transcript that no event tells of
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	h.chunk(x, 1, events.ChunkResult, "row")
	h.tell(events.Event{Kind: events.SessionClose, Session: x, Status: "closed"})
	add(t, s, messages("h-untold", h.All())...)
	short := recorder.Rule{Name: "short", Keep: keep(t, "10d")}
	for recording, want := range map[string][]string{
		"statement": {"refused short", "text short"},
		"full":      {"rows short"},
	} {
		rule := short
		rule.Recording = recording
		o := recorder.PruneOptions{Dry: true, Retention: recorder.Retention{Keep: keep(t, "100d"), Rules: []recorder.Rule{rule}}}
		if got, _ := prune(t, dir, s, o, time.Now().Add(20*aDay)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", recording, got, want)
		}
		if got, _ := prune(t, dir, s, o, time.Now().Add(120*aDay)); len(got) != 6 {
			t.Errorf("%s: %v", recording, got)
		}
	}
}

// TestRetentionRules refuses what says nothing, and reads ages.
func TestRetentionRules(t *testing.T) {
	for text, days := range map[string]int{"1d": 1, "30d": 30, "12w": 84, "6y": 6 * 366} {
		if got := keep(t, text); time.Duration(got) != time.Duration(days)*aDay {
			t.Errorf("%s is %v", text, got)
		}
	}
	for _, bad := range []string{"", "d", "0d", "-1d", "1", "1h", "1.5y", "6 y", "100000y", "1m"} {
		if err := new(recorder.Age).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is an age", bad)
		}
	}
	for name, r := range map[string]recorder.Rule{
		"no name": {Resource: "x", Keep: keep(t, "1d")}, "no time": {Name: "a", Resource: "x"}, "for all": {Name: "a", Keep: keep(t, "1d")},
		"no verdict": {Name: "a", Verdict: "blocked?", Keep: keep(t, "1d")}, "default": {Name: "default", Resource: "x", Keep: keep(t, "1d")},
		"no transcript": {Name: "a", Recording: "events", Keep: keep(t, "1d")}, "no recording": {Name: "a", Recording: "metadata", Keep: keep(t, "1d")},
	} {
		if err := (&recorder.Retention{Rules: []recorder.Rule{r}}).Check(); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	// Six years where nothing is said; forever is forever.
	dir := newStore(t)
	s := kept(t, dir)
	now := time.Now()
	o := recorder.PruneOptions{Dry: true}
	if got, _ := prune(t, dir, s, o, now.Add(6*365*aDay)); got != nil {
		t.Error(got)
	}
	if got, _ := prune(t, dir, s, o, now.Add(6*366*aDay+time.Hour)); len(got) != 4 {
		t.Error(got)
	}
	o.Retention = recorder.Retention{Keep: keep(t, "1d"), Rules: []recorder.Rule{{Name: "refused", Verdict: "block", Keep: keep(t, "forever")}}}
	if got, _ := prune(t, dir, s, o, now.Add(50*366*aDay)); !slices.Equal(got, []string{"s-on default"}) {
		t.Error(got)
	}
}
