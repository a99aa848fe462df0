package ocsf_test

import (
	"net/netip"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// What the agent asked for stands besides what it would have reached, where
// the two differ; a unix socket has its path.
func TestReachedAndPath(t *testing.T) {
	s := session()
	s.Reached = netip.MustParseAddrPort("[2001:db8::9]:6432")
	b := ocsf.Append(nil, uid, &events.Event{Kind: events.SessionOpen, Time: at, Session: s})
	v, err := ocsf.Decode(b)
	if err != nil || v.Destination != s.Destination || v.Reached != s.Reached || v.Path != "" {
		t.Errorf("%+v, %v", v, err)
	}
	if r, err := ocsf.Revive(b); err != nil || r.Reached != s.Reached || r.Destination != s.Destination {
		t.Errorf("revived %+v, %v", r, err)
	}
	same := session()
	same.Reached = same.Destination
	if b := ocsf.Append(nil, uid, &events.Event{Kind: events.SessionOpen, Time: at, Session: same}); strings.Contains(string(b), "reached") {
		t.Errorf("%s", b)
	}
	local := session()
	local.Destination, local.Path = netip.AddrPort{}, "/run/postgresql/.s.PGSQL.5432"
	b = ocsf.Append(nil, uid, &events.Event{Kind: events.SessionOpen, Time: at, Session: local})
	if v, err := ocsf.Decode(b); err != nil || v.Destination.IsValid() || v.Path != local.Path {
		t.Errorf("%+v, %v", v, err)
	}
	if r, err := ocsf.Revive(b); err != nil || r.Path != local.Path {
		t.Errorf("revived %+v, %v", r, err)
	}
}
