package recorder_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/recorder"
)

func heads(t *testing.T, s recorder.Store) (out []string) {
	t.Helper()
	hs, err := s.Heads(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		out = append(out, fmt.Sprintf("%s/%s %d", h.Host, h.Chain, h.Seq))
	}
	return out
}

func TestAddIsIdempotentInAnyOrder(t *testing.T) {
	dir, rs := newStore(t), chain("c1", 200).All()
	s := open(t, dir)
	ms := messages("h1", rs)
	rand.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	for part := range slices.Chunk(append(slices.Clone(ms), ms[:50]...), 7) {
		if alarms := add(t, s, part...); alarms != nil {
			t.Fatal(alarms)
		}
	}
	if alarms := add(t, s, messages("h1", rs)...); alarms != nil {
		t.Fatal(alarms)
	}
	if alarms, err := s.Settle(context.Background(), time.Now().Add(time.Hour)); err != nil || alarms != nil {
		t.Fatal(alarms, err)
	}
	if rep := verify(t, dir); len(rep.Faults) != 0 || rep.Chains[0].Records != 200 || rep.Chains[0].Waiting != 0 {
		t.Fatalf("%+v", rep)
	}
	if got := heads(t, s); !slices.Equal(got, []string{"h1/c1 200"}) {
		t.Fatal(got)
	}
}

func TestAlarms(t *testing.T) {
	rs := chain("c1", 20).All()
	fake := func(seq uint64, prev [32]byte) events.Record {
		r := events.Record{Chain: "c1", Seq: seq, Kind: events.Alarm, Payload: []byte("x"), Prev: prev}
		r.Hash = r.Sum()
		return r
	}
	changed := rs[10]
	changed.Payload = []byte("another")
	for name, c := range map[string]struct {
		first int // so many records are stored
		then  events.Record
		want  string
	}{
		"changed payload":        {10, changed, "changed 11"},
		"another record 5":       {10, fake(5, rs[3].Hash), "forked 5"},
		"does not follow":        {10, fake(11, rs[3].Hash), "unlinked 11"},
		"a first that follows":   {0, fake(1, rs[3].Hash), "unlinked 1"},
		"another chain":          {10, chain("c2", 1).All()[0], "second-chain 1"},
		"another chain's middle": {10, chain("c2", 9).All()[8], "second-chain 9"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			add(t, s, messages("h1", rs[:c.first])...)
			if got := add(t, s, recorder.Message{Host: "h1", Record: c.then}); !slices.Equal(got, []string{c.want}) {
				t.Errorf("alarms %q, want %q", got, c.want)
			}
			if got := add(t, s, recorder.Message{Host: "h1", Record: c.then}); got != nil {
				t.Errorf("again: %q", got)
			}
			// The chain goes on with the true records.
			if got := add(t, s, messages("h1", rs)...); got != nil && name[:7] != "another" {
				t.Errorf("afterwards: %q", got)
			}
			if rep := verify(t, dir); len(rep.Faults) != 0 || len(rep.Alarms) == 0 {
				t.Errorf("%+v", rep)
			}
		})
	}
}

func TestGapIsAnAlarmAndStopsTheHead(t *testing.T) {
	dir, rs := newStore(t), chain("c1", 30).All()
	s, ctx := open(t, dir), context.Background()
	add(t, s, messages("h1", append(slices.Clone(rs[:10]), rs[12:20]...))...)
	if alarms, err := s.Settle(ctx, time.Now().Add(-time.Minute)); err != nil || alarms != nil {
		t.Fatal("too early", alarms, err)
	}
	alarms, err := s.Settle(ctx, time.Now().Add(time.Minute))
	if err != nil || len(alarms) != 1 || alarms[0].What != "gap" || alarms[0].Seq != 11 || alarms[0].Detail != "records 11 to 12 are missing" {
		t.Fatal(alarms, err)
	}
	add(t, s, messages("h1", rs[20:])...)
	if got := heads(t, s); !slices.Equal(got, []string{"h1/c1 10"}) {
		t.Fatal("a receipt would let the host forget what is missing here: ", got)
	}
	if rep := verify(t, dir); len(rep.Faults) != 1 || rep.Faults[0].Seq != 11 || rep.Faults[0].What != "removed" || rep.Chains[0].Last != 30 {
		t.Fatalf("%+v", rep)
	}
	if got := add(t, s, messages("h1", rs[10:12])...); !slices.Equal(got, []string{"late 11", "late 12"}) {
		t.Fatal(got)
	}
	if got := heads(t, s); !slices.Equal(got, []string{"h1/c1 30"}) {
		t.Fatal(got)
	}
	if rep := verify(t, dir); len(rep.Faults) != 0 {
		t.Fatalf("%+v", rep)
	}
}

func TestUnreadableIsKeptAsAnAlarm(t *testing.T) {
	s := open(t, newStore(t))
	m := recorder.Message{Host: "h1", Err: fmt.Errorf("no sequence number"), Record: events.Record{Payload: []byte("?")}}
	if got := add(t, s, m, m); !slices.Equal(got, []string{"unreadable 0"}) {
		t.Fatal(got)
	}
}

func TestTwoHostsDoNotMix(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	a, b := chaintest.New("c"), chaintest.New("c") // even with one chain id
	for i := range 10 {
		a.Add(events.Lifecycle, "", "", fmt.Appendf(nil, "a%d", i))
		b.Add(events.Lifecycle, "", "", fmt.Appendf(nil, "b%d", i))
	}
	add(t, s, append(messages("a", a.All()), messages("b", b.All())...)...)
	if got := heads(t, s); !slices.Equal(got, []string{"a/c 10", "b/c 10"}) {
		t.Fatal(got)
	}
}
