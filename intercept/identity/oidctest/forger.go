package oidctest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// Forger is an issuer that says and signs what a test wants: for faults only.
type Forger struct {
	*httptest.Server
	Hang atomic.Bool // the key set does not come
	// Exchange answers at the token end point; set it before the first token.
	Exchange func(w http.ResponseWriter, subject string)

	mu   sync.Mutex
	keys []any // of the key set: JSON Web Keys
}

// NewForger starts one; it ends with the test.
func NewForger(t testing.TB) *Forger {
	f := &Forger{}
	gone := make(chan struct{})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"token_endpoint":%q}`, f.URL, f.URL+"/keys", f.URL+"/token")
			return
		}
		if r.URL.Path == "/token" && f.Exchange != nil {
			f.Exchange(w, r.PostFormValue("subject_token"))
			return
		}
		if f.Hang.Load() {
			select {
			case <-r.Context().Done():
			case <-gone:
			}
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": f.keys})
	}))
	t.Cleanup(func() { close(gone); f.Close() })
	return f
}

// Publish replaces the key set.
func (f *Forger) Publish(keys ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = keys
}

// Public is a JSON Web Key of a key set; alg may be "".
func Public(id, alg string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Algorithm: alg, Use: "sig", Key: key}
}

// Claims are good ones; the pairs change them, nil takes one away.
func (f *Forger) Claims(change ...any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": f.URL, "sub": "agent-a", "aud": "sallyport", "iat": now, "exp": now + 300}
	for i := 0; i < len(change); i += 2 {
		if c[change[i].(string)] = change[i+1]; change[i+1] == nil {
			delete(c, change[i].(string))
		}
	}
	return c
}

// Sign makes a compact JWS of a payload: text as it is, or JSON.
func Sign(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, payload any) string {
	t.Helper()
	o := &jose.SignerOptions{ExtraHeaders: header}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := payload.(string)
	if !ok {
		b, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	sig, err := s.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := sig.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// RSAKey makes a key.
func RSAKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
