package main

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// sessions show says what each door was secured with.
func TestSessionsShowDoors(t *testing.T) {
	for _, c := range []struct {
		client, server events.TLS
		clear          bool
		want           string
	}{
		{events.TLS{}, events.TLS{}, false, ""},
		{events.TLS{}, events.TLS{}, true, "agent's door in clear, though TLS was offered\n"},
		{
			events.TLS{Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", Name: "db"},
			events.TLS{Version: "1.2", Cipher: "X", Verified: true},
			false,
			"agent's door TLS 1.3 TLS_AES_128_GCM_SHA256 db\nserver's     TLS 1.2 X verified\n",
		},
		{events.TLS{Name: "db"}, events.TLS{}, false, "agent's door TLS db\n"},
		{events.TLS{}, events.TLS{Version: "1.3", Cipher: "X"}, false, "server's     TLS 1.3 X not verified\n"},
	} {
		d := recorder.Detail{}
		d.ClientTLS, d.ServerTLS, d.ClientClear = c.client, c.server, c.clear
		var b strings.Builder
		if err := showSession(&b, &d); err != nil {
			t.Fatal(err)
		}
		got := ""
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, "agent's door") || strings.HasPrefix(line, "server's") {
				got += line
			}
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// sessions show says what can't be known of a session, and what certificate its
// client showed.
func TestSessionsShowUndecoded(t *testing.T) {
	d := recorder.Detail{}
	d.Undecoded, d.ClientCertificate = true, events.Certificate{Subject: "CN=a\x1b[31m", Issuer: "CN=b", SHA256: "cc"}
	var b strings.Builder
	if err := showSession(&b, &d); err != nil {
		t.Fatal(err)
	}
	if out := b.String(); !has(out, "undecoded ", "what was said is not known", "certificate  CN=a", "of CN=b, SHA-256 cc (proves nothing)") || strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}
