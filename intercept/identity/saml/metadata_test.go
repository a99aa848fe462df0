package saml_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
)

// What a provider's metadata must be, at the start already.
func TestMetadata(t *testing.T) {
	p := samltest.Start(t, service, acs)
	other, _ := samltest.KeyPair(t)
	_, signer := samltest.KeyPair(t)
	text := string(p.Metadata())
	cert := base64.StdEncoding.EncodeToString(p.Certificate.Raw)
	for name, c := range map[string]struct {
		change func(*saml.Provider)
		why    string
	}{
		"another provider's": {func(q *saml.Provider) { q.EntityID = "https://other.example" }, "not of https://other.example"},
		"a DTD":              {md("<!DOCTYPE x>" + text), "DTD"},
		"no XML":             {md("{}"), "EntityDescriptor"},
		"a list of them":     {md(`<EntitiesDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata">` + text + `</EntitiesDescriptor>`), "one provider"},
		"a service's":        {md(samltest.Service(p.EntityID, acs)), "one identity provider"},
		"ended":              {ended(text), "was valid until"},
		"no key":             {md(strings.ReplaceAll(text, cert, "")), "certificate"},
		"huge":               {md(text + strings.Repeat(" ", 1<<20)), "at most"},
		"another pin":        {func(q *saml.Provider) { q.Metadata.Pins = [][32]byte{{1}} }, "none of the certificates that are pinned"},
		"an empty pin":       {func(q *saml.Provider) { q.Metadata.Pins = [][32]byte{{}} }, "a pin is empty"},
		"not signed":         {func(q *saml.Provider) { q.Metadata.Signer = signer }, "not signed"},
		"signed by another": {func(q *saml.Provider) {
			q.Metadata.Signer, q.Metadata.Text = signer, signedMetadata(t, p, func(el *etree.Element) *etree.Element {
				return samltest.Sign(t, el, other, p.Certificate, dsig.RSASHA256SignatureMethod)
			})
		}, "does not hold"},
		"login in clear":        {md(strings.ReplaceAll(text, `Location="https://`, `Location="http://idp.example/`)), "no https URL"},
		"requests to be signed": {md(strings.Replace(text, "<IDPSSODescriptor ", `<IDPSSODescriptor WantAuthnRequestsSigned="true" `, 1)), "signed requests"},
		"an ECDSA key":          {md(strings.ReplaceAll(text, cert, base64.StdEncoding.EncodeToString(ecCert(t)))), "must be RSA"},
		"a URL by trust":        {func(q *saml.Provider) { q.Metadata = saml.Metadata{URL: p.EntityID} }, "needs pins"},
		"a URL in clear": {func(q *saml.Provider) {
			q.Metadata = saml.Metadata{URL: "http://idp.example/metadata", Pins: [][32]byte{p.Pin()}}
		}, "https URL"},
		"both":    {func(q *saml.Provider) { q.Metadata.URL = p.EntityID }, "a file or a URL"},
		"neither": {func(q *saml.Provider) { q.Metadata = saml.Metadata{} }, "a file or a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			q := provider(p)
			c.change(&q)
			_, err := saml.New([]saml.Provider{q}, saml.NewLogins(time.Now), time.Now)
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
	q := provider(p)
	if _, err := saml.New([]saml.Provider{q, q}, saml.NewLogins(time.Now), time.Now); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
	key, cert2 := samltest.KeyPair(t)
	q.Metadata.Signer, q.Metadata.Pins = cert2, [][32]byte{p.Pin()}
	q.Metadata.Text = signedMetadata(t, p, func(el *etree.Element) *etree.Element {
		return samltest.Sign(t, el, key, cert2, dsig.RSASHA256SignatureMethod)
	})
	if _, err := saml.New([]saml.Provider{q}, saml.NewLogins(time.Now), time.Now); err != nil {
		t.Error(err)
	}
	// What is changed under the signature, or stands outside of it, is not read.
	q.Metadata.Text = bytes.Replace(q.Metadata.Text, []byte("/sso"), []byte("/evil"), 1)
	if _, err := saml.New([]saml.Provider{q}, saml.NewLogins(time.Now), time.Now); err == nil || !strings.Contains(err.Error(), "does not hold") {
		t.Error(err)
	}
}

func md(text string) func(*saml.Provider) {
	return func(q *saml.Provider) { q.Metadata.Text = []byte(text) }
}

func ended(text string) func(*saml.Provider) {
	doc := etree.NewDocument()
	_ = doc.ReadFromString(text)
	doc.Root().CreateAttr("validUntil", "2020-01-01T00:00:00Z")
	s, _ := doc.WriteToString()
	return md(s)
}

func signedMetadata(t *testing.T, p *samltest.IdP, sign func(*etree.Element) *etree.Element) []byte {
	t.Helper()
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(p.Metadata()); err != nil {
		t.Fatal(err)
	}
	root := doc.Root()
	root.CreateAttr("ID", "md")
	doc.SetRoot(sign(root))
	b, err := doc.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ecCert(t *testing.T) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificate(t *testing.T) {
	_, c := samltest.KeyPair(t)
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	if got, err := saml.Certificate(good); err != nil || !got.Equal(c) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"two": append(append([]byte{}, good...), good...), "none": {}, "DER": c.Raw,
		"a key": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: c.RawSubjectPublicKeyInfo}),
		"ECDSA": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ecCert(t)}),
	} {
		if _, err := saml.Certificate(b); err == nil {
			t.Error(name)
		}
	}
}

// Metadata from a URL: over TLS that is verified, pinned, without redirects, kept
// while it does not answer, and only so long.
func TestMetadataOfURL(t *testing.T) {
	w := start(t)
	var down, asked atomic.Int32
	var text atomic.Pointer[[]byte]
	good := w.Metadata()
	text.Store(&good)
	s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case r.URL.Path == "/moved":
			http.Redirect(rw, r, "/", http.StatusFound)
		case down.Load() == 1:
			http.Error(rw, "down", http.StatusServiceUnavailable)
		default:
			_, _ = rw.Write(*text.Load())
		}
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	by := func(change func(*saml.Provider)) *saml.Verifier {
		p := provider(w.IdP)
		p.Metadata = saml.Metadata{URL: s.URL + "/", Pins: [][sha256.Size]byte{w.Pin()}, Roots: roots}
		if change != nil {
			change(&p)
		}
		return w.verifier(p)
	}
	ctx := context.Background()
	for name, c := range map[string]struct {
		change func(*saml.Provider)
		why    string
	}{
		"a server that nobody vouches for": {func(p *saml.Provider) { p.Metadata.Roots = x509.NewCertPool() }, "certificate"},
		"another key than was pinned":      {func(p *saml.Provider) { p.Metadata.Pins = [][32]byte{{1}} }, "pinned"},
		"a redirect":                       {func(p *saml.Provider) { p.Metadata.URL = s.URL + "/moved" }, "302"},
		"nobody there":                     {func(p *saml.Provider) { p.Metadata.URL = "https://127.0.0.1:1/" }, "refused"},
	} {
		if _, err := by(c.change).Begin(ctx, "clinic"); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	asked.Store(0)
	w.Verifier = by(nil)
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times before anybody logged in", n)
	}
	a := w.login()
	if _, err := w.Accept(ctx, a.Response); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	// While it is away what came holds, for as long as it is said.
	down.Store(1)
	if _, err := w.Verify(ctx, a.Response, ""); err != nil {
		t.Error(err)
	}
	_, cert := samltest.KeyPair(t)
	short := func(p *saml.Provider) {
		p.Metadata.Grace, p.Metadata.Pins = time.Second, append(p.Metadata.Pins, sha256.Sum256(cert.Raw))
	}
	w.Verifier = by(short)
	if _, err := w.Begin(ctx, "clinic"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
	down.Store(0)
	w.Verifier = by(short)
	a = w.login()
	if _, err := w.Accept(ctx, a.Response); err != nil {
		t.Fatal(err)
	}
	down.Store(1)
	time.Sleep(time.Second)
	if _, err := w.Verify(ctx, a.Response, ""); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("believed without the provider's metadata: %v", err)
	}
	// The provider has another key now: what the old one signed is over.
	w.Verifier = by(short)
	down.Store(0)
	a = w.login()
	if _, err := w.Accept(ctx, a.Response); err != nil {
		t.Fatal(err)
	}
	rotated := bytes.ReplaceAll(good, []byte(base64.StdEncoding.EncodeToString(w.Certificate.Raw)), []byte(base64.StdEncoding.EncodeToString(cert.Raw)))
	text.Store(&rotated)
	time.Sleep(time.Second)
	if _, err := w.Verify(ctx, a.Response, ""); err == nil || !strings.Contains(err.Error(), "does not hold") {
		t.Errorf("believed by a key that was withdrawn: %v", err)
	}
}
