package desk_test

import (
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// Emergency access over NATS is proved to the host as by root's command: who may ask
// brings it, and opens, closes and reviews nothing without the log-in of somebody who may.
func TestGlassOverNATS(t *testing.T) {
	f := newForged(t)
	c := f.serve("h1")
	ask := func(q *desk.Ask) (*desk.Answer, error) { return c.Ask(t.Context(), "h1", q) }
	a, err := ask(&desk.Ask{Do: desk.GlassBegin, Name: glass.Name})
	if err != nil || a.Opening == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	o := a.Opening
	o.Resource, o.Workload, o.For, o.ForIssuer, o.Lasts = "clinic", "billing", "alice", "https://id", 10*time.Minute
	nonce := func(verb string) string {
		n, err := approval.GlassNonce(o, verb, why)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	good := f.token("JWT", nonce(approval.OpenGlass))
	longer := *o
	longer.Lasts = time.Hour
	for what, c := range map[string]struct {
		q    desk.Ask
		want string
	}{
		"nobody":                {desk.Ask{Glass: o, Why: why}, "not proved"},
		"nothing to open":       {desk.Ask{Why: why, Token: good}, "not understood"},
		"other words":           {desk.Ask{Glass: o, Why: why + ", and more", Token: good}, "nonce"},
		"for longer":            {desk.Ask{Glass: &longer, Why: why, Token: good}, "nonce"},
		"who may not":           {desk.Ask{Glass: o, Why: why, Token: f.token("JWT", nonce(approval.OpenGlass), "groups", []string{"staff"})}, "may"},
		"a log-in by device":    {desk.Ask{Glass: o, Why: why, Token: f.token("JWT", nonce(approval.OpenGlass), "aud", device, "azp", device)}, "audience"},
		"a log-in of yesterday": {desk.Ask{Glass: o, Why: why, Token: f.token("JWT", nonce(approval.OpenGlass), "auth_time", time.Now().Add(-24*time.Hour).Unix())}, "log-in of before"},
	} {
		c.q.Do = desk.GlassOpen
		_, err := ask(&c.q)
		refused(t, what, err, c.want)
	}
	if a, err := ask(&desk.Ask{Do: desk.GlassList, All: true}); err != nil || len(a.Glasses) != 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err = ask(&desk.Ask{Do: desk.GlassOpen, Glass: o, Why: why, Token: good}); err != nil || a.Glasses[0].State != approval.GlassOpen || a.Glasses[0].Decisions[0].Token != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, do := range []string{desk.GlassOpen, desk.GlassClose, desk.GlassJustified} {
		if _, err := ask(&desk.Ask{Do: do, ID: o.ID, Glass: o, Why: why, Token: good}); err == nil {
			t.Errorf("the proof of its opening is good for %s", do)
		}
	}
	a, err = ask(&desk.Ask{Do: desk.GlassClose, ID: o.ID, Why: why, Token: f.token("JWT", nonce(approval.CloseGlass))})
	if err != nil || a.Glasses[0].State != approval.GlassClosed {
		t.Errorf("%+v, %v", a, err)
	}
	_, err = ask(&desk.Ask{Do: desk.GlassJustified, ID: o.ID, Why: why, Token: f.token("JWT", nonce(approval.Justified))})
	refused(t, "a review by who opened it", err, "")
}
