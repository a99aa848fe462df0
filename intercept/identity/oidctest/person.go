package oidctest

import (
	"net/http"
	"net/url"
	"testing"
)

// LogIn is a person's browser that is sent to the issuer: it logs subject in there,
// and returns where the issuer sends it back to, without going there.
func (p *Provider) LogIn(t testing.TB, uri, subject, groups string) *url.URL {
	t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	issuer, err := url.Parse(p.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		resp, err := c.Get(uri)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		next, err := resp.Location()
		if err != nil {
			t.Fatalf("%s: %s", uri, resp.Status)
		}
		if next.Host != issuer.Host {
			return next
		}
		if next.Path == "/-/person" {
			q := next.Query()
			q.Set("subject", subject)
			q.Set("groups", groups)
			next.RawQuery = q.Encode()
		}
		uri = next.String()
	}
	t.Fatal("the browser is sent round and round")
	return nil
}
