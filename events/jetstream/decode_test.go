package jetstream_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
)

func decode(t *testing.T, b []byte) events.Record {
	t.Helper()
	var r struct {
		Message struct {
			Subject string `json:"subject"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	h, err := nats.DecodeHeadersMsg(r.Message.Header)
	if err != nil {
		t.Fatal(err)
	}
	host, rec, err := jetstream.Parse(r.Message.Subject, h, r.Message.Data)
	if err != nil || host != "h1" {
		t.Fatal(host, err)
	}
	return rec
}

func FuzzParse(f *testing.F) {
	f.Add("sallyport.audit.h1.postgres.statement", "c", "1", "statement", "00", "00", "postgres", "s", []byte("{}"))
	f.Add("sallyport.transcript.h1.s", "c", "1", "transcript", "", "", "", "s%2e", []byte{})
	f.Fuzz(func(t *testing.T, subject, chain, seq, kind, prev, hash, protocol, session string, data []byte) {
		h := nats.Header{
			"Sallyport-Chain": {chain}, "Sallyport-Seq": {seq}, "Sallyport-Kind": {kind}, "Sallyport-Prev": {prev},
			"Sallyport-Hash": {hash}, "Sallyport-Protocol": {protocol}, "Sallyport-Session": {session},
		}
		host, r, err := jetstream.Parse(subject, h, data)
		if err == nil && (r.Seq == 0 || r.Chain == "" || jetstream.Subject(host, &r) != subject) {
			t.Fatalf("believed %q: %+v", subject, r)
		}
	})
}
