package spiffe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const genuine = "spiffe://fuzz.test/agent"

// authority is a trust domain without an agent: its bundles as if told, one
// SVID and one token.
func authority(t testing.TB) (a *Attestor, chain, key []byte, token string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	td := spiffeid.RequireTrustDomainFromString("fuzz.test")
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{td.ID().URL()},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	must(err)
	root, err = x509.ParseCertificate(der)
	must(err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	id := spiffeid.RequireFromString(genuine)
	chain, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URL()},
	}, root, leafKey.Public(), caKey)
	must(err)
	key, err = x509.MarshalPKCS8PrivateKey(leafKey)
	must(err)
	svid, err := x509svid.ParseRaw(chain, key)
	must(err)
	sig, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: caKey, KeyID: "k"}}, nil)
	must(err)
	token, err = jwt.Signed(sig).Claims(jwt.Claims{Subject: genuine, Audience: jwt.Audience{"db.test"}, Expiry: jwt.NewNumericDate(now.Add(time.Hour))}).Serialize()
	must(err)
	c := Config{Agent: "unix:///nobody", Keys: true}
	must(c.check())
	own := &Source{
		c: c, svid: svid, x509: x509bundle.NewSet(x509bundle.FromX509Authorities(td, []*x509.Certificate{root})),
		jwt: jwtbundle.NewSet(jwtbundle.FromJWTAuthorities(td, map[string]crypto.PublicKey{"k": caKey.Public()})),
	}
	return &Attestor{c: c, own: own}, chain, key, token
}

// Whatever an agent tells, only the SVID that the authority signed counts, as
// whose it is.
func FuzzTold(f *testing.F) {
	a, chain, key, _ := authority(f)
	sum := sha256.Sum256(chain)
	f.Add(genuine, "", []byte{}, uint(0), false)
	f.Add("spiffe://fuzz.test/other", "internal", []byte{0x30}, uint(7), true)
	f.Add("spiffe://else.test/agent", strings.Repeat("h", 2000), []byte("x"), uint(900), true)
	f.Fuzz(func(t *testing.T, id, hint string, patch []byte, at uint, cutKey bool) {
		told := Told{ID: id, Hint: hint, Chain: append([]byte(nil), chain...), Key: append([]byte(nil), key...)}
		copy(told.Chain[at%uint(len(chain)):], patch)
		if cutKey {
			told.Key = told.Key[:at%uint(len(key))]
		}
		c := a.check(&told)
		if c.err == nil && (c.is.ID.String() != genuine || id != genuine || c.is.Thumbprints[0] != sum || cutKey || c.svid == nil) {
			t.Fatalf("%+v", c)
		}
		if c.err != nil && (c.is.ID != spiffeid.ID{} || c.svid != nil) {
			t.Fatalf("refused, and there: %+v", c)
		}
	})
}

// Only the token that the authority signed verifies.
func FuzzVerifyJWT(f *testing.F) {
	a, _, _, token := authority(f)
	svid, err := a.own.VerifyJWT(token, "db.test")
	if err != nil || svid.ID.String() != genuine {
		f.Fatal(svid, err)
	}
	f.Add(token)
	f.Add("")
	f.Add("eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + ".")
	f.Add(token[:len(token)-3])
	f.Fuzz(func(t *testing.T, raw string) {
		svid, err := a.own.VerifyJWT(raw, "db.test")
		if err == nil && (svid.ID.String() != genuine || strings.Join(strings.Split(raw, ".")[:2], ".") != strings.Join(strings.Split(token, ".")[:2], ".")) {
			t.Fatalf("%q verifies as %s", raw, svid.ID)
		}
	})
}
