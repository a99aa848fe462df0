package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The browser's way back takes one answer, of the login that was begun.
func TestACS(t *testing.T) {
	at := fmt.Sprintf("http://127.0.0.1:%d/acs", redirecttest.Port(t))
	a, err := listenACS(at, "relay")
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if _, err := listenACS(at, "relay"); err == nil || !has(err.Error(), "acs") {
		t.Errorf("it is taken: %v", err)
	}
	post := func(to, host string, fields url.Values) int {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, to, strings.NewReader(fields.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	form := func(relay, response string) url.Values {
		return url.Values{"RelayState": {relay}, "SAMLResponse": {response}}
	}
	for name, c := range map[string]struct{ got, want int }{
		"another relay state":          {post(at, "", form("other", "x")), http.StatusForbidden},
		"no relay state":               {post(at, "", url.Values{"SAMLResponse": {"x"}}), http.StatusForbidden},
		"a relay state in the address": {post(at+"?RelayState=relay&SAMLResponse=x", "", url.Values{}), http.StatusForbidden},
		"another path":                 {post(at+"/x", "", form("relay", "x")), http.StatusNotFound},
		"a name that leads here":       {post(at, "evil.example", form("relay", "x")), http.StatusNotFound},
		"much":                         {post(at, "", form("relay", strings.Repeat("x", 3*privsep.MaxToken))), http.StatusBadRequest},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
	if resp, err := http.Get(at + "?RelayState=relay&SAMLResponse=x"); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if code := post(at, "", form("relay", "the answer")); code != http.StatusOK {
		t.Errorf("%d", code)
	}
	if code := post(at, "", form("relay", "another")); code != http.StatusConflict {
		t.Errorf("a second one: %d", code)
	}
	if got, err := a.wait(t.Context()); err != nil || got != "the answer" {
		t.Errorf("%q %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if got, err := a.wait(ctx); err == nil {
		t.Errorf("%q", got)
	}
}

// What was copied may be broken over lines, and ends with an empty one.
func TestReadAnswer(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"QUJD\nREVG\n\nxxxx\n", "QUJDREVG"},
		{"\n\n QUJD \r\n REVG", "QUJDREVG"},
		{"", ""},
		{strings.Repeat("A", 60_000) + "\n", strings.Repeat("A", 60_000)},
	} {
		if got, err := readAnswer(t.Context(), strings.NewReader(c.in), "-"); err != nil || got != c.want {
			t.Errorf("%.20q: %.20q %v", c.in, got, err)
		}
	}
	if _, err := readAnswer(t.Context(), nil, t.TempDir()); err == nil {
		t.Error("a folder")
	}
}
