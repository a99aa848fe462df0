package recorder_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/recorder"
)

func messages(host string, rs []events.Record) []recorder.Message {
	out := make([]recorder.Message, len(rs))
	for i, r := range rs {
		out[i] = recorder.Message{Host: host, Record: r}
	}
	return out
}

func chain(id string, n int) *chaintest.Chain {
	c := chaintest.New(id)
	for i := range n {
		c.Add(0, "postgres", "s-1", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Number: uint64(i), Time: time.Unix(int64(i), 0), Data: []byte(strings.Repeat("row ", i%300))}))
	}
	return c
}

func open(t *testing.T, dir string) *recorder.SQLite {
	t.Helper()
	s, err := recorder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func add(t *testing.T, s recorder.Store, ms ...recorder.Message) (alarms []string) {
	t.Helper()
	_, as, err := s.Add(context.Background(), ms, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range as {
		alarms = append(alarms, fmt.Sprintf("%s %d", a.What, a.Seq))
	}
	return alarms
}

// raw edits a store behind the recorder's back, as an insider would.
func raw(t *testing.T, dir string, queries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func verify(t *testing.T, dir string, expect ...recorder.Head) recorder.Report {
	t.Helper()
	s, err := recorder.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rep, err := recorder.Verify(context.Background(), s, expect)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestVerifyNamesTheRecord edits a sound store in every way that a row can be
// edited, and wants the first record named that is not what it was.
func TestVerifyNamesTheRecord(t *testing.T) {
	defer goleak.VerifyNone(t)
	evil := events.Record{Chain: "c1", Seq: 41, Kind: events.Alarm, Payload: []byte("{}")}
	evil.Prev = chain("c1", 40).All()[39].Hash
	evil.Hash = evil.Sum()
	shift := func(op string) string { // all from 41 on, one place up or down
		return `UPDATE records SET seq = -seq WHERE seq >= 41; UPDATE records SET seq = -seq ` + op + ` 1 WHERE seq < 0`
	}
	for name, c := range map[string]struct {
		edit string
		want string // "seq what", "" for sound
	}{
		"untouched":             {``, ``},
		"payload":               {`UPDATE records SET payload = x'00', packed = 0 WHERE seq = 41`, "41 changed"},
		"packed payload":        {`UPDATE records SET payload = x'28b52ffd' WHERE seq = 290`, "290 changed"},
		"session":               {`UPDATE records SET session = 's-2' WHERE seq = 41`, "41 changed"},
		"protocol":              {`UPDATE records SET protocol = '' WHERE seq = 41`, "41 changed"},
		"kind":                  {`UPDATE records SET kind = 3 WHERE seq = 41`, "41 changed"},
		"hash":                  {`UPDATE records SET hash = zeroblob(32) WHERE seq = 41`, "41 changed"},
		"prev":                  {`UPDATE records SET prev = zeroblob(32) WHERE seq = 41`, "41 changed"},
		"first":                 {`DELETE FROM records WHERE seq = 1`, "1 removed"},
		"middle":                {`DELETE FROM records WHERE seq = 41`, "41 removed"},
		"run":                   {`DELETE FROM records WHERE seq BETWEEN 41 AND 60`, "41 removed"},
		"middle, closed up":     {`DELETE FROM records WHERE seq = 40; ` + shift("-"), "40 removed"},
		"tail":                  {`DELETE FROM records WHERE seq > 290`, "291 cut"},
		"swapped":               {`UPDATE records SET seq = -1 WHERE seq = 41; UPDATE records SET seq = 41 WHERE seq = 42; UPDATE records SET seq = 42 WHERE seq = -1`, "41 reordered"},
		"swapped far":           {`UPDATE records SET seq = -1 WHERE seq = 41; UPDATE records SET seq = 41 WHERE seq = 142; UPDATE records SET seq = 142 WHERE seq = -1`, "41 reordered"},
		"inserted":              {shift("+") + `; ` + insert(evil), "41 inserted"},
		"appended":              {strings.Replace(insert(evil), ",41,", ",301,", 1), "301 inserted"},
		"replaced, hash fitted": {`DELETE FROM records WHERE seq = 41; ` + insert(evil), "41 changed"},
		"chain unlisted":        {`DELETE FROM chains`, "1 inserted"},
		"everything":            {`DELETE FROM records`, "1 cut"},
		"another chain":         {strings.Replace(insert(evil), "'c1'", "'c9'", 1), "1 removed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if alarms := add(t, s, messages("h1", chain("c1", 300).All())...); alarms != nil {
				t.Fatal(alarms)
			}
			s.Close()
			raw(t, dir, c.edit)
			rep := verify(t, dir)
			got := ""
			for _, f := range rep.Faults {
				got += fmt.Sprintf("%d %s", f.Seq, f.What)
			}
			if got != c.want {
				t.Errorf("found %q, want %q: %+v", got, c.want, rep.Faults)
			}
		})
	}
}

func insert(r events.Record) string {
	return fmt.Sprintf(`INSERT INTO records VALUES ('h1','%s',%d,%d,'','',x'%x',x'%x',0,x'%s')`, r.Chain, r.Seq, r.Kind, r.Prev, r.Hash, hex.EncodeToString(r.Payload))
}

func TestVerifyAgainstANotedHead(t *testing.T) {
	dir, c := t.TempDir(), chain("c1", 50)
	s := open(t, dir)
	add(t, s, messages("h1", c.All()[:40])...)
	rs := c.All()
	head := func(seq int) recorder.Head {
		return recorder.Head{Host: "h1", Chain: "c1", Seq: uint64(seq), Hash: rs[seq-1].Hash}
	}
	if rep := verify(t, dir, head(40), head(7)); len(rep.Faults) != 0 {
		t.Errorf("sound: %v", rep.Faults)
	}
	if rep := verify(t, dir, head(50)); len(rep.Faults) != 1 || rep.Faults[0].What != "cut" || rep.Faults[0].Seq != 41 {
		t.Errorf("cut: %v", rep.Faults)
	}
	// A chain made anew from record 31 on is whole in itself.
	forged := chaintest.New("c1")
	for _, r := range rs[:30] {
		forged.Add(r.Kind, r.Protocol, r.Session, r.Payload)
	}
	for range 10 {
		forged.Add(events.Alarm, "", "", []byte("{}"))
	}
	dir = t.TempDir()
	add(t, open(t, dir), messages("h1", forged.All())...)
	if rep := verify(t, dir); len(rep.Faults) != 0 {
		t.Errorf("whole in itself: %v", rep.Faults)
	}
	if rep := verify(t, dir, head(40)); len(rep.Faults) != 1 || rep.Faults[0].Seq != 40 {
		t.Errorf("forged: %v", rep.Faults)
	}
	if rep := verify(t, dir, recorder.Head{Host: "h2", Chain: "c2", Seq: 1}); len(rep.Faults) != 1 || rep.Faults[0].What != "removed" {
		t.Errorf("a chain that is gone: %v", rep.Faults)
	}
}
