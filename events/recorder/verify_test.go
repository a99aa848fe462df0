package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func open(t *testing.T, dir string) *recorder.DB {
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
	db, err := recorder.Connect(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range queries {
		if recorder.IsURL(dir) {
			q = strings.NewReplacer(" x'", ` '\x`, "AS BLOB", "AS BYTEA", "zeroblob(32)", "decode(repeat('00', 32), 'hex')", "replace(payload,", "replace(convert_from(payload, 'UTF8'),").Replace(q)
		}
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
	rep, err := recorder.Verify(context.Background(), s, recorder.Noted{Heads: expect})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// rewrite edits the records of a store's only chain behind the recorder's back,
// as an insider would who has the format in hand.
func rewrite(t *testing.T, dir string, edit func([]events.Record) []events.Record) {
	t.Helper()
	db, err := recorder.Connect(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT chain, first, heads, bodies FROM blocks ORDER BY chain, first`)
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Record
	for rows.Next() {
		var chain string
		var first uint64
		var heads, bodies []byte
		if err := rows.Scan(&chain, &first, &heads, &bodies); err != nil {
			t.Fatal(err)
		}
		rs, err := recorder.ReadBlock(chain, first, heads, bodies)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rs...)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`DELETE FROM blocks`); err != nil {
		t.Fatal(err)
	}
	all = edit(all)
	for len(all) > 0 {
		n := 1
		for n < len(all) && n < 50 && all[n].Seq == all[n-1].Seq+1 && all[n].Chain == all[0].Chain {
			n++
		}
		heads, bodies := recorder.Block(all[:n])
		if _, err := db.Exec(`INSERT INTO blocks VALUES ('h1', ?, ?, ?, ?, ?)`, all[0].Chain, all[0].Seq, all[n-1].Seq, heads, bodies); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
}

// TestVerifyNamesTheRecord edits a sound store in every way that a record and a
// row can be edited, and wants the first record named that is not what it was.
func TestVerifyNamesTheRecord(t *testing.T) {
	defer goleak.VerifyNone(t)
	evil := events.Record{Chain: "c1", Seq: 41, Kind: events.Alarm, Payload: []byte("{}")}
	evil.Prev = chain("c1", 40).All()[39].Hash
	evil.Hash = evil.Sum()
	one := func(seq int, edit func(*events.Record)) func([]events.Record) []events.Record {
		return func(rs []events.Record) []events.Record { edit(&rs[seq-1]); return rs }
	}
	without := func(from, to int) func([]events.Record) []events.Record {
		return func(rs []events.Record) []events.Record { return slices.Delete(rs, from-1, to) }
	}
	shift := func(rs []events.Record, by uint64) { // one place up or down
		for i := range rs {
			rs[i].Seq += by
		}
	}
	swap := func(x, y int) func([]events.Record) []events.Record {
		return func(rs []events.Record) []events.Record {
			rs[x-1], rs[y-1] = rs[y-1], rs[x-1]
			rs[x-1].Seq, rs[y-1].Seq = uint64(x), uint64(y)
			return rs
		}
	}
	for name, c := range map[string]struct {
		sql  string
		edit func([]events.Record) []events.Record
		want string // "seq what", "" for sound
	}{
		"untouched":                     {``, nil, ``},
		"written anew":                  {``, func(rs []events.Record) []events.Record { return rs }, ``},
		"payload":                       {``, one(41, func(r *events.Record) { r.Payload = []byte{0} }), "41 changed"},
		"last payload":                  {``, one(300, func(r *events.Record) { r.Payload = nil }), "300 changed"},
		"session":                       {``, one(41, func(r *events.Record) { r.Session = "s-2" }), "41 changed"},
		"protocol":                      {``, one(41, func(r *events.Record) { r.Protocol = "" }), "41 changed"},
		"kind":                          {``, one(41, func(r *events.Record) { r.Kind = 3 }), "41 changed"},
		"hash":                          {``, one(41, func(r *events.Record) { r.Hash = [32]byte{} }), "41 changed"},
		"prev":                          {``, one(41, func(r *events.Record) { r.Prev = [32]byte{} }), "41 changed"},
		"first":                         {``, without(1, 1), "1 removed"},
		"middle":                        {``, without(41, 41), "41 removed"},
		"run":                           {``, without(41, 60), "41 removed"},
		"a block":                       {`DELETE FROM blocks WHERE first = 51`, nil, "51 removed"},
		"bodies":                        {`UPDATE blocks SET bodies = x'28b52ffd' WHERE first = 51`, nil, "51 changed"},
		"more bodies":                   {`UPDATE blocks SET bodies = CAST(bodies || bodies AS BLOB) WHERE first = 51`, nil, "51 changed"},
		"other bodies":                  {`UPDATE blocks SET bodies = (SELECT bodies FROM blocks WHERE first = 101) WHERE first = 51`, nil, "51 changed"},
		"heads":                         {`UPDATE blocks SET heads = x'01' WHERE first = 51`, nil, "51 changed"},
		"heads cut":                     {`UPDATE blocks SET heads = substr(heads, 1, length(heads) - 1) WHERE first = 51`, nil, "51 changed"},
		"row's first":                   {`UPDATE blocks SET first = 52 WHERE first = 51`, nil, "51 removed"},
		"row's last":                    {`UPDATE blocks SET last = 99 WHERE first = 51`, nil, "51 changed"},
		"tail":                          {``, without(291, 300), "291 cut"},
		"tail of rows":                  {`DELETE FROM blocks WHERE first > 250`, nil, "251 cut"},
		"swapped":                       {``, swap(41, 42), "41 reordered"},
		"swapped far":                   {``, swap(41, 142), "41 reordered"},
		"rows swapped":                  {`UPDATE blocks SET first = -1 WHERE first = 51; UPDATE blocks SET first = 51, last = 100 WHERE first = 101; UPDATE blocks SET first = 101, last = 150 WHERE first = -1`, nil, "51 reordered"},
		"chain unlisted":                {`DELETE FROM chains`, nil, "1 inserted"},
		"everything":                    {`DELETE FROM blocks`, nil, "1 cut"},
		"receipt's hash":                {`UPDATE chains SET proved_seq = 51`, nil, "51 changed"},
		"receipt's number":              {`UPDATE chains SET proved_seq = 400`, nil, "301 cut"},
		"hidden":                        {`DELETE FROM spans`, nil, "1 hidden"},
		"hidden in part":                {`UPDATE spans SET last = last - 1 WHERE first = 51`, nil, "51 hidden"},
		"session renamed":               {`UPDATE sessions SET session = 'other'`, nil, "1 hidden"},
		"before the first":              {`INSERT INTO blocks SELECT host, chain, 0, 0, heads, bodies FROM blocks WHERE first = 51`, nil, "0 inserted"},
		"far before":                    {`INSERT INTO blocks SELECT host, chain, -70, 70, heads, bodies FROM blocks WHERE first = 51`, nil, "0 inserted"},
		"a second row":                  {`INSERT INTO blocks SELECT host, chain, 60, 60 + last - first, heads, bodies FROM blocks WHERE first = 51`, nil, "60 inserted"},
		"ends before it":                {`INSERT INTO blocks SELECT host, chain, 60, 2, heads, bodies FROM blocks WHERE first = 51`, nil, "60 inserted"},
		"ends before all":               {`INSERT INTO blocks SELECT host, chain, 60, -2, heads, bodies FROM blocks WHERE first = 51`, nil, "60 inserted"},
		"before the first, of no chain": {`INSERT INTO blocks SELECT host, 'c9', -5, -5, heads, bodies FROM blocks WHERE first = 51`, nil, "0 inserted"},
		"middle, closed up": {``, func(rs []events.Record) []events.Record {
			rs = slices.Delete(rs, 39, 40)
			shift(rs[39:], ^uint64(0))
			return rs
		}, "40 removed"},
		"inserted": {``, func(rs []events.Record) []events.Record {
			shift(rs[40:], 1)
			return slices.Insert(rs, 40, evil)
		}, "41 inserted"},
		"appended": {``, func(rs []events.Record) []events.Record {
			late := evil
			late.Seq = 301
			return append(rs, late)
		}, "301 inserted"},
		"replaced, hash fitted": {``, one(41, func(r *events.Record) { *r = evil }), "41 changed"},
		"another chain": {``, func(rs []events.Record) []events.Record {
			other := evil
			other.Chain = "c9"
			return append(rs, other)
		}, "1 removed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			for part := range slices.Chunk(chain("c1", 300).All(), 50) {
				if alarms := add(t, s, messages("h1", part)...); alarms != nil {
					t.Fatal(alarms)
				}
			}
			s.Close()
			raw(t, dir, c.sql)
			if c.edit != nil {
				rewrite(t, dir, c.edit)
			}
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

func TestVerifyAgainstANotedHead(t *testing.T) {
	dir, c := newStore(t), chain("c1", 50)
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
	dir = newStore(t)
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

// What was put in front of a chain is shown to nobody as a part of a session.
func TestRowsBeforeTheFirstAreNotShown(t *testing.T) {
	for _, ends := range []string{"0, 0", "0, 9", "-3, 0", "-3, 9"} {
		dir := newStore(t)
		s := open(t, dir)
		h := newHost("c1")
		work(h, "s-1")
		add(t, s, messages("h1", h.All())...)
		x, err := s.Find(t.Context(), "s-1")
		if err != nil {
			t.Fatal(err)
		}
		want, err := s.Show(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		evil := newHost("c1")
		evil.tell(events.Event{Kind: events.Statement, Session: newSession("s-1"), Number: 9, Verdict: events.Allow, Normalized: "SELECT 1"})
		forged := evil.All()
		forged[0].Seq = 0
		insertRow(t, dir, ends, forged)
		raw(t, dir, `UPDATE spans SET first = 0`)
		got, err := s.Show(t.Context(), x)
		if err != nil || len(got.Requests) != len(want.Requests) || len(got.Events) != len(want.Events) {
			t.Errorf("rows %s: %d requests, want %d: %v", ends, len(got.Requests), len(want.Requests), err)
		}
		if rep := verify(t, dir); len(rep.Faults) != 1 || rep.Faults[0].What != "inserted" {
			t.Errorf("rows %s: %+v", ends, rep.Faults)
		}
		if alarms := add(t, s, messages("h1", h.All())...); alarms != nil {
			t.Errorf("rows %s: %q", ends, alarms)
		}
	}
}

// insertRow puts a block into a store behind the recorder's back.
func insertRow(t *testing.T, dir, ends string, rs []events.Record) {
	t.Helper()
	heads, bodies := recorder.Block(rs)
	raw(t, dir, fmt.Sprintf(`INSERT INTO blocks VALUES ('h1', 'c1', %s, x'%x', x'%x')`, ends, heads, bodies))
}
