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
	"sallyport.dev/sallyport/events/recorder/follow"
)

// What keeps the alarm of missing signatures from being raised is named: nothing else
// of the store is made of it.
func TestVerifyHoldsWhatIsNotedOfSignatures(t *testing.T) {
	key := hostKey(1)
	for edit, want := range map[string]string{
		``: ``,
		`UPDATE signers SET due = 9223372036854775807`:                                            "altered",
		`UPDATE signers SET since = 9223372036854775806`:                                          "altered",
		`UPDATE signers SET due = 9223372036854775806`:                                            "altered",
		`UPDATE signers SET since = -1`:                                                           "altered",
		`UPDATE signers SET seq = 5000`:                                                           "altered",
		`UPDATE signers SET chain = 'c9'`:                                                         "altered",
		`INSERT INTO signers SELECT 'h9', chain, key, seq, since, due FROM signers`:               "altered",
		`UPDATE signers SET since = 9223372036854775806, seq = 1; UPDATE chains SET head_seq = 1`: "inserted",
	} {
		dir := newStore(t)
		s := open(t, dir)
		add(t, s, messages("h1", told("c1", key, 5).All())...)
		s.Close()
		if edit != `` {
			raw(t, dir, edit)
		}
		got := ""
		if rep := verify(t, dir); len(rep.Faults) > 0 {
			got = rep.Faults[0].What
		}
		if got != want {
			t.Errorf("%s: found %q, want %q", edit, got, want)
		}
	}
}

// A time to come, that a clock which was put back or an edit left, holds no alarm up.
func TestUnsignedThoughSinceATimeToCome(t *testing.T) {
	s := open(t, newStore(t))
	c := told("c1", hostKey(1), 1)
	now := time.Now()
	at := func(d time.Duration, rs ...events.Record) (alarms []string) {
		t.Helper()
		_, as, err := s.Add(t.Context(), messages("h1", rs), now.Add(d))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range as {
			alarms = append(alarms, a.What)
		}
		return alarms
	}
	n := len(c.All())
	at(0, c.All()...)
	for i := range 4 {
		says(c, now, events.Lifecycle, fmt.Sprint(i))
	}
	rs := c.All()[n:]
	at(365*24*time.Hour, rs[0]) // a clock that is wrong, and put right
	var alarms []string
	for i, d := range []time.Duration{time.Minute, 12 * time.Minute, 15 * time.Minute} {
		alarms = append(alarms, at(d, rs[i+1])...)
	}
	if got := strings.Join(alarms, " "); got != "unsigned" {
		t.Errorf("alarms: %q", got)
	}
}

// The log's own files are part of the evidence: without them it proves nothing to others.
func TestVerifyHoldsTheFilesOfTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	for _, m := range messages("h1", chain("c1", 260).All()) { // more than a tile has
		add(t, s, m)
	}
	logAll(t, dir, s, follow.Options{})
	s.Close()
	if rep, err := verifyLogged(t, dir, recorder.Logged{All: true}); err != nil || len(rep.Faults) > 0 || rep.Log.Size != 260 {
		t.Fatalf("%+v %v", rep, err)
	}
	for i, name := range []string{"tile/0/000", "tile/0/001.p/4", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/4"} {
		file := filepath.Join(recorder.LogFolder(dir), name)
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for how, edit := range map[string]func() error{
			"removed":   func() error { return os.Remove(file) },
			"cut":       func() error { return os.WriteFile(file, was[:len(was)-1], 0o644) },
			"changed":   func() error { return os.WriteFile(file, append([]byte{was[0] ^ 1}, was[1:]...), 0o644) },
			"emptied":   func() error { return os.WriteFile(file, nil, 0o644) },
			"exchanged": func() error { return os.WriteFile(file, []byte(strings.Repeat("x", len(was))), 0o644) },
		} {
			if i > 0 && how != "removed" && how != "changed" {
				continue // one file is enough for all the ways
			}
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := edit(); err != nil {
				t.Fatal(err)
			}
			if rep, err := verifyLogged(t, dir, recorder.Logged{}); err != nil || faults(rep) != "0 changed" {
				t.Errorf("%s %s: %v %v", name, how, rep.Faults, err)
			}
			if err := os.WriteFile(file, was, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
