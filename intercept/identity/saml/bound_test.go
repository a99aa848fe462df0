package saml_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/identity/samltest"
)

// What somebody signs by logging in is named by the request's ID, which the provider
// signs. It is no login, and is held against the same as one.
func TestBound(t *testing.T) {
	w := start(t)
	const id = "_0123456789abcdef"
	r, err := w.BeginBound(context.Background(), "clinic", id)
	if err != nil {
		t.Fatal(err)
	}
	var asked struct {
		ID         string `xml:"ID,attr"`
		ForceAuthn string `xml:"ForceAuthn,attr"`
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(u.Query().Get("SAMLRequest"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(flate.NewReader(bytes.NewReader(b))); err != nil || xml.Unmarshal(b, &asked) != nil || asked.ID != id || asked.ForceAuthn != "true" || r.ID != id {
		t.Fatalf("%v: %+v in %s", err, asked, b)
	}
	a := w.Login(r.URL, "alice", samltest.People[0].Password)
	for range 2 { // whoever asks takes it once
		got, err := w.ReadBound(context.Background(), "clinic", a.Response)
		if err != nil || got.Request != id || got.Subject != "alice" || got.ID == "" || time.Since(got.Issued) > time.Minute {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	w.refused(a.Response, "no login that began here")
	stripped := samltest.Forge(t, a.Response)
	samltest.Strip(stripped.Assertion())
	for why, raw := range map[string]string{"is signed": stripped.Raw(), "base64": "x"} {
		if _, err := w.ReadBound(context.Background(), "clinic", raw); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	for _, name := range []string{"", "other"} {
		if _, err := w.ReadBound(context.Background(), name, a.Response); err == nil {
			t.Errorf("provider %q", name)
		}
		if _, err := w.BeginBound(context.Background(), name, id); err == nil {
			t.Errorf("provider %q", name)
		}
	}
	for _, bad := range []string{"", "1", `_"><x`} {
		if _, err := w.BeginBound(context.Background(), "clinic", bad); err == nil {
			t.Errorf("an ID like %q", bad)
		}
	}
	w.now = w.now.Add(10 * time.Minute)
	if _, err := w.ReadBound(context.Background(), "clinic", a.Response); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
}
