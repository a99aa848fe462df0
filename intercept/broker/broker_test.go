package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/broker"
)

func identity() *intercept.Identity {
	return &intercept.Identity{
		Workload: "triage", SPIFFE: "spiffe://one.test/triage", Issuer: "https://agents.test", Subject: "agent-a",
		Person: &intercept.Person{Issuer: "https://people.test", Subject: "dr.grey"}, Proof: intercept.ProofPidfd,
	}
}

// All parts that are given must hold; nothing given is nobody; what the identity
// does not have is matched by no glob.
func TestWho(t *testing.T) {
	type who = broker.Who
	for _, c := range []struct {
		who  broker.Who
		want bool
	}{
		{who{}, false},
		{who{Workloads: []string{}}, false},
		{who{Workloads: []string{"*"}}, true},
		{who{Workloads: []string{"billing", "tri*"}}, true},
		{who{Workloads: []string{"triage-2"}}, false},
		{who{Workloads: []string{"riage"}}, false},
		{who{Workloads: []string{"*"}, Principals: []string{"dr.*"}}, true},
		{who{Workloads: []string{"*"}, Principals: []string{"dr.house"}}, false},
		{who{Actors: []string{"agent-?"}}, false},
		{who{Actors: []string{"agent-a"}, Issuers: []string{"https://people.test"}}, false},
		{who{Actors: []string{"agent-a"}, Issuers: []string{"https://agents.test"}}, true},
		{who{Principals: []string{"dr.grey"}, PrincipalIssuers: []string{"https://agents.test"}}, false},
		{who{SPIFFE: []string{"spiffe://one.test/*"}}, true},
		{who{SPIFFE: []string{"spiffe://one.test"}}, false},
		{who{SPIFFE: []string{"*one*triage"}}, true},
		{who{SPIFFE: []string{"*triage*triage"}}, false},
		{who{Proofs: []string{"oidc", "oidc+pidfd"}}, true},
		{who{Proofs: []string{"*"}}, false},
		{who{Workloads: []string{"*"}, Proofs: []string{}}, false},
	} {
		if got := c.who.Is(identity()); got != c.want {
			t.Errorf("%+v: %t", c.who, got)
		}
	}
	for _, w := range []broker.Who{{Workloads: []string{"*"}}, {Principals: []string{"*"}}, {SPIFFE: []string{""}}, {Proofs: []string{""}}} {
		if w.Is(&intercept.Identity{}) {
			t.Errorf("%+v is nobody", w)
		}
	}
}

// A name that is made of an identity can't be made to mean another role.
func TestTemplate(t *testing.T) {
	for _, c := range []struct{ template, principal, want string }{
		{"billing", "x", "billing"},
		{"{principal}", "dr.grey@example.com", "dr.grey@example.com"},
		{"p_{principal}_r", "grey", "p_grey_r"},
		{"{workload}", "", "triage"},
		{"{actor}", "", "agent-a"},
		{"", "x", ""},
	} {
		id := identity()
		id.Person.Subject = c.principal
		if got, err := broker.Template(c.template).For(id); got != c.want || err != nil {
			t.Errorf("%s of %q: %q, %v", c.template, c.principal, got, err)
		}
	}
	for _, c := range []struct{ template, principal string }{
		{"{principal}", ""},
		{"{principal}", "none"},
		{"{principal}", "NONE"},
		{"{principal}", "postgres"},
		{"{principal}", "pg_read_all_data"},
		{"pg_{principal}", "execute_server_program"},
		{"{principal}", `a"; DROP ROLE b; --`},
		{"{principal}", "a b"},
		{"{principal}", "grey\x00"},
		{"{principal}", "gr\u00e9y"},
		{"{principal}", "-a"},
		{"{principal}", strings.Repeat("a", 64)},
		{"role_of_{principal}", strings.Repeat("a", 60)},
		{"{principal}_{workload}", "a"},
		{"{principal", "a"},
		{"}principal{", "a"},
		{"{}", "a"},
		{"{user}", "a"},
		{"none", "a"},
		{"a\x01", "a"},
		{strings.Repeat("a", 64), "a"},
	} {
		id := identity()
		id.Person.Subject = c.principal
		if got, err := broker.Template(c.template).For(id); err == nil {
			t.Errorf("%s of %q: %q", c.template, c.principal, got)
		}
	}
}

// source gives out numbered secrets.
type source struct {
	n        uint64
	released []uint64
	refused  []uint64
}

func (s *source) Credential(_ context.Context, user string, refused uint64) (broker.Credential, error) {
	s.refused = append(s.refused, refused)
	s.n++
	n := s.n
	return broker.Credential{Password: []byte(user), Version: n, Release: func() { s.released = append(s.released, n) }}, nil
}

// The first account that is for the identity is taken, whatever stands behind
// it, and given back once.
func TestChoose(t *testing.T) {
	a, b := &source{}, &source{}
	accounts := []broker.Account{
		{For: broker.Who{Workloads: []string{"other"}}, User: "other", Source: a},
		{For: broker.Who{Workloads: []string{"triage"}}, User: "first", Role: "{principal}", Source: b},
		{For: broker.Who{Workloads: []string{"*"}}, User: "all", Source: a},
	}
	g, err := broker.Choose(accounts, identity())
	if err != nil || g.User != "first" || g.Role != "dr.grey" || g.Index != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	for _, again := range []bool{false, true, false} {
		if c, err := g.Credential(t.Context(), again); err != nil || c.User != "first" || string(c.Password) != "first" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	g.End()
	g.End()
	if fmt.Sprint(b.refused) != "[0 1 0]" || fmt.Sprint(b.released) != "[1 2 3]" || a.n != 0 {
		t.Errorf("refused %v, released %v, other source asked %d times", b.refused, b.released, a.n)
	}
	if cert, err := g.Certificate(t.Context()); cert != nil || err != nil {
		t.Errorf("%v, %v", cert, err)
	}
	// An identity of which no name can be made does not fall to the next account.
	id := identity()
	id.Person.Subject = "postgres"
	if g, err := broker.Choose(accounts, id); err == nil {
		t.Errorf("%+v", g)
	}
	if _, err := broker.Choose(accounts[:1], id); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("%v", err)
	}
}

// A secret is looked at again once it is refused, and by one for all who were.
func TestStore(t *testing.T) {
	first := []byte("first\n")
	s := &broker.Store{}
	s.Replace(map[string][]byte{"f": first, "empty": []byte("\r\n")})
	p := broker.Password{Store: s, File: "f"}
	c, err := p.Credential(t.Context(), "", 0)
	if err != nil || string(c.Password) != "first" {
		t.Fatalf("%q, %v", c.Password, err)
	}
	c.Wipe()
	if c, _ := p.Credential(t.Context(), "", 0); string(c.Password) != "first" {
		t.Errorf("what was wiped was not a copy: %q", c.Password)
	}
	if _, err := p.Credential(t.Context(), "", c.Version); !errors.Is(err, broker.ErrUnchanged) {
		t.Errorf("nobody can look again: %v", err)
	}
	looks := 0
	s.Refresh = func(context.Context) error {
		looks++
		time.Sleep(10 * time.Millisecond)
		s.Replace(map[string][]byte{"f": []byte("second"), "empty": []byte("\r\n")})
		return nil
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if now, err := p.Credential(t.Context(), "", c.Version); err != nil || string(now.Password) != "second" || now.Version == c.Version {
				t.Errorf("%q, %v", now.Password, err)
			}
		})
	}
	wg.Wait()
	if looks != 1 {
		t.Errorf("%d looks for 20 that were refused", looks)
	}
	if string(first) != "\x00\x00\x00\x00\x00\x00" {
		t.Error("the old secret was left in memory")
	}
	s.Refresh = func(context.Context) error { return errors.New("away") }
	s2 := &broker.Store{Refresh: s.Refresh}
	s2.Replace(map[string][]byte{"f": []byte("x")})
	p.Store = s2
	if _, err := p.Credential(t.Context(), "", 1); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("%v", err)
	}
	for _, file := range []string{"empty", "other"} {
		if _, err := (broker.Password{Store: s, File: file}).Credential(t.Context(), "", 0); err == nil {
			t.Errorf("%s: no error", file)
		}
	}
}
