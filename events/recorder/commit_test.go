package recorder_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

// held is a store whose commits wait for a word: nil for one that is made, else
// the error that it fails with.
type held struct {
	recorder.Store
	came chan struct{}
	word chan error
}

func (h *held) Add(ctx context.Context, batch []recorder.Message, now time.Time) ([]recorder.Head, []recorder.Alarm, error) {
	select {
	case h.came <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if err := <-h.word; err != nil {
		return nil, nil, err
	}
	return h.Store.Add(ctx, batch, now)
}

// Before the commit nothing is acknowledged and no receipt is signed; nor when
// it fails. Afterwards both are, for what the store holds.
func TestNothingIsSaidBeforeTheCommit(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	key, err := jetstream.ReadPrivateKey(filepath.Join(home(dir), "recorder.key"))
	if err != nil {
		t.Fatal(err)
	}
	host, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	receipts, err := host.SubscribeSync("sallyport.receipt.h1")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := jetstream.Connect(s.URL(), s.SeedFile(jetstream.RoleRecorder))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	st := &held{Store: open(t, dir), came: make(chan struct{}), word: make(chan error)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&recorder.Recorder{Conn: nc, Store: st, Key: key}).Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	feed(c, 1, 0)
	if err := host.Flush(); err != nil {
		t.Fatal(err)
	}
	publish(t, host, c.All()[0])

	comes := func() {
		t.Helper()
		select {
		case <-st.came:
		case <-time.After(2 * time.Minute):
			t.Fatal("nothing is stored")
		}
	}
	silent := func(when string) {
		t.Helper()
		_, consumer, err := jetstream.Consumer(t.Context(), nc, jetstream.RecorderConsumer)
		if err != nil {
			t.Fatal(err)
		}
		info, err := consumer.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.AckFloor.Stream != 0 {
			t.Errorf("%s: acknowledged", when)
		}
		// What was published before the answer has come before it.
		if err := errors.Join(nc.Flush(), host.Flush()); err != nil {
			t.Fatal(err)
		}
		if n, _, err := receipts.Pending(); err != nil || n > 0 {
			t.Errorf("%s: %d receipts, %v", when, n, err)
		}
	}
	for _, when := range []string{"in a first commit", "in a second"} {
		comes()
		silent(when)
		st.word <- errors.New("the disk is full")
	}
	comes()
	silent("in the last")
	st.word <- nil
	m, err := receipts.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var r jetstream.Receipt
	if err := json.Unmarshal(m.Data, &r); err != nil || !r.Verify(key.Public().(ed25519.PublicKey)) || r.Seq != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if rep := verify(t, dir); len(rep.Chains) != 1 || rep.Chains[0].Last != r.Seq || len(rep.Faults) > 0 {
		t.Errorf("a receipt for what is not there: %+v", rep)
	}
}
