package jetstream_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
)

func decode(t *testing.T, b []byte) []events.Record {
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
	host, rs, err := jetstream.Parse(r.Message.Subject, h, r.Message.Data)
	if err != nil || host != "h1" {
		t.Fatal(host, err)
	}
	return rs
}

func FuzzParse(f *testing.F) {
	const zero = "0000000000000000000000000000000000000000000000000000000000000000"
	f.Add("sallyport.audit.h1.postgres.statement", "c", "statement", "postgres", "1 2 s "+zero+" "+zero, "3 2  "+zero+" "+zero, []byte("{}\n{}"))
	f.Add("sallyport.transcript.h1.s", "c", "transcript", "", "1 0 s%2e "+zero+" "+zero, "", []byte{})
	f.Fuzz(func(t *testing.T, subject, chain, kind, protocol, one, two string, data []byte) {
		h := nats.Header{"Sallyport-Chain": {chain}, "Sallyport-Kind": {kind}, "Sallyport-Protocol": {protocol}, "Sallyport-Record": {one, two}}
		if two == "" {
			h["Sallyport-Record"] = []string{one}
		}
		host, rs, err := jetstream.Parse(subject, h, data)
		if err != nil {
			return
		}
		size, last := len(rs)-1, uint64(0)
		for _, r := range rs {
			if r.Seq <= last || r.Chain == "" || jetstream.Subject(host, &r) != subject {
				t.Fatalf("believed %q: %+v", subject, r)
			}
			size, last = size+len(r.Payload), r.Seq
		}
		if size != len(data) {
			t.Fatalf("%d bytes of %d belong to records", size, len(data))
		}
	})
}

// What has a longer name than a record may have is no record.
func TestParseBoundsNames(t *testing.T) {
	zero := strings.Repeat("0", 64)
	parse := func(host, chain, session string) error {
		h := nats.Header{"Sallyport-Chain": {chain}, "Sallyport-Kind": {"transcript"}, "Sallyport-Record": {"1 0 " + session + " " + zero + " " + zero}}
		_, _, err := jetstream.Parse("sallyport.transcript."+host+"."+session, h, nil)
		return err
	}
	most := strings.Repeat("x", events.MaxName)
	if err := parse(most, most, most); err != nil {
		t.Error(err)
	}
	for _, names := range [][3]string{{most + "x", "c", "s"}, {"h", most + "x", "s"}, {"h", "c", most + "x"}} {
		if parse(names[0], names[1], names[2]) == nil {
			t.Errorf("read names of %d, %d and %d bytes", len(names[0]), len(names[1]), len(names[2]))
		}
	}
}
