package oidc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

// forged is a forger with one key, its verifier, and a way to sign.
func forged(t testing.TB, change func(*oidc.Issuer), now func() time.Time) (*oidctest.Forger, *oidc.Verifier, func(payload any, header ...any) string) {
	t.Helper()
	f, k := oidctest.NewForger(t), oidctest.RSAKey(t, 2048)
	f.Publish(oidctest.Public("k", "RS256", &k.PublicKey))
	is := oidc.Issuer{URL: f.URL, Audience: "sallyport", Algorithms: []string{"RS256", "ES256"}}
	if change != nil {
		change(&is)
	}
	v, err := oidc.New([]oidc.Issuer{is}, now)
	if err != nil {
		t.Fatal(err)
	}
	return f, v, func(payload any, header ...any) string {
		h := map[jose.HeaderKey]any{"kid": "k"}
		for i := 0; i < len(header); i += 2 {
			h[jose.HeaderKey(header[i].(string))] = header[i+1]
		}
		return oidctest.Sign(t, jose.RS256, k, h, payload)
	}
}

// Two readers of one token must read the same.
func TestStrict(t *testing.T) {
	f, v, sign := forged(t, nil, time.Now)
	good := sign(f.Claims())
	if _, err := verify(v, good); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(f.Claims())
	with := func(more string) string { return sign(strings.TrimSuffix(string(b), "}") + "," + more + "}") }
	part := strings.Split(good, ".")
	head := func(h string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(h)) + "." + part[1] + "." + part[2]
	}
	for name, c := range map[string]struct{ raw, why string }{
		"sub twice":         {with(`"sub":"agent-b"`), "a name twice"},
		"iss twice":         {with(`"iss":"https://other"`), "a name twice"},
		"aud twice":         {with(`"aud":"other"`), "a name twice"},
		"a name within":     {with(`"a":{"b":1,"b":2}`), "a name twice"},
		"alg twice":         {head(`{"alg":"none","kid":"k","alg":"RS256"}`), "a name twice"},
		"deep":              {with(`"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "nests deeper"},
		"very deep":         {with(`"a":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)), "nests deeper"},
		"two objects":       {sign(string(b) + string(b)), "more than one JSON object"},
		"a list":            {sign("[" + string(b) + "]"), "no JSON object"},
		"not UTF-8":         {with("\"a\":\"\xff\""), "not UTF-8"},
		"huge":              {with(`"a":"` + strings.Repeat("x", 70<<10) + `"`), "longer than"},
		"crit":              {head(`{"alg":"RS256","kid":"k","crit":["exp"],"exp":1}`), "crit"},
		"b64":               {head(`{"alg":"RS256","kid":"k","b64":false}`), "b64"},
		"stray bits":        {good[:len(good)-1] + string("AQgw"[strings.IndexByte("AQgw", good[len(good)-1])]) + "\n", "base64url"},
		"padding":           {part[0] + "." + part[1] + "." + part[2] + "=", "base64url"},
		"a line break":      {part[0] + "." + part[1][:8] + "\n" + part[1][8:] + "." + part[2], "base64url"},
		"proof of a key":    {sign(f.Claims(), "typ", "dpop+jwt"), "for another use"},
		"log-out":           {sign(f.Claims(), "typ", "logout+jwt"), "for another use"},
		"kid of no text":    {head(`{"alg":"RS256","kid":7}`), "(kid) is no text"},
		"alg of no text":    {head(`{"alg":["RS256"],"kid":"k"}`), "not signed with one of"},
		"alg of small":      {head(`{"alg":"rs256","kid":"k"}`), "not signed with one of"},
		"aud of a number":   {sign(f.Claims("aud", []any{"sallyport", 7})), "aud claim"},
		"no aud":            {sign(f.Claims("aud", nil)), "aud claim"},
		"aud of an object":  {sign(f.Claims("aud", map[string]any{"sallyport": true})), "aud claim"},
		"SUB":               {sign(f.Claims("sub", nil, "SUB", "agent-a")), "sub claim"},
		"exp of text":       {sign(f.Claims("exp", "9999999999")), "exp claim is no date"},
		"no exp":            {sign(f.Claims("exp", nil)), "never expires"},
		"exp beyond all":    {sign(strings.Replace(string(b), `"exp":`, `"exp":1e300,"x":`, 1)), "exp claim is no date"},
		"key as x5t":        {sign(f.Claims("cnf", map[string]any{"jkt": "x"})), "can't be checked"},
		"cnf of two":        {sign(f.Claims("cnf", map[string]any{"x5t#S256": strings.Repeat("A", 43), "jkt": "x"})), "can't be checked"},
		"cnf of half":       {sign(f.Claims("cnf", map[string]any{"x5t#S256": "AAAA"})), "no SHA-256"},
		"may_act of text":   {sign(f.Claims("may_act", "agent-a")), "may_act"},
		"may_act of more":   {sign(f.Claims("may_act", map[string]any{"sub": "a", "aud": "x"})), "not understood"},
		"a chain of others": {sign(f.Claims("act", map[string]any{"sub": "a", "iss": "https://other"})), "another issuer"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, c.raw, c.why) })
	}
	for name, raw := range map[string]string{
		"access token":  sign(f.Claims(), "typ", "at+jwt"),
		"with its kind": sign(f.Claims(), "typ", "application/AT+JWT"),
		"two audiences": sign(f.Claims("aud", []any{"other", "sallyport"})),
		"bound":         sign(f.Claims("cnf", map[string]any{"x5t#S256": strings.Repeat("A", 43)})),
	} {
		if tok, err := verify(v, raw); err != nil || name == "bound" && tok.Cert == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A token brings no key, and names no place to fetch one from.
func TestKeysInATokenAreNotFollowed(t *testing.T) {
	f, v, good := forged(t, nil, time.Now)
	if _, err := verify(v, good(f.Claims())); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	mine := oidctest.RSAKey(t, 2048)
	set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{oidctest.Public("k", "RS256", &mine.PublicKey)}})
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(set)
	}))
	defer thief.Close()
	for name, h := range map[string]map[jose.HeaderKey]any{
		"jwk": {"kid": "k", "jwk": oidctest.Public("k", "RS256", &mine.PublicKey)},
		"jku": {"kid": "k", "jku": thief.URL + "/keys"},
		"x5u": {"kid": "k", "x5u": thief.URL + "/cert"},
		"x5c": {"kid": "k", "x5c": []string{"AAAA"}},
		// Not followed, not even to the issuer's own: the key id alone counts.
		"kid of a path": {"kid": "../../keys"},
	} {
		tok, err := verify(v, oidctest.Sign(t, jose.RS256, mine, h, f.Claims()))
		if err == nil {
			t.Errorf("%s: taken: %+v", name, tok)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the thief was asked %d times", asked.Load())
	}
}

// A key is used with the algorithms of its kind alone.
func TestKeyConfusion(t *testing.T) {
	f := oidctest.NewForger(t)
	r, small := oidctest.RSAKey(t, 2048), oidctest.RSAKey(t, 1024)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	f.Publish(oidctest.Public("r", "", &r.PublicKey), oidctest.Public("small", "", &small.PublicKey), oidctest.Public("p256", "", &p256.PublicKey),
		oidctest.Public("p384", "", &p384.PublicKey), oidctest.Public("ps", "PS256", &r.PublicKey))
	v, err := oidc.New([]oidc.Issuer{{URL: f.URL, Audience: "sallyport", Algorithms: []string{"RS256", "ES256", "PS256", "ES384"}}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	kid := func(id string) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{"kid": id} }
	for name, raw := range map[string]string{
		"RS256": oidctest.Sign(t, jose.RS256, r, kid("r"), f.Claims()), "PS256": oidctest.Sign(t, jose.PS256, r, kid("r"), f.Claims()),
		"ES256": oidctest.Sign(t, jose.ES256, p256, kid("p256"), f.Claims()), "ES384": oidctest.Sign(t, jose.ES384, p384, kid("p384"), f.Claims()),
		"no kid": oidctest.Sign(t, jose.RS256, r, nil, f.Claims()),
	} {
		if _, err := verify(v, raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	forge := func(alg, id string, sig []byte) string {
		return b64(map[string]string{"alg": alg, "kid": id}) + "." + b64(f.Claims()) + "." + b64(sig)
	}
	weak := b64(map[string]string{"alg": "RS256", "kid": "small"}) + "." + b64(f.Claims())
	sum := sha256.Sum256([]byte(weak))
	sig, err := rsa.SignPKCS1v15(nil, small, crypto.SHA256, sum[:]) // which is good
	if err != nil {
		t.Fatal(err)
	}
	weak += "." + b64(sig)
	for name, raw := range map[string]string{
		"RSA's key for ES256":    forge("ES256", "r", make([]byte, 64)),
		"P-384's for ES256":      forge("ES256", "p384", make([]byte, 64)),
		"an elliptic for RS256":  forge("RS256", "p256", make([]byte, 256)),
		"a key for PS256 alone":  oidctest.Sign(t, jose.RS256, r, kid("ps"), f.Claims()),
		"a key of 1024 bits":     weak,
		"HMAC with a public key": forge("HS256", "r", make([]byte, 32)),
		"none":                   forge("none", "r", nil),
		"None":                   forge("None", "r", nil),
	} {
		if tok, err := verify(v, raw); err == nil {
			t.Errorf("%s: taken: %+v", name, tok)
		}
	}
}

// An issuer's key is good for its own tokens only.
func TestIssuersAreNotMixedUp(t *testing.T) {
	a, b, k := oidctest.NewForger(t), oidctest.NewForger(t), oidctest.RSAKey(t, 2048)
	mine := oidctest.RSAKey(t, 2048)
	a.Publish(oidctest.Public("k", "RS256", &k.PublicKey))
	b.Publish(oidctest.Public("k", "RS256", &mine.PublicKey))
	v := verifier(t, time.Now, a.URL, b.URL)
	kid := map[jose.HeaderKey]any{"kid": "k"}
	for raw, why := range map[string]string{
		oidctest.Sign(t, jose.RS256, mine, kid, a.Claims()):                                 "does not hold",
		oidctest.Sign(t, jose.RS256, k, kid, b.Claims()):                                    "does not hold",
		oidctest.Sign(t, jose.RS256, k, kid, a.Claims("iss", a.URL+"/")):                    "not among identity.issuers",
		oidctest.Sign(t, jose.RS256, k, kid, a.Claims("iss", strings.ToUpper(a.URL))):       "not among identity.issuers",
		oidctest.Sign(t, jose.RS256, k, kid, a.Claims("iss", []string{a.URL, b.URL})):       "no iss",
		oidctest.Sign(t, jose.RS256, k, kid, a.Claims("iss", nil, "ISS", a.URL, "x", "x")):  "no iss",
		oidctest.Sign(t, jose.RS256, k, kid, a.Claims("iss", a.URL+"\x00", "x", "another")): "not among identity.issuers",
	} {
		refused(t, v, raw, why)
	}
}

func TestParties(t *testing.T) {
	f, v, sign := forged(t, func(is *oidc.Issuer) { is.Parties = []string{"console", "agents"} }, time.Now)
	for name, c := range map[string]struct {
		claims map[string]any
		why    string
	}{
		"azp":                {f.Claims("azp", "console"), ""},
		"client_id":          {f.Claims("client_id", "agents"), ""},
		"both":               {f.Claims("azp", "agents", "client_id", "agents"), ""},
		"both, two of them":  {f.Claims("azp", "agents", "client_id", "console"), "two parties"},
		"another":            {f.Claims("azp", "else"), "not among identity.issuers (azp)"},
		"none":               {f.Claims(), "not among identity.issuers (azp)"},
		"no text":            {f.Claims("azp", []string{"agents"}), "azp claim"},
		"another, overruled": {f.Claims("azp", "else", "client_id", "agents"), "two parties"},
	} {
		raw := sign(c.claims)
		if c.why != "" {
			refused(t, v, raw, c.why)
		} else if tok, err := verify(v, raw); err != nil || tok.Party == "" {
			t.Errorf("%s: %+v %v", name, tok, err)
		}
	}
}

// A second decides, and the clock that decides is the passage's.
func TestSeconds(t *testing.T) {
	var off atomic.Int64
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now.Add(time.Duration(off.Load())) }
	f, v, sign := forged(t, func(is *oidc.Issuer) { is.MaxAge = time.Hour }, clock)
	at := func(s int64) int64 { return now.Unix() + s }
	exp := sign(f.Claims("iat", at(-100), "exp", at(60)))
	for d, why := range map[time.Duration]string{
		59 * time.Second: "", time.Minute - 1: "", time.Minute: "expired at", 61 * time.Second: "expired at",
		-100 * time.Second: "", -101 * time.Second: "holds only from", -24 * time.Hour: "holds only from", 24 * time.Hour: "expired at",
	} {
		off.Store(int64(d))
		if _, err := verify(v, exp); (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%v: %v", d, err)
		} else if why == "expired at" && !errors.Is(err, identity.ErrExpired) {
			t.Errorf("%v: %v is not ErrExpired", d, err)
		}
	}
	off.Store(0)
	refused(t, v, sign(f.Claims("iat", at(-3601), "exp", at(60))), "expired at")
	refused(t, v, sign(f.Claims("iat", nil)), "max_age")
	tok, err := verify(v, sign(f.Claims("iat", at(-3000), "exp", at(9000))))
	if err != nil || !tok.Expires.Equal(now.Add(600*time.Second)) {
		t.Errorf("max_age: %+v %v", tok, err)
	}
}

func TestOneTime(t *testing.T) {
	var off atomic.Int64
	f, v, sign := forged(t, func(is *oidc.Issuer) { is.OneTime = true }, func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
	later := time.Now().Unix() + 2
	use := func(raw string) error {
		tok, err := verify(v, raw)
		if err != nil {
			return err
		}
		return v.Spend(tok)
	}
	fails := func(err error, why string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("want a refusal with %q, got %v", why, err)
		}
	}
	fails(use(sign(f.Claims("iat", later-60, "jti", "early"))), "before this passage could know")
	off.Store(int64(3 * time.Second))
	fails(use(sign(f.Claims("iat", later))), "jti claim")
	fails(use(sign(f.Claims("iat", nil, "jti", "x"))), "iat")
	once := sign(f.Claims("iat", later, "exp", later+60, "jti", "one"))
	if err := use(once); err != nil {
		t.Fatal(err)
	}
	fails(use(once), "used before")
	// Another token with its id is the same one.
	fails(use(sign(f.Claims("iat", later, "exp", later+90, "jti", "one", "sub", "agent-b"))), "used before")
	if err := use(sign(f.Claims("iat", later, "jti", "two"))); err != nil {
		t.Fatal(err)
	}
	// It is forgotten when it has expired, and a clock set back lets nothing in.
	tok, err := verify(v, once)
	if err != nil {
		t.Fatal(err)
	}
	off.Store(int64(5 * time.Minute))
	if err := use(sign(f.Claims("iat", later, "exp", later+900, "jti", "three"))); err != nil {
		t.Fatal(err)
	}
	off.Store(int64(3 * time.Second))
	fails(v.Spend(tok), "expired")
	var tokens []*identity.Token
	for i := range 64<<10 + 1 {
		tokens = append(tokens, &identity.Token{Issuer: f.URL, OneTime: true, ID: fmt.Sprint("n", i), Issued: time.Now().Add(time.Minute), Expires: time.Now().Add(time.Hour)})
	}
	var full error
	for _, tok := range tokens {
		if full = v.Spend(tok); full != nil {
			break
		}
	}
	fails(full, "try again when some have expired")
}

// Keys hold for as long as configured without their issuer, and no longer.
func TestGrace(t *testing.T) {
	f, v, sign := forged(t, func(is *oidc.Issuer) { is.Grace = 2 * time.Second }, time.Now)
	raw := sign(f.Claims())
	tok, err := verify(v, raw)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Until(tok.Fresh); d > 2*time.Second || d < time.Second {
		t.Errorf("believed for %v", d)
	}
	f.CloseClientConnections()
	f.Listener.Close()
	if _, err := verify(v, sign(f.Claims("sub", "agent-b"))); err != nil {
		t.Fatal("the issuer is down:", err)
	}
	time.Sleep(2100 * time.Millisecond)
	refused(t, v, raw, "cannot be had")
}

// An issuer that hangs holds nobody up whose key is known, and others only as
// long as they have.
func TestSlowKeys(t *testing.T) {
	f, v, sign := forged(t, nil, time.Now)
	f.Hang.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := v.Verify(ctx, sign(f.Claims()), ""); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
	f.Hang.Store(false)
	// The question that hangs is given up after a while, and asked again.
	_, err := verify(v, sign(f.Claims()))
	if err != nil {
		_, err = verify(v, sign(f.Claims()))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Hang.Store(true)
	ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, sign(f.Claims(), "kid", "unknown"), ""); err == nil {
		t.Fatal("taken")
	}
	if _, err := v.Verify(ctx, sign(f.Claims()), ""); err != nil {
		t.Fatal("its key is known:", err)
	}
}
