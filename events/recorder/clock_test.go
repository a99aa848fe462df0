package recorder_test

import (
	"context"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/recorder"
)

// Clocks that step by a day, the host's and the recorder's, either way, lose nothing,
// and are no alarm: the order of a chain is that of its numbers.
func TestClocksThatStepByADay(t *testing.T) {
	key := hostKey(1)
	for name, step := range map[string]time.Duration{"forward": 24 * time.Hour, "back": -24 * time.Hour} {
		for _, whose := range []string{"host", "recorder", "both"} {
			dir, c := t.TempDir(), chaintest.New("c1")
			s := open(t, dir)
			for i := range 40 { // half a minute each
				at := noon.Add(time.Duration(i) * 30 * time.Second)
				says, stores := at, at
				if i >= 20 && whose != "recorder" {
					says = says.Add(step)
				}
				if i >= 20 && whose != "host" {
					stores = stores.Add(step)
				}
				from := c.Last()
				minute(c, says, key, i%2 == 1)
				if _, alarms, err := s.Add(context.Background(), messages("h1", c.All()[from:]), stores); err != nil || len(alarms) > 0 {
					t.Fatalf("%s, %s: %v %v", name, whose, alarms, err)
				}
			}
			if got := heads(t, s); !slices.Equal(got, []string{"h1/c1 60"}) {
				t.Errorf("%s, %s: %q", name, whose, got)
			}
			rep, err := recorder.Verify(t.Context(), s, recorder.Noted{Keys: events.HostKeys{"h1": {public(key)}}})
			if err != nil || len(rep.Faults) > 0 || rep.Chains[0].Records != 60 {
				t.Errorf("%s, %s: %+v %v", name, whose, rep, err)
			}
			s.Close()
		}
	}
}

// minute appends an event, and what the host signs then.
func minute(c *chaintest.Chain, at time.Time, key ed25519.PrivateKey, signed bool) {
	says(c, at, events.Lifecycle, "")
	if signed {
		says(c, at, events.Checkpoint, events.SignHead(head(c), key))
	}
}
