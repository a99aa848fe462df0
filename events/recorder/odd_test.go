package recorder_test

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// What stands in the place of a body is a fault of its records, and the rest of the
// store is verified.
func TestVerifyGoesOnBehindAnOddBody(t *testing.T) {
	for name, put := range map[string]func(file string) error{
		"a directory": func(file string) error { return os.Mkdir(file, 0o700) },
		"a link":      func(file string) error { return os.Symlink("/dev/zero", file) },
		"too large": func(file string) error {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(file, transcripts.MaxBody+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			kept(t, dir)
			file := bodyFiles(t, dir)[0]
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := put(file); err != nil {
				t.Fatal(err)
			}
			r := verified(t, reader(t, dir), recorder.Noted{})
			if len(r.Faults) != 1 || r.Faults[0].What != "changed" || len(r.Chains) != 4 || r.Transcripts.Checked != 3 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What blocks say of their transcripts is in the log, and named where it was edited.
func TestVerifyNamesWhatIsSaidOfTranscripts(t *testing.T) {
	dir := t.TempDir()
	s := kept(t, dir)
	logAll(t, dir, s, follow.Options{})
	db, err := recorder.Connect(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var h []byte
	if err := db.QueryRow(`SELECT heads FROM blocks WHERE chain = 'c-s-1'`).Scan(&h); err != nil {
		t.Fatal(err)
	}
	n, k := binary.Uvarint(h[1:]) // the heads, and then what is said of bodies
	at := 1 + k + int(n)
	m, k := binary.Uvarint(h[at:])
	h[at+k+int(m)-1] = 1 // stored: long ago
	if _, err := db.Exec(`UPDATE blocks SET heads = ? WHERE chain = 'c-s-1'`, h); err != nil {
		t.Fatal(err)
	}
	r, err := verifyLogged(t, dir, recorder.Logged{})
	if err != nil || len(r.Faults) != 1 || r.Faults[0].Chain != "c-s-1" || r.Faults[0].What != "changed" || !strings.Contains(r.Faults[0].Detail, "transcripts") {
		t.Errorf("%+v %v", r.Faults, err)
	}
}

// A host has so many alarms a day of any kind, and one that there were more.
func TestAlarmsOfStoredRecordsAreLimited(t *testing.T) {
	s := open(t, t.TempDir())
	c := chaintest.New("c1")
	for i := range 10_100 {
		c.Add(events.Lifecycle, "", "", []byte{byte(i)}) // no event
	}
	got := add(t, s, messages("bad", c.All())...)
	if len(got) != 10_001 || !strings.HasPrefix(got[10_000], "limit ") {
		t.Errorf("%d alarms, the last %q", len(got), got[len(got)-1])
	}
	// Others have theirs, and the silence of this one is told.
	if got := add(t, s, messages("good", c.All()[:1])...); len(got) != 1 {
		t.Error(got)
	}
	if as, err := s.Silent(t.Context(), recorder.Head{Host: "bad", Chain: "c1", Seq: c.Last()}, time.Now().Add(-time.Hour)); err != nil || len(as) != 1 {
		t.Error(as, err)
	}
}

// What a log lacks for long is a fault: it was put back, with the store, and something
// else stored behind.
func TestWhatTheLogLacksForLong(t *testing.T) {
	for name, c := range map[string]struct {
		ago  time.Duration
		ms   []recorder.Message
		want int
	}{
		"a transcript, new":      {time.Minute, messages("h1", spoken("s-9").All()), 0},
		"a transcript, long ago": {time.Hour, messages("h1", spoken("s-9").All()), 1},
		"an alarm, new":          {time.Minute, []recorder.Message{{Host: "h1", Err: os.ErrInvalid}}, 0},
		"an alarm, long ago":     {time.Hour, []recorder.Message{{Host: "h1", Err: os.ErrInvalid}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := kept(t, dir)
			logAll(t, dir, s, follow.Options{})
			if _, _, err := s.Add(t.Context(), c.ms, time.Now().Add(-c.ago)); err != nil {
				t.Fatal(err)
			}
			r, err := verifyLogged(t, dir, recorder.Logged{})
			if err != nil || len(r.Faults) != c.want || c.want == 1 && r.Faults[0].What != "unlogged" || r.Log.Unlogged == 0 {
				t.Errorf("%+v %+v %v", r.Faults, r.Log, err)
			}
			logAll(t, dir, s, follow.Options{})
			if r, err := verifyLogged(t, dir, recorder.Logged{}); err != nil || len(r.Faults) != 0 {
				t.Errorf("logged: %+v %v", r.Faults, err)
			}
		})
	}
}
