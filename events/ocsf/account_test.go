package ocsf_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// Whom the passage logged in as stands apart from what the client claims to be.
func TestAccount(t *testing.T) {
	s := session()
	b := ocsf.Append(nil, uid, &events.Event{Kind: events.SessionOpen, Time: at, Session: s})
	if strings.Contains(string(b), `"login"`) || strings.Contains(string(b), "database_user") {
		t.Errorf("the client logged in itself: %s", b)
	}
	s = session()
	s.Account, s.Role = "billing_ro", "reader"
	e := events.Event{Kind: events.SessionOpen, Time: at, Session: s}
	b = ocsf.Append(nil, uid, &e)
	v, err := ocsf.Decode(b)
	if err != nil || v.Account != "billing_ro" || v.Role != "reader" || v.User != "clinic" || !strings.Contains(string(b), `"login":"broker"`) {
		t.Errorf("%v: %s", err, b)
	}
	if r, err := ocsf.Revive(b); err != nil || r.Account != s.Account || r.Role != s.Role {
		t.Errorf("revived: %v %+v", err, r)
	}
}
