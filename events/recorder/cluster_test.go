package recorder_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// until waits for a state.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after two minutes: not yet %s", what)
		}
	}
}

// background runs until the test, or what it returns, ends it.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// client has statements answered, each once its record is durable, until it is ended.
func client(j *journal.Journal, id string, answered *atomic.Int64) func(context.Context) error {
	return func(ctx context.Context) error {
		s := newSession(id)
		for n := uint64(1); ctx.Err() == nil; n++ {
			if _, err := j.Append(&events.Event{
				Kind: events.Statement, Session: s, Time: time.Now(), Number: n, Command: "SELECT",
				Normalized: "SELECT name FROM patient WHERE id = $1", Verdict: events.Allow, Rules: []string{"read"}, Objects: []string{"public.patient"},
			}); err != nil {
				return err
			}
			end, err := j.Append(&events.Event{Kind: events.Response, Session: s, Time: time.Now(), Number: n, Status: "ok", Rows: 1})
			if err == nil {
				err = end.Wait(context.Background())
			}
			if err != nil {
				return err
			}
			answered.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	}
}

// A cluster of three loses the server that leads the stream, and later a second one
// with it, while clients go on: they are answered all the time, and what they were
// answered is with the recorder, each record once.
func TestAClusterLosesANodeAndAQuorum(t *testing.T) {
	c := startCluster(t)
	setup := c.connect(t, "setup")
	until(t, "a cluster that has a stream", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := jetstream.Ensure(ctx, setup, jetstream.Needs{}, time.Second)
		return err == nil
	})
	api, err := js.New(setup)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().Config.Replicas; n != 3 {
		t.Fatalf("%d replicas in a cluster of three", n)
	}

	dir := t.TempDir()
	key, err := jetstream.ReadPrivateKey(filepath.Join(dir, "recorder.key"))
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal"), journal.Options{Host: "ward-3", Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive, CheckpointEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	var failed atomic.Int64
	var released atomic.Uint64
	host := c.connect(t, "host")
	sh := &jetstream.Shipper{
		Host: "ward-3", Conn: host, RecorderKey: key.Public().(ed25519.PublicKey), Failed: func(error) { failed.Add(1) }, Released: released.Store,
		Source: jetstream.Source{
			Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
			Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
		},
	}
	background(t, sh.Run)
	store := open(t, dir)
	r := &recorder.Recorder{Conn: c.connect(t, "recorder"), Store: store, Key: key, Grace: time.Minute}
	background(t, r.Run)

	// With what docs/nats.example.conf allows it a host can look after the stream, and
	// is nobody but itself.
	if err := jetstream.Ensure(t.Context(), host, jetstream.Needs{}, time.Second); err != nil {
		t.Error(err)
	}
	for _, role := range []string{"host", "recorder"} {
		nc := c.connect(t, role)
		if err := errors.Join(nc.Publish("sallyport.audit.ward-4.host.alarm", nil), nc.Flush()); err != nil {
			t.Error(err)
		}
		if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s publishes as ward-4: %v", role, err)
		}
	}

	var answered atomic.Int64
	var stops []func()
	for i := range 4 {
		stops = append(stops, background(t, client(j, fmt.Sprintf("%08d-7a31-7c00-8000-000000000000", i), &answered)))
	}
	stored := func(what string) {
		t.Helper()
		want := j.Last()
		until(t, what, func() bool { return reached(t, store) > want })
	}
	stored("something with the recorder")

	lost := -1
	until(t, "a stream that is led", func() bool { lost = c.leader(); return lost >= 0 })
	c.lose(lost)
	before := answered.Load()
	stored("records through two of three servers")
	if answered.Load() == before {
		t.Error("no client was answered while a server was away")
	}
	c.start(t, lost)
	until(t, "a stream on three servers", c.whole)

	first, second := (lost+1)%3, (lost+2)%3
	c.lose(first)
	c.lose(second)
	gone, tries, before := j.Last(), failed.Load(), answered.Load()
	until(t, "clients that are answered without a quorum", func() bool { return answered.Load() > before+100 })
	until(t, "a try that fails", func() bool { return failed.Load() > tries })
	least := j.Last() - gone
	if lag := sh.Lag(); lag < least {
		t.Errorf("%d records wait, though none of the last %d can be in the stream", lag, least)
	}
	if h := reached(t, store); h > gone {
		t.Errorf("without a quorum the recorder has got record %d, of %d", h, gone)
	}
	c.start(t, first)
	c.start(t, second)
	stored("records through the servers that are back")
	until(t, "a stream on three servers", c.whole)

	for _, stop := range stops {
		stop()
	}
	until(t, "a recorder that has everything", func() bool { return reached(t, store) == j.Last() })
	until(t, "a receipt for everything", func() bool { return released.Load() == j.Last() })
	last, hash := j.Head()
	rep, err := recorder.Verify(t.Context(), store, recorder.Noted{Heads: []recorder.Head{{Host: "ward-3", Chain: j.Chain(), Seq: last, Hash: hash}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Faults)+len(rep.Alarms) != 0 || len(rep.Chains) != 1 || rep.Chains[0].Records != last || rep.Chains[0].Waiting != 0 {
		t.Fatalf("%+v, of %d records", rep, last)
	}
	sessions, err := store.Sessions(t.Context(), recorder.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, s := range sessions {
		held += s.Statements
	}
	if len(sessions) != 4 || int64(held) != answered.Load() {
		t.Fatalf("%d statements of %d sessions are recorded, clients were answered %d", held, len(sessions), answered.Load())
	}
	t.Logf("%d statements, %d records", held, last)
}

// reached is the last record that the store has, with none missing before it.
func reached(t *testing.T, s recorder.Store) uint64 {
	t.Helper()
	hs, err := s.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(hs) == 0 {
		return 0
	}
	return hs[0].Seq
}
