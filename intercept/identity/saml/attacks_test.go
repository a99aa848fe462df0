package saml_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/identity/samltest"
)

// another is a copy of an assertion that names mallory, without a signature.
func another(f *samltest.Forged, a *etree.Element) *etree.Element {
	e := a.Copy()
	samltest.Strip(e)
	e.CreateAttr("ID", "evil")
	for _, v := range []string{"NameID", "AttributeValue"} {
		f.Find(e, v).SetText("mallory")
	}
	return e
}

// Signature wrapping: a signed element stands somewhere, and another is read
// (Somorovsky et al., "On Breaking SAML", USENIX Security 2012). The numbers
// are those that its tools gave the forms.
func TestWrapping(t *testing.T) {
	w := start(t)
	response := w.login().Response
	for name, wrap := range map[string]func(f *samltest.Forged, resp, a *etree.Element){
		"XSW1: the response, signed, within the signature of another": func(f *samltest.Forged, _, _ *etree.Element) {
			f.ResignAll(w.Key, w.Certificate)
			whole := f.Response().Copy()
			sig := samltest.Strip(whole)
			forged := whole.Copy()
			forged.CreateAttr("ID", "evil-response")
			old := f.Find(forged, "Assertion")
			forged.RemoveChild(old)
			forged.AddChild(another(f, old))
			sig.AddChild(whole)
			forged.InsertChildAt(1, sig)
			f.Doc.SetRoot(forged)
		},
		"XSW2: the response, signed, beside its signature in another": func(f *samltest.Forged, _, _ *etree.Element) {
			f.ResignAll(w.Key, w.Certificate)
			whole := f.Response().Copy()
			sig := samltest.Strip(whole)
			forged := whole.Copy()
			forged.CreateAttr("ID", "evil-response")
			old := f.Find(forged, "Assertion")
			forged.RemoveChild(old)
			forged.AddChild(another(f, old))
			forged.InsertChildAt(1, sig)
			forged.InsertChildAt(1, whole)
			f.Doc.SetRoot(forged)
		},
		"XSW3: another before the signed one": func(f *samltest.Forged, resp, a *etree.Element) {
			resp.InsertChildAt(a.Index(), another(f, a))
		},
		"XSW4: the signed one within another": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			resp.InsertChildAt(a.Index(), e)
			e.AddChild(resp.RemoveChild(a))
		},
		"XSW5: another has the signature, the signed one comes last": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			e.InsertChildAt(1, samltest.Strip(a))
			resp.InsertChildAt(a.Index(), e)
		},
		"XSW6: the signed one within the signature of another": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			sig := samltest.Strip(a)
			resp.InsertChildAt(a.Index(), e)
			sig.AddChild(resp.RemoveChild(a))
			e.InsertChildAt(1, sig)
		},
		"XSW7: another within extensions": func(f *samltest.Forged, resp, a *etree.Element) {
			x := etree.NewElement("samlp:Extensions")
			x.AddChild(another(f, a))
			resp.InsertChildAt(a.Index(), x)
		},
		"XSW8: the signed one within an object of another's signature": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			sig := samltest.Strip(a)
			resp.InsertChildAt(a.Index(), e)
			o := etree.NewElement("ds:Object")
			o.AddChild(resp.RemoveChild(a))
			sig.AddChild(o)
			e.InsertChildAt(1, sig)
		},
		"another under a different namespace": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			e.CreateAttr("xmlns:saml", "urn:oasis:names:tc:SAML:2.0:assertion#")
			resp.AddChild(e)
		},
		"the same ID twice": func(f *samltest.Forged, resp, a *etree.Element) {
			e := another(f, a)
			e.CreateAttr("ID", a.SelectAttrValue("ID", ""))
			x := etree.NewElement("samlp:Extensions")
			x.AddChild(e)
			resp.AddChild(x)
		},
		"a signature that refers to nothing by name": func(f *samltest.Forged, resp, a *etree.Element) {
			f.Find(a, "Reference").CreateAttr("URI", "")
		},
		"a signature of two references": func(f *samltest.Forged, resp, a *etree.Element) {
			info := f.Find(a, "SignedInfo")
			info.AddChild(f.Find(info, "Reference").Copy())
		},
		"two SignedInfo": func(f *samltest.Forged, resp, a *etree.Element) {
			sig := f.Find(a, "Signature")
			sig.InsertChildAt(0, f.Find(sig, "SignedInfo").Copy())
		},
		"two signatures": func(f *samltest.Forged, resp, a *etree.Element) {
			a.AddChild(f.Find(a, "Signature").Copy())
		},
		"the person changed under the signature": func(f *samltest.Forged, resp, a *etree.Element) {
			f.Find(a, "AttributeValue").SetText("mallory")
		},
		"an attribute added under the signature": func(f *samltest.Forged, resp, a *etree.Element) {
			st := f.Find(a, "AttributeStatement")
			st.AddChild(f.Find(st, "Attribute").Copy())
		},
		"the digest under the signature": func(f *samltest.Forged, resp, a *etree.Element) {
			f.Find(a, "DigestValue").SetText(base64.StdEncoding.EncodeToString(make([]byte, 32)))
		},
		"no signature": func(f *samltest.Forged, resp, a *etree.Element) { samltest.Strip(a) },
		"the response's signature alone, of another response": func(f *samltest.Forged, _, _ *etree.Element) {
			f.ResignAll(w.Key, w.Certificate)
			samltest.Strip(f.Assertion())
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, begin := range []func(testing.TB, string) *samltest.Forged{samltest.Forge, samltest.Whole} {
				f := begin(t, response)
				wrap(f, f.Response(), f.Assertion())
				w.refused(f.Raw(), "")
			}
		})
	}
	// The way of changing alone breaks nothing.
	f := samltest.Forge(t, w.login().Response)
	if _, err := w.Accept(context.Background(), f.Raw()); err != nil {
		t.Fatal(err)
	}
	f = samltest.Forge(t, w.login().Response).ResignAll(w.Key, w.Certificate)
	if got, err := w.Accept(context.Background(), f.Raw()); err != nil || got.Subject != "alice" {
		t.Fatal("both signed:", err)
	}
	f = samltest.Forge(t, w.login().Response)
	samltest.Strip(f.Assertion())
	if got, err := w.Accept(context.Background(), f.ResignAll(w.Key, w.Certificate).Raw()); err != nil || got.Subject != "alice" {
		t.Fatal("the response signed:", err)
	}
}

// Assertions that the provider's own key signed, and that are not for us.
func TestNotForUs(t *testing.T) {
	w := start(t)
	response := w.login().Response // whoever is refused uses nothing up
	key, cert := samltest.KeyPair(t)
	attr := func(tag, name, value string) func(f *samltest.Forged) {
		return func(f *samltest.Forged) { f.Find(f.Assertion(), tag).CreateAttr(name, value) }
	}
	at := func(d time.Duration) string { return w.now.Add(d).UTC().Format(time.RFC3339) }
	without := func(tag string) func(f *samltest.Forged) {
		return func(f *samltest.Forged) { el := f.Find(f.Assertion(), tag); el.Parent().RemoveChild(el) }
	}
	twice := func(tag string) func(f *samltest.Forged) {
		return func(f *samltest.Forged) { el := f.Find(f.Assertion(), tag); el.Parent().AddChild(el.Copy()) }
	}
	set := func(tag, value string) func(f *samltest.Forged) {
		return func(f *samltest.Forged) { f.Find(f.Assertion(), tag).SetText(value) }
	}
	for name, c := range map[string]struct {
		change func(f *samltest.Forged)
		why    string
	}{
		"another audience":            {set("Audience", "https://other.example"), "not for the audience"},
		"no audience":                 {without("AudienceRestriction"), "for whom it is"},
		"another audience as well":    {func(f *samltest.Forged) { twice("AudienceRestriction")(f); set("Audience", "https://other.example")(f) }, "for whom it is"},
		"another recipient":           {attr("SubjectConfirmationData", "Recipient", "https://other.example/acs"), "(Recipient)"},
		"no recipient":                {func(f *samltest.Forged) { f.Find(f.Assertion(), "SubjectConfirmationData").RemoveAttr("Recipient") }, "(Recipient)"},
		"another destination":         {func(f *samltest.Forged) { f.Response().CreateAttr("Destination", "http://127.0.0.1:1/acs") }, "(Destination)"},
		"another issuer":              {set("Issuer", "https://other.example"), "not among identity.saml"},
		"another issuer, outside":     {func(f *samltest.Forged) { f.Find(f.Response(), "Issuer").SetText("https://other.example") }, "(Issuer)"},
		"expired, skew included":      {func(f *samltest.Forged) { attr("Conditions", "NotOnOrAfter", at(-30*time.Second))(f) }, "expired"},
		"expired confirmation":        {attr("SubjectConfirmationData", "NotOnOrAfter", at(-31*time.Second)), "expired"},
		"confirmation without an end": {func(f *samltest.Forged) { f.Find(f.Assertion(), "SubjectConfirmationData").RemoveAttr("NotOnOrAfter") }, "until when"},
		"not yet valid":               {attr("Conditions", "NotBefore", at(32*time.Second)), "later than now"},
		"confirmation not yet valid":  {attr("SubjectConfirmationData", "NotBefore", at(32*time.Second)), "later than now"},
		"authenticated in the future": {attr("AuthnStatement", "AuthnInstant", at(time.Minute)), "later than now"},
		"authenticated long ago":      {attr("AuthnStatement", "AuthnInstant", at(-9*time.Hour)), "began too long ago"},
		"the session is over":         {attr("AuthnStatement", "SessionNotOnOrAfter", at(-time.Minute)), "has ended"},
		"a time that is none":         {attr("Conditions", "NotOnOrAfter", "tomorrow"), "no time in UTC"},
		"a time of another zone":      {attr("Conditions", "NotOnOrAfter", "2199-01-01T00:00:00+02:00"), "no time in UTC"},
		"nobody authenticated":        {without("AuthnStatement"), "no AuthnStatement"},
		"no conditions":               {without("Conditions"), "no Conditions"},
		"conditions twice":            {twice("Conditions"), "more than one Conditions"},
		"a condition from elsewhere":  {func(f *samltest.Forged) { f.Find(f.Assertion(), "Conditions").CreateElement("saml:OnMondays") }, "not understood"},
		"no confirmation":             {without("SubjectConfirmation"), "of a bearer"},
		"confirmed by a key":          {attr("SubjectConfirmation", "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"), "of a bearer"},
		"confirmed twice":             {twice("SubjectConfirmation"), "of a bearer"},
		"unknown request":             {attr("SubjectConfirmationData", "InResponseTo", "id-0123"), "two requests"},
		"unknown request, both": {func(f *samltest.Forged) {
			attr("SubjectConfirmationData", "InResponseTo", "id-0123")(f)
			f.Response().CreateAttr("InResponseTo", "id-0123")
		}, "no login that began here"},
		"no request": {func(f *samltest.Forged) { f.Find(f.Assertion(), "SubjectConfirmationData").RemoveAttr("InResponseTo") }, "begin here"},
		"the login failed": {func(f *samltest.Forged) {
			f.Find(f.Response(), "StatusCode").CreateAttr("Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")
		}, `"Responder"`},
		"another version":         {func(f *samltest.Forged) { f.Assertion().CreateAttr("Version", "1.1") }, "not of SAML 2.0"},
		"a person of elements":    {func(f *samltest.Forged) { f.Find(f.Assertion(), "AttributeValue").CreateElement("b").SetText("x") }, "exactly one value"},
		"two persons":             {func(f *samltest.Forged) { v := f.Find(f.Assertion(), "AttributeValue"); v.Parent().AddChild(v.Copy()) }, "exactly one value"},
		"no person":               {without("AttributeStatement"), "exactly one value"},
		"a person with a control": {set("AttributeValue", "alice\tx"), "control characters"},
		"a person with a space":   {set("AttributeValue", " alice"), "space"},
		"an attribute twice":      {twice("Attribute"), "twice"},
		"encrypted":               {func(f *samltest.Forged) { f.Response().CreateElement("saml:EncryptedAssertion") }, "not supported"},
		"two assertions, both signed": {func(f *samltest.Forged) {
			e := f.Assertion().Copy()
			e.CreateAttr("ID", "second")
			f.Response().AddChild(e)
		}, "more than one Assertion"},
		"an assertion within advice": {func(f *samltest.Forged) {
			e := f.Assertion().Copy()
			samltest.Strip(e)
			e.CreateAttr("ID", "second")
			f.Assertion().CreateElement("saml:Advice").AddChild(e)
		}, "more than one Assertion"},
		"an ID that no reference takes": {func(f *samltest.Forged) { f.Assertion().CreateAttr("ID", "a b") }, "no usable ID"},
	} {
		t.Run(name, func(t *testing.T) {
			f := samltest.Forge(t, response)
			c.change(f)
			w.refused(f.Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw(), c.why)
		})
	}
	t.Run("another key, with its certificate", func(t *testing.T) {
		w.refused(samltest.Forge(t, response).Resign(key, cert, dsig.RSASHA256SignatureMethod).Raw(), "does not hold")
	})
	t.Run("another key, with the provider's certificate", func(t *testing.T) {
		w.refused(samltest.Forge(t, response).Resign(key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw(), "does not hold")
	})
	t.Run("SHA-1", func(t *testing.T) {
		w.refused(samltest.Forge(t, response).Resign(w.Key, w.Certificate, dsig.RSASHA1SignatureMethod).Raw(), "SHA-256")
	})
	for name, change := range map[string]func(f *samltest.Forged){
		"an HMAC": func(f *samltest.Forged) {
			f.Find(f.Assertion(), "SignatureMethod").CreateAttr("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
		},
		"a digest of SHA-1": func(f *samltest.Forged) {
			f.Find(f.Assertion(), "DigestMethod").CreateAttr("Algorithm", "http://www.w3.org/2000/09/xmldsig#sha1")
		},
		"a transform by XSLT": func(f *samltest.Forged) {
			f.Find(f.Assertion(), "Transform").CreateAttr("Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
		},
		"c14n with comments": func(f *samltest.Forged) {
			f.Find(f.Assertion(), "CanonicalizationMethod").CreateAttr("Algorithm", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments")
		},
		"no transform": func(f *samltest.Forged) {
			el := f.Find(f.Assertion(), "Transforms")
			el.RemoveChild(f.Find(el, "Transform"))
		},
		"a signature of 0 length": func(f *samltest.Forged) { f.Find(f.Assertion(), "SignatureValue").SetText("") },
	} {
		t.Run(name, func(t *testing.T) {
			f := samltest.Forge(t, response)
			change(f)
			w.refused(f.Raw(), "signature of its Assertion")
		})
	}
	t.Run("of another provider, for the same service", func(t *testing.T) {
		other := start(t)
		r, err := other.Begin(context.Background(), "clinic")
		if err != nil {
			t.Fatal(err)
		}
		a := other.Login(r.URL, "mallory", samltest.People[1].Password)
		w.refused(a.Response, "not among identity.saml")
		// It knows how we call the other one.
		f := samltest.Forge(t, a.Response)
		f.Find(f.Response(), "Issuer").SetText(w.EntityID)
		f.Find(f.Assertion(), "Issuer").SetText(w.EntityID)
		w.refused(f.Resign(other.Key, other.Certificate, dsig.RSASHA256SignatureMethod).Raw(), "does not hold")
	})
	// Signing anew alone breaks nothing.
	f := samltest.Forge(t, w.login().Response).Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod)
	if _, err := w.Accept(context.Background(), f.Raw()); err != nil {
		t.Fatal(err)
	}
}

// A request is answered once, and an assertion handed over once, however many
// try at a time.
func TestOnce(t *testing.T) {
	w := start(t)
	a := w.login()
	var believed atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.Accept(context.Background(), a.Response); err == nil {
				believed.Add(1)
			}
		})
	}
	if wg.Wait(); believed.Load() != 1 {
		t.Fatalf("believed %d times", believed.Load())
	}
	again := func(raw, why string) {
		t.Helper()
		if _, err := w.Accept(context.Background(), raw); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	again(a.Response, "handed over before")
	// The same assertion in another envelope.
	f := samltest.Forge(t, a.Response)
	f.Response().CreateAttr("ID", "other")
	again(f.Raw(), "handed over before")
	if _, err := w.Verify(context.Background(), f.Raw(), ""); err == nil {
		t.Error("another envelope stands for the login")
	}
	// Another assertion that answers the same request.
	f = samltest.Forge(t, a.Response)
	f.Assertion().CreateAttr("ID", "id-other")
	again(f.Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw(), "no login that began here")
	// An assertion of old that answers a request of today.
	r, err := w.Begin(context.Background(), "clinic")
	if err != nil {
		t.Fatal(err)
	}
	f = samltest.Forge(t, a.Response)
	f.Response().CreateAttr("InResponseTo", r.ID)
	f.Find(f.Assertion(), "SubjectConfirmationData").CreateAttr("InResponseTo", r.ID)
	again(f.Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw(), "handed over before")
	// A request that has waited too long, and one of a passage before this one.
	b := w.login()
	w.now = w.now.Add(10*time.Minute + time.Second)
	f = samltest.Forge(t, b.Response)
	for _, tag := range []string{"Conditions", "SubjectConfirmationData"} {
		f.Find(f.Assertion(), tag).CreateAttr("NotOnOrAfter", w.now.Add(time.Hour).UTC().Format(time.RFC3339))
	}
	again(f.Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw(), "still open")
	w.now = time.Now()
	b = w.login()
	w.Verifier = w.verifier(provider(w.IdP))
	again(b.Response, "no login that began here")
}

// Nothing is forgotten to make room.
func TestFull(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	for range 1024 {
		if _, err := w.Begin(ctx, "clinic"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Begin(ctx, "clinic"); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Fatal(err)
	}
	w.now = w.now.Add(11 * time.Minute)
	if _, err := w.Begin(ctx, "clinic"); err != nil {
		t.Fatal(err)
	}
	w.now = time.Now()
	if _, err := w.Accept(ctx, w.login().Response); err != nil {
		t.Fatal(err)
	}
}

// When no more logins can be remembered, nobody new is believed, and nobody is
// forgotten before their time, also by a clock that is set back.
func TestFullOfLogins(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	clock := func() time.Time { return w.now }
	logins := saml.NewLogins(clock)
	v, err := saml.New([]saml.Provider{provider(w.IdP)}, logins, clock)
	if err != nil {
		t.Fatal(err)
	}
	w.Verifier = v
	first := w.login().Response
	if _, err := w.Accept(ctx, first); err != nil {
		t.Fatal(err)
	}
	logins.Fill(16<<10-1, w.now.Add(time.Minute))
	a := w.login()
	if _, err := w.Accept(ctx, a.Response); err == nil || !strings.Contains(err.Error(), "in force") {
		t.Fatal("there was room:", err)
	}
	if _, err := w.Accept(ctx, first); err == nil || !strings.Contains(err.Error(), "handed over before") {
		t.Error("forgotten:", err)
	}
	if _, err := w.Verify(ctx, first, ""); err != nil {
		t.Error(err)
	}
	w.now = w.now.Add(-10 * time.Second)
	if _, err := w.Accept(ctx, a.Response); err == nil {
		t.Error("a clock that was set back made room")
	}
	w.now = w.now.Add(time.Minute + 10*time.Second)
	if _, err := w.Accept(ctx, a.Response); err != nil {
		t.Error("there is room again:", err)
	}
}

// What is kept over a restart stands for the same logins, and lets no assertion
// in once more.
func TestRestore(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	clock := func() time.Time { return w.now }
	next := func(kept []byte) (*saml.Logins, error) {
		l := saml.NewLogins(clock)
		v, err := saml.New([]saml.Provider{provider(w.IdP)}, l, clock)
		if err != nil {
			t.Fatal(err)
		}
		w.Verifier = v
		if kept == nil {
			return l, nil
		}
		return l, l.Restore(kept)
	}
	l, _ := next(nil)
	a := w.login()
	got, err := w.Accept(ctx, a.Response)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := l.Save()
	if err != nil || strings.Contains(string(kept), a.Response[:40]) || strings.Contains(string(kept), "alice") {
		t.Fatalf("%s %v", kept, err)
	}
	if _, err := next(kept); err != nil {
		t.Fatal(err)
	}
	if again, err := w.Verify(ctx, a.Response, ""); err != nil || again.Subject != "alice" || !again.Expires.Equal(got.Expires) {
		t.Error(again, err)
	}
	if _, err := w.Accept(ctx, a.Response); err == nil || !strings.Contains(err.Error(), "handed over before") {
		t.Error(err)
	}
	w.now = got.Expires
	if l, err = next(kept); err != nil {
		t.Fatal(err)
	}
	if kept, err = l.Save(); err != nil || strings.Contains(string(kept), "Sum") {
		t.Errorf("what is over is kept: %s %v", kept, err)
	}
	for _, bad := range []string{"", "{", `{"Accepted":[{"Sum":"00"}]}`, "[" + strings.Repeat("1,", 9) + "1]"} {
		if _, err := next([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What two readers could read in two ways is refused before anything else.
func TestStrict(t *testing.T) {
	w := start(t)
	good := w.login().Response
	b, err := base64.StdEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	plain := string(b)
	enc := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	swap := func(old, by string) string {
		t.Helper()
		if !strings.Contains(plain, old) {
			t.Fatalf("no %q in the response", old)
		}
		return enc(strings.Replace(plain, old, by, 1))
	}
	const mail = "alice@clinic.example</saml:NameID>"
	for name, c := range map[string]struct{ raw, why string }{
		"a comment in the NameID":    {swap(mail, "alice@clinic.example<!-- -->.evil.example</saml:NameID>"), "comment"},
		"CDATA":                      {swap(mail, "<![CDATA[alice@clinic.example]]></saml:NameID>"), "CDATA"},
		"a DTD":                      {enc(`<!DOCTYPE r [<!ENTITY a "aaaa">]>` + plain), "DTD"},
		"a DTD behind a declaration": {enc(`<?xml version="1.0"?><!DOCTYPE r SYSTEM "http://127.0.0.1/x">` + plain), "DTD"},
		"an entity":                  {swap(mail, "&xxe;</saml:NameID>"), "no XML"},
		"a bomb":                     {enc(`<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "` + strings.Repeat("&a;", 1000) + `">]>` + plain), "DTD"},
		"a processing instruction":   {swap(mail, "alice<?x y?>@clinic.example</saml:NameID>"), "processing instruction"},
		"another declaration":        {enc(`<?xml version="1.1"?>` + plain), "not XML 1.0"},
		"another encoding":           {enc(`<?xml version="1.0" encoding="UTF-16"?>` + plain), "UTF-8"},
		"not UTF-8":                  {swap(mail, "alice\xff</saml:NameID>"), "UTF-8"},
		"two roots":                  {enc(plain + plain), "more than one XML element"},
		"half of it":                 {enc(plain[:len(plain)/2]), "no XML"},
		"text behind":                {enc(plain + "x"), ""},
		"an attribute twice":         {swap(` Version="2.0"`, ` Version="2.0" Version="2.0"`), "twice"},
		"ids by another name":        {swap(` Version="2.0"`, ` Version="2.0" xmlns:x="urn:x" x:Id="y"`), "an id twice"},
		"deep":                       {enc(strings.Repeat("<a>", 5000) + strings.Repeat("</a>", 5000)), "nests too deep"},
		"many elements":              {swap(mail, mail+strings.Repeat("<a/>", 3000)), "elements"},
		"many attributes":            {swap(` Version="2.0"`, ` Version="2.0"`+numbered(` a%d=""`, 100)), "attributes"},
		"many namespaces":            {swap(mail, mail+numbered(`<a xmlns:p%d="x"/>`, 200)), "namespaces"},
		"huge":                       {enc(strings.Repeat(" ", 49<<10) + plain), "longer than"},
		"huge base64":                {strings.Repeat("A", 10<<20), "longer than"},
		"no base64":                  {"{" + good[1:], "not base64"},
		"base64 of the URL kind":     {strings.NewReplacer("A", "-").Replace(good), "not base64"},
		"base64 with line breaks":    {good[:76] + "\r\n" + good[76:], "not base64"},
		"base64 cut short":           {good[:len(good)-1], "not base64"},
		"nothing":                    {"", "not base64"},
		"a JSON web token":           {"eyJhbGciOiJub25lIn0.e30.", "not base64"},
		"HTML":                       {enc("<html><body>no</body></html>"), "no SAML 2.0 Response"},
		"a request":                  {enc(`<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="x"/>`), "no SAML 2.0 Response"},
		"a response of SAML 1.1":     {enc(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:1.0:protocol" ResponseID="x"/>`), "no SAML 2.0 Response"},
		"an empty response":          {enc(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="x" Version="2.0"/>`), "no Assertion"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			w.refused(c.raw, c.why)
			if d := time.Since(began); d > time.Minute {
				t.Errorf("it took %s", d)
			}
		})
	}
	if _, err := w.Accept(context.Background(), good); err != nil {
		t.Fatal("what was refused has used the login up:", err)
	}
}

func numbered(format string, n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, format, i)
	}
	return s.String()
}

// A NameID that names nobody next time is nobody.
func TestTransient(t *testing.T) {
	w := start(t, func(p *saml.Provider) { p.Subject = "" })
	a := w.login()
	w.refused(a.Response, "transient")
	f := samltest.Forge(t, a.Response)
	f.Find(f.Assertion(), "NameID").CreateAttr("Format", "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent")
	got, err := w.Accept(context.Background(), f.Resign(w.Key, w.Certificate, dsig.RSASHA256SignatureMethod).Raw())
	if err != nil || got.Subject != "alice@clinic.example" {
		t.Fatal(got, err)
	}
}
