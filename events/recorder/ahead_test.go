package recorder_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/recorder"
)

// Records that wait in a block that was damaged are an alarm, and missing: the
// other chains go on, and so does theirs once the records come again.
func TestDamageOfWhatWaits(t *testing.T) {
	rs, good := chain("c1", 30).All(), chain("c2", 5).All()
	for name, c := range map[string]struct {
		damage  string
		fill    bool     // records 11 and 12 come
		added   []string // alarms then
		settled []string // alarms of what waited for too long
		again   []string // of the true records
	}{
		"bodies, reached in order": {
			`UPDATE ahead SET bodies = x'00' WHERE first = 13`, true,
			[]string{"damaged 13"},
			[]string{"gap 13"},
			late(13, 22),
		},
		"bodies, waited for too long": {
			`UPDATE ahead SET bodies = x'00' WHERE first = 13`, false,
			nil,
			[]string{"damaged 13", "gap 11"},
			late(11, 22),
		},
		"heads": {
			`UPDATE ahead SET heads = x'01' WHERE first = 13`, false,
			nil,
			[]string{"damaged 13", "gap 11"},
			late(11, 22),
		},
		"the second": {
			`UPDATE ahead SET bodies = x'00' WHERE first = 23`, false,
			nil,
			[]string{"gap 11", "damaged 23"},
			late(11, 12),
		},
		"both": {
			`UPDATE ahead SET bodies = x'00'`, false,
			nil,
			[]string{"damaged 13", "damaged 23"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			for _, part := range [][2]int{{0, 10}, {12, 20}, {22, 30}} {
				add(t, s, messages("bad", rs[part[0]:part[1]])...)
			}
			raw(t, dir, c.damage)
			next := messages("good", good)
			if c.fill {
				next = append(next, messages("bad", rs[10:12])...)
			}
			if got := add(t, s, next...); !slices.Equal(got, c.added) {
				t.Errorf("added: %q, want %q", got, c.added)
			}
			if got := settle(t, s); !slices.Equal(got, c.settled) {
				t.Errorf("settled: %q, want %q", got, c.settled)
			}
			if got := heads(t, s); len(got) != 2 || got[0] == "bad/c1 30" || got[1] != "good/c2 5" {
				t.Errorf("a receipt would let the host forget what can't be read: %q", got)
			}
			if got := settle(t, s); got != nil {
				t.Errorf("settled again: %q", got)
			}
			if got := add(t, s, messages("bad", rs)...); !slices.Equal(got, c.again) {
				t.Errorf("again: %q, want %q", got, c.again)
			}
			if got := heads(t, s); !slices.Equal(got, []string{"bad/c1 30", "good/c2 5"}) {
				t.Error(got)
			}
			if rep := verify(t, dir); len(rep.Faults) != 0 {
				t.Errorf("%+v", rep.Faults)
			}
		})
	}
}

func settle(t *testing.T, s recorder.Store) (alarms []string) {
	t.Helper()
	as, err := s.Settle(t.Context(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range as {
		alarms = append(alarms, fmt.Sprintf("%s %d", a.What, a.Seq))
	}
	return alarms
}

func late(from, to int) (alarms []string) {
	for ; from <= to; from++ {
		alarms = append(alarms, fmt.Sprintf("late %d", from))
	}
	return alarms
}
