package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
)

// A sink reads audit events through its own consumer; it publishes nothing, sees
// no transcript, and can neither make, change nor use another consumer.
func TestSinksAreHeldToTheirPart(t *testing.T) {
	s, err := jetstream.StartServer(jetstream.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Host: "h1", Sinks: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := chaintest.New("c1")
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})
	fill(c, 30)
	stored(t, s, 30)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	nc := dial(t, s, jetstream.RoleSink)
	for _, name := range []string{"a", "b"} {
		r, err := jetstream.SinkReader(ctx, nc, name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for n < 20 {
			batch, err := r.Fetch(1, js.FetchMaxWait(20*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for m := range batch.Messages() {
				got++
				_, rs, err := jetstream.Parse(m.Subject(), m.Headers(), m.Data())
				if err != nil || !strings.HasPrefix(m.Subject(), "sallyport.audit.h1.") {
					t.Fatalf("%s: %v", m.Subject(), err)
				}
				n += len(rs)
				if err := m.DoubleAck(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if got == 0 {
				t.Fatalf("%s: %d of 20 events, %v", name, n, batch.Error())
			}
		}
		if info, err := r.Info(ctx); err != nil || info.NumPending != 0 || info.NumAckPending != 0 {
			t.Errorf("%+v %v", info, err)
		}
	}
	if _, err := jetstream.SinkReader(ctx, nc, "c"); err == nil {
		t.Error("a sink that is not configured has a consumer")
	}
	for _, subj := range []string{
		"sallyport.audit.h1.postgres.statement", "sallyport.transcript.h1.s-1", "sallyport.receipt.h1",
		"$JS.API.STREAM.MSG.GET.SALLYPORT", "$JS.API.STREAM.PURGE.SALLYPORT", "$JS.API.STREAM.DELETE.SALLYPORT",
		"$JS.API.CONSUMER.CREATE.SALLYPORT.x.sallyport.audit.>", "$JS.API.CONSUMER.DELETE.SALLYPORT.recorder",
		"sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.recorder", "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.siem",
		"$JS.ACK.SALLYPORT.recorder.1.1.1.1.0",
	} {
		forbidden(t, s, jetstream.RoleSink, func(nc *nats.Conn) error { return nc.Publish(subj, []byte("{}")) }, "publish to "+subj)
	}
	for _, subj := range []string{"sallyport.audit.>", "sallyport.transcript.>", ">", "_INBOX_recorder.>"} {
		forbidden(t, s, jetstream.RoleSink, func(nc *nats.Conn) error { _, err := nc.SubscribeSync(subj); return err }, "subscribe to "+subj)
	}
	// The server's answer goes nowhere that the sink may not publish to.
	for _, reply := range []string{"$JS.API.STREAM.PURGE.SALLYPORT", "sallyport.audit.h1.host.alarm"} {
		nc.PublishRequest("sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.sink-a", reply, []byte(`{"batch":1,"no_wait":true}`))
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	inOrder(t, stored(t, s, 30), c)
}

// forbidden fails the test when a role of its own connection may do it.
func forbidden(t *testing.T, s *jetstream.Server, role string, do func(*nats.Conn) error, what string) {
	t.Helper()
	nc, err := jetstream.Connect(s.URL(), s.SeedFile(role), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	err = do(nc)
	if ferr := nc.Flush(); err == nil && ferr != nil {
		err = ferr
	}
	if err == nil {
		err = nc.LastError()
	}
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Error(fmt.Errorf("%s may %s: %v", role, what, err))
	}
}
