package saml_test

import (
	"encoding/base64"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
)

// kept is a response that a real provider gave once, and a verifier that knows
// its metadata: the same in each of the fuzzer's processes.
func kept(t testing.TB) (response string, v *saml.Verifier, now time.Time) {
	t.Helper()
	b, err := os.ReadFile("testdata/response")
	if err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile("testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	now = time.Date(2026, 11, 27, 4, 30, 0, 0, time.UTC)
	entity, _, _ := strings.Cut(string(md[strings.Index(string(md), `entityID="`)+10:]), `"`)
	p := saml.Provider{
		Name: "clinic", EntityID: entity, Audience: service, ACS: acs, Metadata: saml.Metadata{Text: md},
		Subject: samltest.UID, Attributes: map[string]string{"groups": samltest.Groups},
	}
	// Its metadata is valid for two days, and the test's clock stands still.
	clock := func() time.Time { return now }
	if v, err = saml.New([]saml.Provider{p}, saml.NewLogins(clock), clock); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), v, now
}

// Whatever is handed over: nobody is believed to be anybody but the provider
// said, and with nothing but what it said.
func FuzzOpen(f *testing.F) {
	answer, v, now := kept(f)
	subject, claims, err := v.Open(answer, now)
	if err != nil || subject != "alice" {
		f.Fatal(subject, err)
	}
	whole, err := base64.StdEncoding.DecodeString(answer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	add := func(change func(x *samltest.Forged, a *etree.Element)) {
		x := samltest.Forge(f, answer)
		change(x, x.Assertion())
		b, err := x.Doc.WriteToBytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(func(*samltest.Forged, *etree.Element) {})
	add(func(_ *samltest.Forged, a *etree.Element) { samltest.Strip(a) })
	add(func(x *samltest.Forged, a *etree.Element) { x.Response().InsertChildAt(a.Index(), another(x, a)) })
	add(func(x *samltest.Forged, a *etree.Element) {
		e, sig := another(x, a), samltest.Strip(a)
		o := etree.NewElement("ds:Object")
		o.AddChild(x.Response().RemoveChild(a))
		sig.AddChild(o)
		e.InsertChildAt(1, sig)
		x.Response().AddChild(e)
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, c, err := v.Open(base64.StdEncoding.EncodeToString(b), now)
		if err == nil && (s != subject || !reflect.DeepEqual(c, claims)) {
			t.Fatalf("believed: %q, %v", s, c)
		}
		// And as it comes, before anything is decoded.
		if s, _, err := v.Open(string(b), now); err == nil && s != subject {
			t.Fatalf("believed: %q", s)
		}
	})
}
