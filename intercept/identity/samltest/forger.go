package samltest

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"testing"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// Forged is a response that is being changed.
type Forged struct {
	t   testing.TB
	Doc *etree.Document
}

// Forge begins with a response that a provider gave, without the signature of
// the whole: that of its assertion stands.
func Forge(t testing.TB, response string) *Forged {
	t.Helper()
	f := Whole(t, response)
	Strip(f.Response())
	return f
}

// Whole begins with a response as a provider gave it.
func Whole(t testing.TB, response string) *Forged {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(response)
	if err != nil {
		t.Fatal(err)
	}
	f := &Forged{t: t, Doc: etree.NewDocument()}
	if err := f.Doc.ReadFromBytes(b); err != nil {
		t.Fatal(err)
	}
	return f
}

// Response is the root.
func (f *Forged) Response() *etree.Element { return f.Doc.Root() }

// Assertion is the first one that stands right in the response.
func (f *Forged) Assertion() *etree.Element { return f.Find(f.Doc.Root(), "Assertion") }

// Find returns the first element of a local name in el.
func (f *Forged) Find(el *etree.Element, tag string) *etree.Element {
	f.t.Helper()
	got := Look(el, tag)
	if got == nil {
		f.t.Fatalf("no %s in %s", tag, el.Tag)
	}
	return got
}

// Look is Find where there may be none.
func Look(el *etree.Element, tag string) *etree.Element {
	for _, c := range el.ChildElements() {
		if c.Tag == tag {
			return c
		}
		if d := Look(c, tag); d != nil {
			return d
		}
	}
	return nil
}

// Strip removes the signatures right in el, and returns the last of them.
func Strip(el *etree.Element) (sig *etree.Element) {
	for _, c := range el.ChildElements() {
		if c.Tag == "Signature" {
			el.RemoveChild(c)
			sig = c
		}
	}
	return sig
}

// Resign signs the assertion anew, by a key of anybody's and a method.
func (f *Forged) Resign(key *rsa.PrivateKey, cert *x509.Certificate, method string) *Forged {
	f.t.Helper()
	a := f.Assertion()
	at := a.Index()
	Strip(a)
	signed := Sign(f.t, a, key, cert, method)
	f.Response().RemoveChild(a)
	f.Response().InsertChildAt(at, signed)
	return f
}

// ResignAll signs the response anew too.
func (f *Forged) ResignAll(key *rsa.PrivateKey, cert *x509.Certificate) *Forged {
	f.t.Helper()
	Strip(f.Response())
	f.Doc.SetRoot(Sign(f.t, f.Response(), key, cert, dsig.RSASHA256SignatureMethod))
	return f
}

// Sign returns a copy of el with an enveloped signature.
func Sign(t testing.TB, el *etree.Element, key *rsa.PrivateKey, cert *x509.Certificate, method string) *etree.Element {
	t.Helper()
	ctx := dsig.NewDefaultSigningContext(dsig.TLSCertKeyStore(tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}))
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := ctx.SetSignatureMethod(method); err != nil {
		t.Fatal(err)
	}
	signed, err := ctx.SignEnveloped(el)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Raw is the response as a browser posts it.
func (f *Forged) Raw() string {
	f.t.Helper()
	b, err := f.Doc.WriteToBytes()
	if err != nil {
		f.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}
