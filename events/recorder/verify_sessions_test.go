package recorder_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

func faults(rep recorder.Report) string {
	var out []string
	for _, f := range rep.Faults {
		out = append(out, fmt.Sprintf("%d %s", f.Seq, f.What))
	}
	return strings.Join(out, ", ")
}

// What sessions ls reads is held against the records: an insider who edits a
// line of the list, and leaves all records alone, is found.
func TestVerifyHoldsTheListAgainstTheRecords(t *testing.T) {
	for edit, want := range map[string]string{
		``: ``,
		`UPDATE sessions SET principal = 'dr.white' WHERE session = 'aaa-1'`:                  "1 misstated",
		`UPDATE sessions SET workload = '' WHERE session = 'aaa-1'`:                           "1 misstated",
		`UPDATE sessions SET actor = 'x', resource = 'y' WHERE session = 'bbb-1'`:             "14 misstated",
		`UPDATE sessions SET destination = '10.0.0.6:5432' WHERE session = 'aaa-1'`:           "1 misstated",
		`UPDATE sessions SET "user" = 'root' WHERE session = 'aaa-1'`:                         "1 misstated",
		`UPDATE sessions SET refused = 0 WHERE session = 'aaa-1'`:                             "1 misstated",
		`UPDATE sessions SET masked = 0, verdicts = verdicts & ~4 WHERE session = 'aaa-1'`:    "1 misstated",
		`UPDATE sessions SET verdicts = 0 WHERE session = 'aaa-1'`:                            "1 misstated",
		`UPDATE sessions SET rows = 4 WHERE session = 'aaa-1'`:                                "1 misstated",
		`UPDATE sessions SET statements = 2 WHERE session = 'aaa-1'`:                          "1 misstated",
		`UPDATE sessions SET opened = opened - 86400000000000 WHERE session = 'aaa-1'`:        "1 misstated",
		`UPDATE sessions SET closed = 0 WHERE session = 'aaa-1'`:                              "1 misstated",
		`UPDATE sessions SET status = 'error' WHERE session = 'aaa-1'`:                        "1 misstated",
		`UPDATE sessions SET number = 7 WHERE session = 'aaa-1'`:                              "1 misstated",
		`UPDATE sessions SET verdict = 'block' WHERE session = 'aaa-1'`:                       "1 misstated",
		`INSERT INTO subjects VALUES ('patient', x'00000000000000000000000000000000', 99, 1)`: "0 invented",
		`UPDATE sessions SET protocol = 'mysql' WHERE session = 'bbb-1'`:                      "14 misstated",
		`DELETE FROM sessions WHERE session = 'bbb-1'`:                                        "14 hidden",
		`UPDATE sessions SET host = 'h2' WHERE session = 'bbb-1'`:                             "14 hidden, 0 invented",
		`INSERT INTO sessions SELECT 99, host, 'ccc', protocol, resource, destination, workload, actor, 'dr.white', user, db, opened, closed, status, statements, masked, refused, rows, verdicts, number, verdict FROM sessions WHERE session = 'aaa-1'`:                                              "0 invented",
		`INSERT INTO sessions SELECT 99, host, 'ccc', protocol, resource, destination, workload, actor, 'dr.white', user, db, opened, closed, status, statements, masked, refused, rows, verdicts, number, verdict FROM sessions WHERE session = 'aaa-1'; INSERT INTO spans VALUES (99, 'c1', 1, 100)`: "0 invented",
		`UPDATE spans SET last = 5000`: ``, // which leads to no other record
		`UPDATE spans SET last = 5000; UPDATE sessions SET rows = 4 WHERE session = 'aaa-1'`: "1 misstated",
	} {
		dir := newStore(t)
		s := open(t, dir)
		h := newHost("c1")
		work(h, "aaa-1")
		first := h.Last()
		work(h, "bbb-1")
		if first != 13 {
			t.Fatal(first)
		}
		for m := range slices.Chunk(messages("h1", h.All()), 4) { // as they come, not all at once
			add(t, s, m...)
		}
		s.Close()
		raw(t, dir, edit)
		if got := faults(verify(t, dir)); got != want {
			t.Errorf("%s: found %q, want %q", edit, got, want)
		}
	}
}

// Records that came late, and those that cannot be read, leave lists that Verify
// takes for sound, and those that were edited it does not.
func TestVerifyListAfterLateRecords(t *testing.T) {
	h := newHost("c1")
	work(h, "aaa-1")
	h.Add(events.Statement, "postgres", "bad-1", []byte("{"))
	all := messages("h1", h.All())
	for missing := range all {
		dir := newStore(t)
		s := open(t, dir)
		add(t, s, slices.Delete(slices.Clone(all), missing, missing+1)...)
		settle(t, s)
		add(t, s, all[missing])
		if got := faults(verify(t, dir)); got != "" {
			t.Errorf("record %d late: %s", missing+1, got)
		}
		for _, edit := range [][2]string{
			{`principal = 'dr.white'`, `principal = 'dr.grey'`},
			{`principal = 'triage-bot'`, `principal = 'dr.grey'`}, // which a record says of another thing
			{`statements = statements - 1`, `statements = statements + 1`},
			{`closed = closed - 1`, `closed = closed + 1`},
		} {
			raw(t, dir, `UPDATE sessions SET `+edit[0]+` WHERE session = 'aaa-1'`)
			if got := faults(verify(t, dir)); got != "1 misstated" {
				t.Errorf("record %d late, %s: %q", missing+1, edit[0], got)
			}
			raw(t, dir, `UPDATE sessions SET `+edit[1]+` WHERE session = 'aaa-1'`)
		}
	}
}

// An alarm that was removed, changed or made up is found; the newest too, where
// its number was noted.
func TestVerifyFollowsTheAlarms(t *testing.T) {
	var noted recorder.Report
	for _, c := range []struct{ edit, want, noted string }{
		{``, "", ""},
		{`DELETE FROM alarms WHERE id = 2`, "12 removed", "12 removed"},
		{`DELETE FROM alarms WHERE id = 1`, "11 removed", "11 removed"},
		{`DELETE FROM alarms`, "0 removed", "0 removed"},
		{`DELETE FROM alarms WHERE id = 4`, "0 removed", "0 removed"},
		{`DELETE FROM alarms WHERE id = 4; UPDATE ends SET alarm = 3`, "0 changed", "0 changed"},
		{`DELETE FROM alarms WHERE id = 4; UPDATE ends SET alarm = 3, alarm_link = (SELECT link FROM alarms WHERE id = 3)`, "", "0 removed"},
		{`DELETE FROM alarms; UPDATE ends SET alarm = 0, alarm_link = x''`, "", "0 removed"},
		{`DELETE FROM ends`, "10 inserted", "10 inserted"},
		{`UPDATE alarms SET detail = '' WHERE id = 2`, "11 changed", "11 changed"},
		{`UPDATE alarms SET host = 'h2' WHERE id = 2`, "11 changed", "11 changed"},
		{`UPDATE alarms SET payload = x'00' WHERE id = 2`, "11 changed", "11 changed"},
		{`UPDATE alarms SET payload = x'' WHERE id = 2`, "11 changed", "11 changed"},
		{`UPDATE alarms SET time = time + 1 WHERE id = 2`, "11 changed", "11 changed"},
		{`UPDATE alarms SET id = 9 WHERE id = 4; UPDATE alarms SET id = 4 WHERE id = 3; UPDATE alarms SET id = 3 WHERE id = 9`, "13 changed", "13 changed"},
		{`INSERT INTO alarms SELECT 5, time, host, chain, 77, what, detail, hash, payload, body, link FROM alarms WHERE id = 4`, "77 inserted", "77 inserted"},
	} {
		dir := newStore(t)
		s := open(t, dir)
		rs := chain("c1", 20).All()
		for i := range 4 {
			bad := rs[9+i]
			bad.Payload = []byte("another")
			add(t, s, recorder.Message{Host: "h1", Record: bad})
		}
		s.Close()
		if c.edit == "" {
			noted = verify(t, dir)
			if noted.Alarm.ID != 4 || len(noted.Alarms) != 4 {
				t.Fatalf("%+v", noted)
			}
		}
		raw(t, dir, c.edit)
		rep := verify(t, dir)
		if got := faults(rep); got != c.want {
			t.Errorf("%s: found %q, want %q: %v", c.edit, got, c.want, rep.Faults)
		}
		r, err := recorder.OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		// The hashes are of the time: only the number can be noted from another store.
		last := recorder.AlarmHead{ID: 4, Hash: rep.Alarm.Hash}
		rep, err = recorder.Verify(t.Context(), r, recorder.Noted{Alarm: &last})
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := faults(rep); got != c.noted {
			t.Errorf("%s: noted: found %q, want %q", c.edit, got, c.noted)
		}
	}
}

// Alarms are read page by page, and what one host can make of them is bounded:
// its true records are stored all the same.
func TestAlarmsArePagedAndBounded(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	var flood []recorder.Message
	for i := range 10_050 {
		m := recorder.Message{Host: "bad", Err: fmt.Errorf("no"), Record: events.Record{Payload: []byte("?")}}
		copy(m.Record.Hash[:], fmt.Sprint(i))
		flood = append(flood, m)
	}
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for part := range slices.Chunk(flood, 4000) {
		if _, _, err := s.Add(t.Context(), part, now); err != nil {
			t.Fatal(err)
		}
	}
	if got := add(t, s, messages("bad", chain("c1", 5).All())...); got != nil {
		t.Error(got)
	}
	var ids []int64
	var last recorder.Alarm
	for {
		var after int64
		if n := len(ids); n > 0 {
			after = ids[n-1]
		}
		page, err := s.Alarms(t.Context(), after, 3000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		if len(page) > 3000 {
			t.Fatal(len(page))
		}
		for _, a := range page {
			ids, last = append(ids, a.ID), a
		}
	}
	if len(ids) != 10_001 || !slices.IsSorted(ids) || last.What != "limit" || last.Host != "bad" {
		t.Fatalf("%d alarms, the last %+v", len(ids), last)
	}
	// The next day has its own.
	if _, as, err := s.Add(t.Context(), flood[10_040:10_041], now.Add(24*time.Hour)); err != nil || len(as) != 1 {
		t.Error(as, err)
	}
	rep := verify(t, dir)
	if faults(rep) != "" || len(rep.Alarms) != 1000 || rep.Alarm.ID != 10_002 || rep.Alarms[999].ID != 10_002 {
		b, _ := json.Marshal(rep.Alarm)
		t.Errorf("%s, %d alarms, %s", faults(rep), len(rep.Alarms), b)
	}
}

// A block whose head was damaged stops nobody: what may be in it is kept apart,
// and what is not in it is stored.
func TestDamagedHeadDoesNotStopAdd(t *testing.T) {
	for _, damage := range []string{
		`UPDATE blocks SET heads = x'01' WHERE first = 1`,
		`UPDATE blocks SET heads = x'' WHERE first = 1`,
		`UPDATE blocks SET heads = x'01', last = -1 WHERE first = 1`,
	} {
		dir := newStore(t)
		s := open(t, dir)
		rs, good := chain("c1", 40).All(), chain("c2", 5).All()
		add(t, s, messages("bad", rs[:10])...)
		add(t, s, messages("bad", append(slices.Clone(rs[12:20]), rs[22:30]...))...)
		settle(t, s)
		raw(t, dir, damage)
		// One that may be in the damaged block, those that are missing beside it, and others.
		batch := append(messages("bad", rs[4:5]), messages("bad", rs[10:12])...)
		batch = append(batch, messages("bad", rs[20:22])...)
		batch = append(batch, messages("bad", rs[30:])...)
		got := add(t, s, append(batch, messages("good", good)...)...)
		if strings.HasSuffix(damage, "= -1 WHERE first = 1") {
			if len(got) == 0 {
				t.Error("nothing is said")
			}
		} else if want := []string{"damaged 5", "late 11", "late 12", "late 21", "late 22"}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", damage, got, want)
		}
		if hs := heads(t, s); !slices.Contains(hs, "good/c2 5") {
			t.Error(hs)
		}
		rep := verify(t, dir)
		if len(rep.Faults) != 1 || rep.Faults[0].Seq > 1 {
			t.Errorf("%+v", rep.Faults)
		}
	}
}
