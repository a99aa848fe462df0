package events_test

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

func TestSumIsOfTheCanonicalForm(t *testing.T) {
	r := events.Record{Chain: "c", Seq: 7, Kind: events.Statement, Protocol: "postgres", Session: "s", Payload: []byte("{}"), Prev: [32]byte{1}}
	if r.Sum() != sha256.Sum256(r.Append(nil)) {
		t.Fatal("Sum and Append disagree")
	}
	r.Hash = r.Sum()
	for name, change := range map[string]func(*events.Record){
		"chain": func(r *events.Record) { r.Chain = "d" }, "seq": func(r *events.Record) { r.Seq++ },
		"kind": func(r *events.Record) { r.Kind++ }, "protocol": func(r *events.Record) { r.Protocol = "postgre" },
		"session": func(r *events.Record) { r.Session = "ss" }, "payload": func(r *events.Record) { r.Payload = []byte("[]") },
		"prev": func(r *events.Record) { r.Prev[31] = 1 }, "border": func(r *events.Record) { r.Protocol, r.Session = "postgress", "" },
	} {
		c := r
		if change(&c); c.Intact() {
			t.Errorf("a changed %s is not seen", name)
		}
	}
}

func TestChunkRoundTrip(t *testing.T) {
	c := events.Chunk{Number: 3, Kind: events.ChunkBinds, Time: time.Unix(1, 2), Data: []byte("\x00data")}
	b := events.AppendChunk([]byte("x"), &c)
	same := func(got events.Chunk) bool {
		return got.Number == 3 && got.Kind == c.Kind && got.Time.Equal(c.Time) && bytes.Equal(got.Data, c.Data)
	}
	got, err := events.ParseChunks(nil, b[1:])
	if err != nil || len(got) != 1 || !same(got[0]) {
		t.Fatalf("%+v %v", got, err)
	}
	for n := range 18 {
		if _, err := events.ParseChunks(nil, b[1:1+n]); err == nil {
			t.Fatalf("%d bytes were taken", n)
		}
	}
	if _, err := events.ParseChunks(nil, b); err == nil {
		t.Fatal("another version was taken")
	}
	empty := events.Chunk{Number: 9, Kind: events.ChunkResult, Time: c.Time}
	b = events.AppendPiece(events.AppendPiece(events.AppendPiece([]byte{events.Pieces}, &c), &empty), &c)
	got, err = events.ParseChunks(nil, b)
	if err != nil || len(got) != 3 || !same(got[0]) || got[1].Number != 9 || len(got[1].Data) > 0 || !same(got[2]) {
		t.Fatalf("%+v %v", got, err)
	}
	one := (len(b) - 1 - 21) / 2
	for n := range b {
		if _, err := events.ParseChunks(nil, b[:n]); err == nil && n != 1+one && n != 1+one+21 {
			t.Fatalf("%d bytes of pieces were taken", n)
		}
	}
}

func TestZeroTicketPromisesNothing(t *testing.T) {
	var tk events.Ticket
	if tk.Done() || tk.Wait(t.Context()) == nil {
		t.Fatal("the zero Ticket promises")
	}
}
