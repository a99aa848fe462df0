package recorder_test

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// A host that gives things names which no index takes stops nobody: its records are
// alarms, and those of the others are stored.
func TestLongNamesStopNobody(t *testing.T) {
	b := make([]byte, 8000)
	rand.Read(b)
	long := hex.EncodeToString(b) // nothing that a database can compress
	of := func(chain string, x *events.Session, more ...events.Event) []events.Record {
		h := newHost(chain)
		h.tell(events.Event{Kind: events.SessionOpen, Session: x})
		for _, e := range more {
			e.Session = x
			h.tell(e)
		}
		return h.All()
	}
	protocol := events.Record{Chain: "c-p", Seq: 1, Kind: events.Lifecycle, Protocol: long}
	protocol.Hash = protocol.Sum()
	named := newSession("s-2")
	named.Resource, named.Workload, named.Actor, named.Principal = long, long, long, long
	for name, c := range map[string]struct {
		rs   []events.Record
		want []string
	}{
		"a chain":              {of(long, newSession("s-1")), []string{"unreadable 1"}},
		"a session":            {of("c1", newSession(long)), []string{"unreadable 1"}},
		"one byte too much":    {of("c1", newSession(long[:events.MaxName+1])), []string{"unreadable 1"}},
		"as much as there may": {of(string(b[:events.MaxName]), newSession(string(b[256:256+events.MaxName]))), nil},
		"a protocol":           {[]events.Record{protocol}, []string{"unreadable 1"}},
		"who it is":            {of("c1", named), nil},
		"a subject": {of("c1", newSession("s-1"), events.Event{
			Kind: events.Response, Number: 1, Status: "ok", Rows: 1, Named: 1, Subjects: []events.Subject{{Name: long}},
		}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t)
			s := open(t, dir)
			good := spoken("s-1").All()
			if got := add(t, s, append(messages("evil", c.rs), messages("h1", good)...)...); !slices.Equal(got, c.want) {
				t.Errorf("alarms %.200q, want %q", got, c.want)
			}
			if found, err := s.Sessions(t.Context(), recorder.Filter{}); err != nil || !slices.ContainsFunc(found, func(x recorder.Session) bool { return x.Host == "h1" }) {
				t.Errorf("the other host's sessions: %v %v", found, err)
			}
			if rep := verify(t, dir); len(rep.Faults) != 0 {
				t.Errorf("%.300v", rep.Faults)
			}
		})
	}
}

// A host that takes another's session id, or one that reads as another host's, makes
// no session that can't be looked at.
func TestFindBehindItsHost(t *testing.T) {
	s := open(t, newStore(t))
	for host, ids := range map[string][]string{"h1": {"s-1"}, "h2": {"s-1", "h1/s-1"}} {
		for _, id := range ids {
			h := newHost("c-" + host + id)
			h.tell(events.Event{Kind: events.SessionOpen, Session: newSession(id)})
			add(t, s, messages(host, h.All())...)
		}
	}
	for id, want := range map[string]string{
		"h1/s-1": "h1 s-1", "h1/s": "h1 s-1", "h2/s-1": "h2 s-1", "h2/h1/s-1": "h2 h1/s-1", "s-1": "", "h1/s-2": "", "h2/": "",
	} {
		x, err := s.Find(t.Context(), id)
		if got := x.Host + " " + x.ID; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q %v, want %q", id, got, err, want)
		}
	}
}
