package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
)

// What tells approvers of requests reads their steps and nothing else, and
// publishes nothing.
func TestNotifyIsHeldToItsPart(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})
	fill(c, 12)
	c.Add(events.ApprovalRequest, "", "", []byte(`{"n":1}`))
	c.Add(events.ApprovalDecision, "", "", []byte(`{"n":2}`))
	fill(c, 6)
	stored(t, s, 20)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := jetstream.NotifyReader(ctx, dial(t, s, jetstream.RoleNotify))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 2 {
		m, err := r.Next(js.FetchMaxWait(20 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Subject())
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if all := strings.Join(got, " "); all != "sallyport.audit.h1.host.approval.request sallyport.audit.h1.host.approval.decision" {
		t.Error(all)
	}
	if info, err := r.Info(ctx); err != nil || info.NumPending != 0 || info.NumAckPending != 0 {
		t.Errorf("%+v %v", info, err)
	}
	for _, subj := range []string{
		"sallyport.audit.h1.host.approval.decision", "sallyport.transcript.h1.s-1", "sallyport.receipt.h1", "sallyport.approval.x",
		"$JS.API.STREAM.MSG.GET.SALLYPORT", "$JS.API.STREAM.PURGE.SALLYPORT", "$JS.API.CONSUMER.CREATE.SALLYPORT.x.sallyport.audit.>",
		"sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.recorder", "$JS.ACK.SALLYPORT.recorder.1.1.1.1.0",
	} {
		forbidden(t, s, jetstream.RoleNotify, func(nc *nats.Conn) error { return nc.Publish(subj, []byte("{}")) }, "publish to "+subj)
	}
	for _, subj := range []string{"sallyport.audit.>", "sallyport.audit.h1.host.approval.request", "sallyport.transcript.>", ">", "_INBOX_recorder.>"} {
		forbidden(t, s, jetstream.RoleNotify, func(nc *nats.Conn) error { _, err := nc.SubscribeSync(subj); return err }, "subscribe to "+subj)
	}
}
