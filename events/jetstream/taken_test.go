package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
)

// NATS tells duplicates by an id that any host can write, whatever it publishes on: one
// that was taken over keeps nobody else's records out of the stream by it.
func TestIDsTakenByAnotherHost(t *testing.T) {
	nc := bare(t)
	ours(t, nc)
	c := chaintest.New("c1")
	fill(c, 30)
	for i := range 30 {
		m := &nats.Msg{Subject: "sallyport.audit.h2.host.alarm", Header: nats.Header{nats.MsgIdHdr: {fmt.Sprintf("%s-%d", c.ID, i+1)}}, Data: []byte("{}")}
		if _, err := nc.RequestMsg(m, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	arrived := make(chan uint64, 1000)
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc, Shipped: func(seq uint64) { arrived <- seq }})
	for end := time.After(time.Minute); ; {
		select {
		case seq := <-arrived:
			if seq == c.Last() {
				return
			}
		case <-end:
			t.Fatal("records of h1 do not come into the stream, for h2 has published with their ids")
		}
	}
}
