package recorder_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// What was not vouched for at first is covered by the signature of a later vouching; and
// an insider who has the store say that somebody vouched is found.
func TestALaterVouchingCoversWhatCameBefore(t *testing.T) {
	one := newAuthority(t, "one.test")
	h1 := one.svid("spiffe://one.test/sallyport/host/h1", 60)
	dir := newStore(t)
	s := open(t, dir)
	by := rule(t, one)
	s.Vouch(by)
	c := vouching("c1", 4, func(minute int, h events.SignedHead) string {
		if minute == 2 {
			return vouchedNote(t, h, hostKey(1), h1)
		}
		return events.SignHead(h, hostKey(1))
	})
	var got []string
	for i, r := range c.All() {
		_, alarms, err := s.Add(t.Context(), messages("h1", []events.Record{r}), noon.Add(time.Duration(i/2)*time.Minute+time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range alarms {
			got = append(got, fmt.Sprintf("%s %d at %d", a.What, a.Seq, i+1))
		}
	}
	if !slices.Equal(got, []string{"unvouched 1 at 2"}) {
		t.Errorf("alarms %q", got)
	}
	rep := verified(t, s, recorder.Noted{Vouch: by})
	if ch := rep.Chains[0]; len(rep.Faults) > 0 || ch.Signed != 7 || ch.VouchedIn != 6 {
		t.Errorf("%+v %v", ch, rep.Faults)
	}
	s.Close()
	raw(t, dir, `UPDATE vouched SET key = x'00'`)
	if rep := verify(t, dir); len(rep.Faults) != 1 || rep.Faults[0].What != "altered" {
		t.Errorf("%v", rep.Faults)
	}
}

// Two keys of one host at the same time are an alarm although its identity vouches for
// both: the later one's signatures count once the other is silent.
func TestTwoKeysThatAnIdentityVouchesFor(t *testing.T) {
	one := newAuthority(t, "one.test")
	h1 := one.svid("spiffe://one.test/sallyport/host/h1", 60)
	s := open(t, newStore(t))
	s.Vouch(rule(t, one))
	chain := func(id string, key byte) []events.Record {
		return vouching(id, 3, func(_ int, h events.SignedHead) string { return vouchedNote(t, h, hostKey(key), h1) }).All()
	}
	a, b := chain("c1", 1), chain("c2", 2)
	var got []string
	for _, part := range []struct {
		minute int
		rs     []events.Record
	}{{0, a[:2]}, {1, b[:2]}, {2, a[2:4]}, {3, b[2:4]}, {20, b[4:]}} {
		_, alarms, err := s.Add(t.Context(), messages("h1", part.rs), noon.Add(time.Duration(part.minute)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range alarms {
			got = append(got, fmt.Sprintf("%d %s %s", part.minute, x.Chain, x.What))
		}
	}
	if want := []string{"1 c2 second-chain", "1 c2 other-key"}; !slices.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
}

// Where no identity's word was asked for, it says nothing.
func TestAVouchingIsNoTrustOfItsOwn(t *testing.T) {
	two := newAuthority(t, "two.test")
	s := open(t, newStore(t))
	s.Trust(events.HostKeys{"h2": {public(hostKey(1))}})
	c := vouching("c1", 2, func(_ int, h events.SignedHead) string {
		return vouchedNote(t, h, hostKey(1), two.svid("spiffe://two.test/x", 60))
	})
	if got := add(t, s, messages("h1", c.All())...); !slices.Equal(got, []string{"unknown-key 1"}) {
		t.Errorf("alarms %q", got)
	}
}

// A chain that began before there was a rule keeps the key that it began with.
func TestNoVouchingTakesAChainOver(t *testing.T) {
	one := newAuthority(t, "one.test")
	h1 := one.svid("spiffe://one.test/sallyport/host/h1", 60)
	dir := newStore(t)
	s := open(t, dir)
	all := vouching("c1", 3, func(minute int, h events.SignedHead) string {
		return vouchedNote(t, h, hostKey(1+byte(min(minute, 1))), h1)
	}).All()
	if _, got, err := s.Add(t.Context(), messages("h1", all[:2]), noon.Add(time.Minute)); len(got) > 0 || err != nil {
		t.Errorf("nobody asked who vouches: %+v, %v", got, err)
	}
	if rep := verified(t, s, recorder.Noted{}); len(rep.Faults) > 0 || rep.Chains[0].Signed != 1 || rep.Chains[0].VouchedBy != "" {
		t.Errorf("%+v", rep)
	}
	s.Close()
	s = open(t, dir)
	s.Vouch(rule(t, one))
	_, alarms, err := s.Add(t.Context(), messages("h1", all[2:]), noon.Add(3*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(alarms) != 1 || alarms[0].What != "other-key" || alarms[0].Seq != 2 {
		t.Errorf("%+v", alarms)
	}
}

// A vouching that never holds is one alarm, not one each time; and a clock that is put
// back does not make the store look altered.
func TestVouchingsOverTime(t *testing.T) {
	one := newAuthority(t, "one.test")
	id := "spiffe://one.test/sallyport/host/h1"
	for name, c := range map[string]struct {
		by   svid
		step time.Duration
		want []string
	}{
		"expired":               {one.svid(id, 0), time.Minute, []string{"unvouched 1"}},
		"the clock is put back": {one.svid(id, 60), -time.Minute, nil},
	} {
		s := open(t, newStore(t))
		by := rule(t, one)
		s.Vouch(by)
		var got []string
		at := noon.Add(30 * time.Minute)
		for _, r := range vouching("c1", 4, func(_ int, h events.SignedHead) string { return vouchedNote(t, h, hostKey(1), c.by) }).All() {
			_, alarms, err := s.Add(t.Context(), messages("h1", []events.Record{r}), at)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range alarms {
				got = append(got, fmt.Sprint(a.What, " ", a.Seq))
			}
			at = at.Add(c.step)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: alarms %q, want %q", name, got, c.want)
		}
		if rep := verified(t, s, recorder.Noted{Vouch: by}); c.want == nil && len(rep.Faults) > 0 {
			t.Errorf("%s: %v", name, rep.Faults)
		}
	}
}

// What is registered below a host's ID is no host.
func TestNoHostIsBelowAnother(t *testing.T) {
	one := newAuthority(t, "one.test")
	for host, ok := range map[string]bool{"h1": true, "h1/agent": false, "..": false, "{host}": false, "h1%2fagent": false, "": false} {
		by := one.oddly(x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature})
		if host == "h1/agent" {
			by = one.svid("spiffe://one.test/sallyport/host/h1/agent", 60)
		}
		h, err := events.ParseSignedHead(vouchedNote(t, events.SignedHead{Host: host, Chain: "c1", Seq: 1}, hostKey(1), by))
		if err != nil {
			continue
		}
		if id, err := rule(t, one).Check(&h, noon.Add(time.Minute)); (err == nil) != ok {
			t.Errorf("%q: %q, %v", host, id, err)
		}
	}
}
