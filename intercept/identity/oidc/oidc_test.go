package oidc_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

func TestMain(m *testing.M) {
	code := oidctest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func verifier(t testing.TB, now func() time.Time, urls ...string) *oidc.Verifier {
	t.Helper()
	var is []oidc.Issuer
	for _, u := range urls {
		is = append(is, oidc.Issuer{URL: u, Audience: "sallyport", Algorithms: []string{"RS256", "ES256"}, Skew: 5 * time.Second})
	}
	v, err := oidc.New(is, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verify(v *oidc.Verifier, raw string) (*identity.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return v.Verify(ctx, raw, "")
}

func refused(t *testing.T, v *oidc.Verifier, raw, why string) {
	t.Helper()
	tok, err := verify(v, raw)
	if err == nil || tok != nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("want a refusal with %q, got %v, %v", why, tok, err)
	}
	for _, part := range strings.Split(raw, ".") {
		if len(part) > 20 && strings.Contains(err.Error(), part) {
			t.Fatalf("the error holds the token: %v", err)
		}
	}
}

func b64(v any) string {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func TestVerify(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		t.Run(alg, func(t *testing.T) {
			p := oidctest.Start(t, "--alg", alg)
			tok, err := verify(verifier(t, time.Now, p.Issuer), p.Token("agent-a"))
			if err != nil {
				t.Fatal(err)
			}
			if tok.Issuer != p.Issuer || tok.Subject != "agent-a" || tok.Actors != nil || tok.Presenter() != "agent-a" ||
				tok.Audience[0] != "sallyport" || tok.Claims["client_id"] != "agent-a" ||
				time.Until(tok.Expires) > 6*time.Minute || time.Now().Before(tok.NotBefore) {
				t.Fatalf("%+v", tok)
			}
		})
	}
}

func TestVerifyActors(t *testing.T) {
	p := oidctest.Start(t)
	tok, err := verify(verifier(t, time.Now, p.Issuer), p.Token("agent-a", "--for", "alice:"+oidctest.Clients["alice"]))
	if err != nil || tok.Subject != "alice" || len(tok.Actors) != 1 || tok.Presenter() != "agent-a" {
		t.Fatalf("%+v %v", tok, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	p, stranger := oidctest.Start(t), oidctest.Start(t)
	v := verifier(t, time.Now, p.Issuer)
	good := p.Token("agent-a")
	if _, err := verify(v, good); err != nil {
		t.Fatal(err)
	}
	part := strings.Split(good, ".")
	sig, _ := base64.RawURLEncoding.DecodeString(part[2])
	sig[10] ^= 1
	payload, _ := base64.RawURLEncoding.DecodeString(part[1])
	forged := b64([]byte(strings.Replace(string(payload), "agent-a", "agent-b", 1)))
	// The classic confusion: an HMAC keyed with the public key.
	keys := get(t, p.Issuer+"/keys")
	hs := b64(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + part[1]
	mac := hmac.New(sha256.New, keys)
	mac.Write([]byte(hs))
	for name, c := range map[string]struct{ raw, why string }{
		"audience":      {p.Token("agent-a", "--audience", "other"), "audience"},
		"issuer":        {stranger.Token("agent-a"), "not among identity.issuers"},
		"alg none":      {b64(map[string]string{"alg": "none"}) + "." + part[1] + ".", "not signed with one of"},
		"alg HS256":     {hs + "." + b64(mac.Sum(nil)), "not signed with one of"},
		"tampered":      {part[0] + "." + forged + "." + part[2], "does not hold"},
		"signature":     {part[0] + "." + part[1] + "." + b64(sig), "does not hold"},
		"no signature":  {part[0] + "." + part[1] + ".", "does not hold"},
		"other's key":   {strings.Split(stranger.Token("agent-a"), ".")[0] + "." + part[1] + "." + part[2], "does not publish"},
		"two parts":     {part[0] + "." + part[1], "no signed JWT"},
		"nothing":       {"", "no signed JWT"},
		"binary":        {"\x00.\xff.\x01", "base64url"},
		"not JSON":      {part[0] + "." + b64([]byte("{")) + "." + part[2], "no JSON"},
		"two tokens":    {good + " " + good, "no signed JWT"},
		"oversize":      {strings.Repeat("a", 64<<10) + "." + part[1] + ".x", "longer than"},
		"whole as JSON": {`{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`, "no signed JWT"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, c.raw, c.why) })
	}
	t.Run("workload's issuer", func(t *testing.T) {
		both := verifier(t, time.Now, p.Issuer, stranger.Issuer)
		if _, err := both.Verify(context.Background(), good, stranger.Issuer); err == nil {
			t.Fatal("taken")
		}
		if _, err := both.Verify(context.Background(), good, p.Issuer); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("algorithm not allowed", func(t *testing.T) {
		v, err := oidc.New([]oidc.Issuer{{URL: p.Issuer, Audience: "sallyport", Algorithms: []string{"ES256"}}}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, v, good, "not signed with one of ES256")
	})
}

func TestTimes(t *testing.T) {
	p := oidctest.Start(t)
	raw := p.Token("agent-a", "--life", "1m")
	for name, c := range map[string]struct {
		off time.Duration
		why string // "" where it holds
	}{
		"now":           {0, ""},
		"nearly over":   {55 * time.Second, ""},
		"within skew":   {62 * time.Second, ""},
		"over":          {66 * time.Second, "expired at"},
		"long over":     {24 * time.Hour, "expired at"},
		"ahead, skewed": {-3 * time.Second, ""},
		"ahead":         {-time.Minute, "holds only from"},
	} {
		t.Run(name, func(t *testing.T) {
			v := verifier(t, func() time.Time { return time.Now().Add(c.off) }, p.Issuer)
			if c.why != "" {
				refused(t, v, raw, c.why)
			} else if _, err := verify(v, raw); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestKeyRotation(t *testing.T) {
	p := oidctest.Start(t)
	v := verifier(t, time.Now, p.Issuer)
	first := p.Token("agent-a")
	if _, err := verify(v, first); err != nil {
		t.Fatal(err)
	}
	p.Rotate()
	second := p.Token("agent-a")
	for _, raw := range []string{second, first} {
		if _, err := verify(v, raw); err != nil {
			t.Fatal(err)
		}
	}
	p.Rotate("--withdraw")
	if _, err := verify(v, p.Token("agent-a")); err != nil {
		t.Fatal(err)
	}
	refused(t, v, first, "does not publish")
	refused(t, v, second, "does not publish")
}

func TestIssuerDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	v := verifier(t, time.Now, "http://"+addr)
	elsewhere := oidctest.Start(t)
	raw := strings.Split(elsewhere.Token("agent-a"), ".")
	claim := b64(map[string]any{"iss": "http://" + addr, "sub": "agent-a", "aud": "sallyport"})
	refused(t, v, raw[0]+"."+claim+"."+raw[2], "cannot be had")

	p := oidctest.Start(t, "--listen", addr)
	good := p.Token("agent-a")
	if _, err := verify(v, good); err != nil {
		t.Fatal("the issuer is up now:", err)
	}
	other := p.Token("agent-b")
	p.Stop()
	// Its keys are known: tokens that they verify hold on.
	if _, err := verify(v, other); err != nil {
		t.Fatal("the issuer is away:", err)
	}
	refused(t, v, raw[0]+"."+strings.Split(good, ".")[1]+"."+raw[2], "cannot be had")
}

// A token with a made-up key id makes one fetch a second, not one each.
func TestUnknownKeysDoNotHammerTheIssuer(t *testing.T) {
	var asked atomic.Int32
	p := oidctest.Start(t)
	url := faulty(t, p, func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	v := verifier(t, time.Now, url)
	raw := strings.Split(p.Token("agent-a"), ".")
	head := b64(map[string]string{"alg": "RS256", "kid": "made up"})
	done := make(chan error)
	for range 50 {
		go func() {
			_, err := verify(v, head+"."+b64(map[string]any{"iss": url, "sub": "x"})+"."+raw[2])
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err == nil {
			t.Fatal("taken")
		}
	}
	if n := asked.Load(); n > 8 {
		t.Fatalf("%d requests", n)
	}
}

// faulty is a way to the real provider where answers can be spoilt.
func faulty(t *testing.T, p *oidctest.Provider, spoil func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	var url string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil(w, r) {
			return
		}
		_, _ = w.Write([]byte(strings.ReplaceAll(string(get(t, p.Issuer+r.URL.Path)), p.Issuer, url)))
	}))
	t.Cleanup(srv.Close)
	url = srv.URL
	return url
}

func TestSpoiltAnswers(t *testing.T) {
	p := oidctest.Start(t)
	good := strings.Split(p.Token("agent-a"), ".")
	for name, spoil := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"redirect": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, p.Issuer+r.URL.Path, http.StatusFound)
			return true
		},
		"endless": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte(`{"issuer":"` + strings.Repeat("x", 2<<20)))
			return true
		},
		"error": func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(500); return true },
		"other issuer": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write(get(t, p.Issuer+r.URL.Path))
			return true
		},
		"plain keys elsewhere": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte(`{"issuer":"http://` + r.Host + `","jwks_uri":"http://192.0.2.1/keys"}`))
			return true
		},
		"no keys": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/keys") {
				return false
			}
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"new"}]}`))
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := faulty(t, p, spoil)
			claim := b64(map[string]any{"iss": url, "sub": "agent-a", "aud": "sallyport"})
			refused(t, verifier(t, time.Now, url), good[0]+"."+claim+"."+good[2], "cannot be had")
		})
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return b
}

func TestNewRefuses(t *testing.T) {
	ok := oidc.Issuer{URL: "https://issuer.example", Audience: "a", Algorithms: []string{"RS256"}}
	for name, change := range map[string]func(*oidc.Issuer){
		"no url":    func(i *oidc.Issuer) { i.URL = "" },
		"plain":     func(i *oidc.Issuer) { i.URL = "http://issuer.example" },
		"user":      func(i *oidc.Issuer) { i.URL = "https://u:p@issuer.example" },
		"audience":  func(i *oidc.Issuer) { i.Audience = "" },
		"none":      func(i *oidc.Issuer) { i.Algorithms = []string{"none"} },
		"HS256":     func(i *oidc.Issuer) { i.Algorithms = []string{"HS256"} },
		"no alg":    func(i *oidc.Issuer) { i.Algorithms = nil },
		"skew":      func(i *oidc.Issuer) { i.Skew = -1 },
		"unchanged": nil,
	} {
		i := ok
		if change != nil {
			change(&i)
		}
		if _, err := oidc.New([]oidc.Issuer{i}, time.Now); (err == nil) != (change == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := oidc.New([]oidc.Issuer{ok, ok}, time.Now); err == nil {
		t.Error("took an issuer twice")
	}
}

// Nothing that was not signed by the issuer comes through.
func FuzzVerify(f *testing.F) {
	v := verifier(f, time.Now, "http://127.0.0.1:1")
	claim := b64(map[string]any{"iss": "http://127.0.0.1:1", "sub": "a", "aud": "sallyport", "exp": 1 << 40})
	f.Add(b64(map[string]string{"alg": "none"}) + "." + claim + ".")
	f.Add(b64(map[string]string{"alg": "HS256"}) + "." + claim + ".AAAA")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, raw string) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if tok, err := v.Verify(ctx, raw, ""); err == nil || tok != nil {
			t.Fatalf("%q is taken: %+v", raw, tok)
		}
	})
}
