package recorder_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

func hostKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// says appends an event of the host itself, at a time.
func says(c *chaintest.Chain, at time.Time, kind events.Kind, message string) {
	e := &events.Event{Kind: kind, Time: at, Status: "heartbeat", Message: message}
	c.Add(kind, "", "", ocsf.Append(nil, fmt.Sprintf("%s-%d", c.ID, c.Last()+1), e))
}

// head is what a host signs of its chain.
func head(c *chaintest.Chain) events.SignedHead {
	rs := c.All()
	last := rs[len(rs)-1]
	return events.SignedHead{Host: "h1", Chain: c.ID, Seq: last.Seq, Hash: last.Hash}
}

// told is a chain of a heartbeat a minute, each signed with a key.
func told(id string, key ed25519.PrivateKey, minutes int) *chaintest.Chain {
	c := chaintest.New(id)
	for i := range minutes {
		at := noon.Add(time.Duration(i) * time.Minute)
		says(c, at, events.Lifecycle, "")
		says(c, at.Add(time.Second), events.Checkpoint, events.SignHead(head(c), key))
	}
	return c
}

// What a host did not sign as it must is an alarm, and stored: it is evidence.
func TestSignaturesAreCheckedBeforeStoring(t *testing.T) {
	mine, others := hostKey(1), hostKey(2)
	// last replaces the note of a chain's second checkpoint.
	last := func(note func(h events.SignedHead) string) []events.Record {
		c := told("c1", mine, 1)
		says(c, noon.Add(time.Minute), events.Lifecycle, "")
		says(c, noon.Add(time.Minute), events.Checkpoint, note(head(c)))
		return c.All()
	}
	unnamed := func(h events.SignedHead) string { // by a key that it does not name
		own := events.SignHead(h, mine)
		text, _, _ := strings.Cut(own, "\n\n")
		_, sig, _ := strings.Cut(events.SignHead(h, others), "\n\n")
		return text + "\n\n" + sig
	}
	pins := func(host string, ks ...ed25519.PrivateKey) events.HostKeys {
		keys := events.HostKeys{}
		for _, k := range ks {
			keys[host] = append(keys[host], public(k))
		}
		return keys
	}
	for name, c := range map[string]struct {
		keys events.HostKeys
		rs   []events.Record
		want []string
	}{
		"sound":                    {nil, told("c1", mine, 3).All(), nil},
		"sound, key given":         {pins("h1", others, mine), told("c1", mine, 3).All(), nil},
		"another key is given":     {pins("h1", others), told("c1", mine, 2).All(), []string{"forged 2", "forged 4"}},
		"no key of it is given":    {pins("h2", mine), told("c1", mine, 3).All(), []string{"unknown-key 1"}},
		"another key than before":  {nil, last(func(h events.SignedHead) string { return events.SignHead(h, others) }), []string{"other-key 2"}},
		"the key did not sign":     {nil, last(unnamed), []string{"forged 4"}},
		"another hash is signed":   {nil, last(func(h events.SignedHead) string { h.Hash[3] ^= 1; return events.SignHead(h, mine) }), []string{"forged 4"}},
		"another number is signed": {nil, last(func(h events.SignedHead) string { h.Seq--; return events.SignHead(h, mine) }), []string{"forged 4"}},
		"it signs what is to come": {nil, last(func(h events.SignedHead) string { h.Seq += 9; return events.SignHead(h, mine) }), []string{"forged 4"}},
		"of another host":          {nil, last(func(h events.SignedHead) string { h.Host = "h2"; return events.SignHead(h, mine) }), []string{"forged 4"}},
		"of another chain":         {nil, last(func(h events.SignedHead) string { h.Chain = "c2"; return events.SignHead(h, mine) }), []string{"forged 4"}},
		"no note":                  {nil, last(func(events.SignedHead) string { return "sound, believe me" }), []string{"forged 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			if c.keys != nil {
				s.Trust(c.keys)
			}
			var got []string
			for part := range slices.Chunk(c.rs, 1) {
				got = append(got, add(t, s, messages("h1", part)...)...)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("alarms %q, want %q", got, c.want)
			}
			if hs := heads(t, s); !slices.Equal(hs, []string{fmt.Sprintf("h1/c1 %d", len(c.rs))}) {
				t.Errorf("heads %q", hs)
			}
			if more := add(t, s, messages("h1", c.rs)...); more != nil {
				t.Errorf("a second delivery is an alarm: %q", more)
			}
		})
	}
}

// Records that a host does not sign are an alarm once it had its time; one that
// comes back after an hour, and signs then, is none.
func TestUnsignedRecordsAreAnAlarm(t *testing.T) {
	c := told("c1", hostKey(1), 1)
	for range 40 {
		says(c, noon, events.Lifecycle, "")
	}
	rs := c.All()
	at := func(s *recorder.DB, minutes int, rs ...events.Record) (alarms []string) {
		t.Helper()
		_, as, err := s.Add(context.Background(), messages("h1", rs), noon.Add(time.Duration(minutes)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range as {
			alarms = append(alarms, fmt.Sprintf("%s %d", a.What, a.Seq))
		}
		return alarms
	}
	dir := newStore(t)
	s := open(t, dir)
	at(s, 0, rs[:2]...)
	var got []string
	for i, r := range rs[2:] { // a record a minute
		if got = at(s, i, r); got != nil {
			if i < 10 || i > 15 {
				t.Errorf("%q after %d minutes", got, i)
			}
			break
		}
		if i == 7 { // another process goes on
			s.Close()
			s = open(t, dir)
		}
	}
	if !slices.Equal(got, []string{"unsigned 2"}) {
		t.Errorf("alarms %q", got)
	}
	if again := at(s, 300, rs...); again != nil {
		t.Errorf("it is told again: %q", again)
	}

	back := told("c1", hostKey(1), 1)
	says(back, noon, events.Lifecycle, "its last")
	says(back, noon, events.Lifecycle, "its first")
	says(back, noon, events.Checkpoint, events.SignHead(head(back), hostKey(1)))
	says(back, noon, events.Lifecycle, "")
	rs = back.All()
	s = open(t, newStore(t))
	for i, minute := range []int{0, 0, 0, 60, 61, 62} {
		if alarms := at(s, minute, rs[i]); alarms != nil {
			t.Errorf("a host that came back: %q at record %d", alarms, i+1)
		}
	}
}

// A second chain of a host with another key, and one that goes on beside it, are
// alarms of their own.
func TestTwoHostsWithOneName(t *testing.T) {
	s := open(t, newStore(t))
	a, b := told("c1", hostKey(1), 3).All(), told("c2", hostKey(2), 3).All()
	var got []string
	for _, part := range []struct {
		minute int
		rs     []events.Record
	}{{0, a[:2]}, {1, b[:2]}, {2, a[2:4]}, {30, a[4:]}, {31, b[2:]}} {
		_, as, err := s.Add(context.Background(), messages("h1", part.rs), noon.Add(time.Duration(part.minute)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range as {
			got = append(got, fmt.Sprintf("%d %s %s", part.minute, x.Chain, x.What))
		}
	}
	if want := []string{"1 c2 second-chain", "1 c2 other-key", "30 c1 two-hosts"}; !slices.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
}

// With the host's key, a chain that an insider computed anew is found without a log
// and without a head that was noted elsewhere.
func TestVerifyAgainstTheHostsKeys(t *testing.T) {
	mine := hostKey(1)
	file := filepath.Join(t.TempDir(), "hosts.keys")
	if err := os.WriteFile(file, []byte("# of the fleet\n\n"+events.HostKeyLine("h1", public(hostKey(9)))+"\n"+events.HostKeyLine("h1", public(mine))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := events.ReadHostKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	change := func(rs []events.Record) []events.Record {
		rs[6].Payload = []byte(strings.Replace(string(rs[6].Payload), "heartbeat", "heartbeet", 1))
		return rs
	}
	unsigned := func(rs []events.Record) []events.Record {
		return slices.DeleteFunc(change(rs), func(r events.Record) bool { return r.Kind == events.Checkpoint })
	}
	tail := func(rs []events.Record) []events.Record {
		return slices.DeleteFunc(rs, func(r events.Record) bool { return r.Kind == events.Checkpoint && r.Seq > 6 })
	}
	// replayed has the first signature once more, at the end of what is made anew.
	replayed := func(rs []events.Record) []events.Record {
		first := rs[1]
		return append(append(slices.Clone(rs[:2]), unsigned(rs)[1:]...), first)
	}
	// signed is an insider who signs anew with a key of his own.
	signed := func(rs []events.Record) []events.Record {
		c := chaintest.New("c1")
		for _, r := range change(rs) {
			if r.Kind == events.Checkpoint {
				says(c, noon, events.Checkpoint, events.SignHead(head(c), hostKey(3)))
			} else {
				c.Add(r.Kind, r.Protocol, r.Session, r.Payload)
			}
		}
		return c.All()
	}
	for name, c := range map[string]struct {
		keys events.HostKeys
		edit func([]events.Record) []events.Record
		want string
	}{
		"sound":                      {keys, nil, ""},
		"sound, without keys":        {nil, nil, ""},
		"changed":                    {keys, change, "7 changed"},
		"changed, without keys":      {nil, change, "7 changed"},
		"signatures taken out":       {keys, unsigned, "1 unsigned"},
		"an old one at the end":      {keys, replayed, "2 unsigned"},
		"signed with another key":    {keys, signed, "2 forged"},
		"keys of another host only":  {events.HostKeys{"h2": keys["h1"]}, nil, "1 unsigned"},
		"another key of the host's":  {events.HostKeys{"h1": keys["h1"][:1]}, nil, "2 forged"},
		"the end's signatures taken": {keys, tail, "6 unsigned"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			if alarms := add(t, s, messages("h1", told("c1", mine, 20).All())...); alarms != nil {
				t.Fatal(alarms)
			}
			s.Close()
			if c.edit != nil {
				anew(t, dir, c.edit)
			}
			s, err := recorder.OpenReader(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			rep, err := recorder.Verify(t.Context(), s, recorder.Noted{Keys: c.keys})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(rep.Faults) > 0 {
				got = fmt.Sprint(rep.Faults[0].Seq, " ", rep.Faults[0].What)
			}
			if got != c.want {
				t.Errorf("found %v, want %q", rep.Faults, c.want)
			}
			if x := rep.Chains[0]; c.want == "" && (x.Signed != 39 || x.Signer != events.HostKeyLine("h1", public(mine))) {
				t.Errorf("%+v", x)
			}
		})
	}
	for _, line := range []string{"", "h1+00+AA", events.HostKeyLine("h1", public(mine)) + "x", strings.Replace(events.HostKeyLine("h1", public(mine)), "h1", "h2", 1)} {
		if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := events.ReadHostKeys(file); err == nil {
			t.Errorf("%q: %v", line, k)
		}
	}
}

// A true signature of what was, further behind it than is looked back, covers nothing,
// also where the host's clock goes back at the end.
func TestASignatureFromFarAwayCoversNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	add(t, s, messages("h1", told("c1", hostKey(1), 20).All())...)
	s.Close()
	anew(t, dir, func(rs []events.Record) []events.Record {
		last, old := rs[39], rs[0]
		rs = slices.DeleteFunc(rs, func(r events.Record) bool { return r.Kind == events.Checkpoint })
		for n := len(rs); len(rs) < 1<<16+60; {
			rs = append(rs, rs[n-1])
		}
		return append(rs, last, old)
	})
	rep := verified(t, reader(t, dir), recorder.Noted{Keys: events.HostKeys{"h1": {public(hostKey(1))}}})
	if len(rep.Faults) != 1 || rep.Faults[0].What != "unsigned" || rep.Faults[0].Seq != 1 || rep.Chains[0].Signed != 0 {
		t.Errorf("%+v %+v", rep.Faults, rep.Chains)
	}
}
