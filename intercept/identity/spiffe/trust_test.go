package spiffe_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	delegatedv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport.dev/sallyport/intercept/identity/spiffe"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
)

// federated are two trust domains, of which the first knows the other.
type federated struct {
	*world
	agent spiffe.Connection // attested by the agent of two.test
	api   spiffe.API        // of that agent
}

func newFederated(t *testing.T, federate bool) *federated {
	t.Helper()
	w := &world{Spire: spiretest.Start(t, spiretest.Options{}), t: t}
	w.prover = newProver(t, w.Dir)
	two := spiretest.Start(t, spiretest.Options{TrustDomain: "two.test"})
	own := spiretest.Entry{Path: "/sallyport", Selectors: []string{"unix:uid:0"}}
	two.Register(own)
	two.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	if federate {
		w.Trust(two)
		own.Federates = []*spiretest.Spire{two}
	}
	w.Register(own)
	api, err := spiffe.NewDelegated("unix://" + two.Admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	f := &federated{world: w, api: api, agent: w.connection(peerOf(t, agent(t, uidA)))}
	other := &world{Spire: two, t: t, prover: w.prover}
	f.bind(ready(t, open(t, other.config())), f.agent) // the other's agent knows it
	return f
}

// attestor is of the first domain's daemon, asking the other's agent.
func (f *federated) attestor(c spiffe.Config) *spiffe.Attestor {
	f.t.Helper()
	own, err := spiffe.NewSource(c)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { own.Close() })
	a, err := spiffe.New(c, f.api, own)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { a.Close() })
	return ready(f.t, a)
}

func domains(t *testing.T, names ...string) (out []spiffeid.TrustDomain) {
	t.Helper()
	for _, n := range names {
		td, err := spiffeid.TrustDomainFromString(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, td)
	}
	return out
}

// An SVID of another trust domain counts where it is federated and listed.
func TestFederation(t *testing.T) {
	f := newFederated(t, true)
	c := f.config()
	refused(t, f.attestor(c), f.agent, spiffe.ErrNobody, "trust_domains")
	c.TrustDomains = domains(t, "one.test", "two.test")
	a := f.attestor(c)
	l := f.bind(a, f.agent)
	if id := l.Identity().ID.String(); id != "spiffe://two.test/agent" {
		t.Fatal(id)
	}
	// Tokens too, each for its audience alone.
	token, err := l.JWT(context.Background(), "db.test")
	if err != nil {
		t.Fatal(err)
	}
	raw := token.Marshal()
	if svid, err := a.Own().VerifyJWT(raw, "other.test", "db.test"); err != nil || svid.ID != l.Identity().ID {
		t.Fatal(svid, err)
	}
	verifies(t, a.Own(), raw, "other.test", "audience")
	c.TrustDomains = nil
	verifies(t, f.attestor(c).Own(), raw, "db.test", "trust_domains")
	tokens(t, a.Own(), raw)
	// Behind its end it is nothing, to the second.
	var late atomic.Int64
	c.TrustDomains = domains(t, "two.test")
	c.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	own := f.attestor(c).Own()
	late.Store(int64(time.Until(token.Expiry) - 500*time.Millisecond))
	if _, err := own.VerifyJWT(raw, "db.test"); err != nil {
		t.Fatal(err)
	}
	late.Store(int64(time.Until(token.Expiry) + 500*time.Millisecond))
	verifies(t, own, raw, "db.test", "expired")
}

func TestNotFederated(t *testing.T) {
	f := newFederated(t, false)
	c := f.config()
	refused(t, f.attestor(c), f.agent, spiffe.ErrNobody, "trust_domains")
	c.TrustDomains = domains(t, "one.test", "two.test")
	refused(t, f.attestor(c), f.agent, spiffe.ErrNobody, "does not verify")
}

func verifies(t *testing.T, s *spiffe.Source, token, audience, why string) {
	t.Helper()
	svid, err := s.VerifyJWT(token, audience)
	if svid != nil || err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("want a refusal with %q, got %v, %v", why, svid, err)
	}
	if strings.Contains(err.Error(), token) {
		t.Fatal("the error holds the token")
	}
}

// tokens are forged from a good one.
func tokens(t *testing.T, s *spiffe.Source, good string) {
	t.Helper()
	parts := strings.Split(good, ".")
	enc := base64.RawURLEncoding.EncodeToString
	sign := func(alg jose.SignatureAlgorithm, key any, kid string) string {
		t.Helper()
		sig, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := jwt.Signed(sig).Claims(jwt.Claims{
			Subject: "spiffe://two.test/agent", Audience: jwt.Audience{"db.test"}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(good, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	kid := parsed.Headers[0].KeyID
	bundle, err := s.GetJWTBundleForTrustDomain(spiffeid.RequireTrustDomainFromString("two.test"))
	if err != nil {
		t.Fatal(err)
	}
	public, _ := bundle.FindJWTAuthority(kid)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"nothing":       "",
		"no token":      "a.b.c",
		"huge":          good + strings.Repeat("A", 20<<10),
		"alg none":      enc([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"key confusion": sign(jose.HS256, der, kid),
		"another key":   sign(jose.ES256, key, kid),
		"no such key":   sign(jose.ES256, key, "x"),
		"no key named":  sign(jose.ES256, key, ""),
		"cut":           parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-4],
	} {
		if svid, err := s.VerifyJWT(token, "db.test"); err == nil || svid != nil {
			t.Errorf("%s: verified as %v", name, svid)
		}
	}
	if _, err := s.VerifyJWT(good); err == nil {
		t.Error("verified for nobody")
	}
}

// liar changes what the agent tells.
type liar struct {
	spiffe.API
	change func([]spiffe.Told) []spiffe.Told
	tokens func([]spiffe.ToldJWT) []spiffe.ToldJWT
}

func (l liar) Watch(ctx context.Context, pid int32, told func([]spiffe.Told) error) error {
	return l.API.Watch(ctx, pid, func(list []spiffe.Told) error { return told(l.change(list)) })
}

func (l liar) JWT(ctx context.Context, pid int32, audience []string) ([]spiffe.ToldJWT, error) {
	list, err := l.API.JWT(ctx, pid, audience)
	return l.tokens(list), err
}

// Whatever an agent tells that is not whole and true gets nobody in.
func TestMalformed(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	w.Register(spiretest.Entry{Path: "/agent", Selectors: []string{"unix:uid:65534"}})
	w.Register(spiretest.Entry{Path: "/other", Selectors: []string{"unix:uid:65533"}})
	c := w.config()
	c.Wait, c.Keys = time.Second, true
	own := ready(t, open(t, c)).Own()
	api, err := spiffe.NewDelegated(c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	conn := w.connection(peerOf(t, agent(t, uidA)))
	w.bind(ready(t, open(t, c)), conn)
	one := func(f func(*spiffe.Told)) func([]spiffe.Told) []spiffe.Told {
		return func(l []spiffe.Told) []spiffe.Told {
			f(&l[0])
			return l
		}
	}
	for name, x := range map[string]struct {
		change func([]spiffe.Told) []spiffe.Told
		is     error
		why    string
	}{
		"nothing":            {func([]spiffe.Told) []spiffe.Told { return nil }, spiffe.ErrNobody, "knows none"},
		"an ID that is none": {one(func(s *spiffe.Told) { s.ID = "spiffe://one.test/../agent" }), spiffe.ErrNobody, "malformed"},
		"another scheme":     {one(func(s *spiffe.Told) { s.ID = "https://one.test/agent" }), spiffe.ErrNobody, "malformed"},
		"a long ID":          {one(func(s *spiffe.Told) { s.ID = "spiffe://one.test/" + strings.Repeat("a", 2048) }), spiffe.ErrNobody, "beyond all sizes"},
		"the trust domain":   {one(func(s *spiffe.Told) { s.ID = "spiffe://one.test" }), spiffe.ErrNobody, "no workload"},
		"another's ID":       {one(func(s *spiffe.Told) { s.ID = "spiffe://one.test/other" }), spiffe.ErrNobody, "is spiffe://one.test/agent's"},
		"no certificate":     {one(func(s *spiffe.Told) { s.Chain = nil }), spiffe.ErrNobody, ""},
		"a cut certificate":  {one(func(s *spiffe.Told) { s.Chain = s.Chain[:len(s.Chain)-1] }), spiffe.ErrNobody, "malformed"},
		"no key":             {one(func(s *spiffe.Told) { s.Key = nil }), spiffe.ErrNobody, "key"},
		"a huge chain":       {one(func(s *spiffe.Told) { s.Chain = make([]byte, 70<<10) }), spiffe.ErrNobody, "beyond all sizes"},
		"one of two":         {func(l []spiffe.Told) []spiffe.Told { return append(l, spiffe.Told{ID: "x"}) }, spiffe.ErrNobody, "can't be all of them"},
		"far too many":       {func(l []spiffe.Told) []spiffe.Told { return slices.Repeat(l, 33) }, spiffe.ErrUnavailable, "more than 32"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := spiffe.New(c, liar{API: api, change: x.change}, own)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			refused(t, a, conn, x.is, x.why)
		})
	}
	t.Run("tokens", func(t *testing.T) {
		other := w.bind(ready(t, open(t, c)), w.connection(peerOf(t, agent(t, uidB))))
		foreign, err := other.JWT(context.Background(), "db.test")
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]spiffe.ToldJWT{nil, {{ID: "spiffe://one.test/agent"}}, {{ID: "spiffe://one.test/agent", Token: foreign.Marshal()}}, make([]spiffe.ToldJWT, 33)} {
			a, err := spiffe.New(c, liar{API: api, change: func(l []spiffe.Told) []spiffe.Told { return l }, tokens: func([]spiffe.ToldJWT) []spiffe.ToldJWT { return list }}, own)
			if err != nil {
				t.Fatal(err)
			}
			if j, err := w.bind(a, conn).JWT(context.Background(), "db.test"); j != nil || !errors.Is(err, spiffe.ErrNobody) {
				t.Error(j, err)
			}
			a.Close()
		}
	})
	// Whom it was told rightly before stays who it was, until it is withdrawn.
	t.Run("later", func(t *testing.T) {
		var broken atomic.Bool
		c := c
		c.Recheck = 300 * time.Millisecond
		a, err := spiffe.New(c, liar{API: api, change: one(func(s *spiffe.Told) {
			if broken.Load() {
				s.Chain = nil
			}
		})}, own)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		l := w.bind(a, conn)
		broken.Store(true)
		stays(t, l, time.Second)
		refused(t, a, conn, spiffe.ErrNobody, "")
		broken.Store(false)
		w.bind(a, conn)
	})
}

// huge answers with more than anybody reads, or not at all.
type huge struct {
	delegatedv1.UnimplementedDelegatedIdentityServer
	code codes.Code
}

func (h huge) SubscribeToX509SVIDs(_ *delegatedv1.SubscribeToX509SVIDsRequest, s delegatedv1.DelegatedIdentity_SubscribeToX509SVIDsServer) error {
	if h.code != codes.OK {
		return status.Error(h.code, "as told")
	}
	return s.Send(&delegatedv1.SubscribeToX509SVIDsResponse{FederatesWith: []string{strings.Repeat("x", 2<<20)}})
}

// Any end of the agent's stream is a refusal, and none of them lets anybody in.
func TestAnswers(t *testing.T) {
	w := newWorld(t, spiretest.Options{})
	c := w.config()
	own := ready(t, open(t, c)).Own()
	c.Wait = 200 * time.Millisecond
	conn := w.connection(peerOf(t, agent(t, uidA)))
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		path := fmt.Sprintf("%s/huge-%d.sock", w.Dir, code)
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		delegatedv1.RegisterDelegatedIdentityServer(srv, huge{code: code})
		done := make(chan struct{})
		go func() { _ = srv.Serve(ln); close(done) }()
		api, err := spiffe.NewDelegated("unix://" + path)
		if err != nil {
			t.Fatal(err)
		}
		a, err := spiffe.New(c, api, own)
		if err != nil {
			t.Fatal(err)
		}
		l, err := a.Bind(context.Background(), conn)
		if l != nil || !errors.Is(err, spiffe.ErrNobody) && !errors.Is(err, spiffe.ErrUnavailable) {
			t.Errorf("%s: %v %v", code, l, err)
		}
		no := []codes.Code{codes.PermissionDenied, codes.NotFound, codes.InvalidArgument, codes.Unauthenticated}
		if slices.Contains(no, code) != errors.Is(err, spiffe.ErrNobody) {
			t.Errorf("%s: %v", code, err)
		}
		a.Close()
		api.Close()
		srv.Stop()
		<-done
	}
}
