// Package samltest runs a real identity provider of SAML (crewjam/saml's
// samlidp) for tests, on loopback over TLS, logs people in there as a browser
// does, and forges responses.
package samltest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crewjam/saml/samlidp"
	dsig "github.com/russellhaering/goxmldsig"
)

// Person is somebody whom every provider knows.
type Person struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Mail     string   `json:"email"`
	Groups   []string `json:"groups"`
}

// People of every provider.
var People = []Person{
	{"alice", "alice's password", "alice@clinic.example", []string{"doctors", "night shift"}},
	{"mallory", "mallory's password", "mallory@clinic.example", []string{"visitors"}},
}

// Names of attributes that the provider sends.
const (
	UID    = "urn:oid:0.9.2342.19200300.100.1.1"
	Mail   = "urn:oid:0.9.2342.19200300.100.1.3"
	Groups = "urn:oid:1.3.6.1.4.1.5923.1.1.1.1"
)

// IdP is a running provider.
type IdP struct {
	*httptest.Server
	EntityID    string
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey

	t    testing.TB
	idp  *samlidp.Server
	http *http.Client
}

// Start starts a provider that knows a service: its entity id, and where
// responses go. It ends with the test.
func Start(t testing.TB, service, acs string) *IdP {
	t.Helper()
	p := &IdP{t: t}
	p.Key, p.Certificate = KeyPair(t)
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.idp, err = samlidp.New(samlidp.Options{
		URL: *at, Key: p.Key, Certificate: p.Certificate, Store: &samlidp.MemoryStore{}, Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.idp.IDP.SignatureMethod = dsig.RSASHA256SignatureMethod
	p.EntityID = p.URL + "/metadata"
	mux.Handle("/", p.idp)
	p.http = p.Client()
	for i := range People {
		b, _ := json.Marshal(&People[i])
		p.put("/users/"+People[i].Name, b)
	}
	p.put("/services/sallyport", []byte(Service(service, acs)))
	return p
}

// KeyPair makes a key and its certificate, as a provider's.
func KeyPair(t testing.TB) (*rsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "provider"},
		NotBefore: time.Now().Add(-10 * 365 * 24 * time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}

// Service is the metadata of a service.
func Service(entityID, acs string) string {
	return fmt.Sprintf(`<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID=%q>
<SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
<AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location=%q index="0"/>
</SPSSODescriptor></EntityDescriptor>`, entityID, acs)
}

func (p *IdP) put(path string, body []byte) {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPut, p.URL+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("PUT %s: %s %s", path, resp.Status, b)
	}
}

// Metadata is what the provider says of itself.
func (p *IdP) Metadata() []byte {
	p.t.Helper()
	resp, err := p.http.Get(p.EntityID)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// Pin is the SHA-256 of the provider's certificate.
func (p *IdP) Pin() [sha256.Size]byte { return sha256.Sum256(p.Certificate.Raw) }

// Answer is the form that the provider has the browser post.
type Answer struct{ To, Response, RelayState string }

var (
	action = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)
	input  = regexp.MustCompile(`<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"`)
)

// Login goes where a request leads, fills in the provider's form, and returns
// what a browser would then post.
func (p *IdP) Login(request, user, password string) *Answer {
	p.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	browser := *p.http
	browser.Jar = jar
	to, fields := p.page(browser.Get(request))
	if _, ok := fields["password"]; !ok {
		p.t.Fatalf("the provider does not ask for a password: %v", fields)
	}
	fields.Set("user", user)
	fields.Set("password", password)
	if to, fields = p.page(browser.PostForm(to, fields)); fields.Get("SAMLResponse") == "" {
		// It has set its cookie, and is asked once more.
		to, fields = p.page(browser.Get(request))
	}
	if fields.Get("SAMLResponse") == "" {
		p.t.Fatalf("the provider does not let %s in", user)
	}
	return &Answer{to, fields.Get("SAMLResponse"), fields.Get("RelayState")}
}

// page reads the form of a page.
func (p *IdP) page(resp *http.Response, err error) (to string, fields url.Values) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("the provider: %s %s %v", resp.Status, b, err)
	}
	if m := action.FindSubmatch(b); m != nil {
		to = html.UnescapeString(string(m[1]))
	}
	fields = url.Values{}
	for _, m := range input.FindAllSubmatch(b, -1) {
		fields.Set(string(m[1]), html.UnescapeString(string(m[2])))
	}
	return to, fields
}

// Post posts the answer as the browser would, and returns what it is told.
func (a *Answer) Post(t testing.TB) string {
	t.Helper()
	resp, err := http.PostForm(a.To, url.Values{"SAMLResponse": {a.Response}, "RelayState": {a.RelayState}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, b))
}
