package jetstream_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
)

func TestMain(m *testing.M) {
	// A nats-server in the process leaves these of its own running for a
	// moment after its shutdown; everything else must be gone.
	const srv = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(srv+"/ats.Register.func1"),
		goleak.IgnoreAnyFunction(srv+".(*msgBlock).flushLoop"), goleak.IgnoreAnyFunction(srv+".(*fileStore).flushStreamStateLoop"))
}

func server(t *testing.T, dir, listen string) *jetstream.Server {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.Options{Dir: dir, Listen: listen, Host: "h1", AckWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *jetstream.Server, role string) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Connect(s.URL(), s.SeedFile(role), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

var quiet = nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})

func source(c *chaintest.Chain) jetstream.Source {
	return jetstream.Source{
		Chain: c.ID, First: c.First, Last: c.Last, Release: c.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return c.Reader(from), nil },
	}
}

// ship runs a shipper until the returned function is called.
func ship(t *testing.T, s *jetstream.Shipper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// stored returns the records that the stream holds, in the order of the chain.
func stored(t *testing.T, s *jetstream.Server, want int) []events.Record {
	t.Helper()
	return all(t, dial(t, s, jetstream.RoleHost), want)
}

func all(t *testing.T, nc *nats.Conn, want int) []events.Record {
	t.Helper()
	var out []events.Record
	deadline := time.Now().Add(2 * time.Minute)
	seq := 1
	for ; len(out) < want; seq++ {
		m, err := nc.Request("$JS.API.STREAM.MSG.GET.SALLYPORT", fmt.Appendf(nil, `{"seq":%d}`, seq), 2*time.Second)
		if err == nil && !strings.Contains(string(m.Data), `"error"`) {
			out = append(out, decode(t, m.Data)...)
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream holds %d of %d records", len(out), want)
		}
		seq--
		time.Sleep(20 * time.Millisecond)
	}
	if m, err := nc.Request("$JS.API.STREAM.MSG.GET.SALLYPORT", fmt.Appendf(nil, `{"seq":%d}`, seq), 2*time.Second); err != nil || !strings.Contains(string(m.Data), `"error"`) || len(out) > want {
		t.Fatalf("the stream holds more than %d records: %s %v", want, m.Data, err)
	}
	slices.SortStableFunc(out, func(a, b events.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

func inOrder(t *testing.T, got []events.Record, c *chaintest.Chain) {
	t.Helper()
	for i, want := range c.All() {
		if got[i].Seq != want.Seq || got[i].Hash != want.Hash || !got[i].Intact() {
			t.Fatalf("record %d of the stream is record %d of the chain, intact %v", i+1, got[i].Seq, got[i].Intact())
		}
	}
}

func fill(c *chaintest.Chain, n int) {
	for i := range n {
		if i%3 == 2 {
			c.Add(0, "postgres", "s-1", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Data: make([]byte, 1000)}))
			continue
		}
		c.Add(events.Statement, "postgres", "s-1", fmt.Appendf(nil, `{"n":%d}`, i))
	}
}

func TestShipsInOrderOnceThroughRestarts(t *testing.T) {
	dir, c := t.TempDir(), chaintest.New("c1")
	s := server(t, dir, "127.0.0.1:0")
	listen := strings.TrimPrefix(s.URL(), "nats://")
	nc, err := jetstream.Connect(s.URL(), s.SeedFile(jetstream.RoleHost))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	stop := ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc})
	fill(c, 500)
	stored(t, s, 500)

	// NATS goes away in the middle of the work and comes back.
	done := make(chan struct{})
	go func() { defer close(done); fill(c, 2000) }()
	time.Sleep(5 * time.Millisecond)
	s.Close()
	<-done
	fill(c, 500)
	s = server(t, dir, listen)
	inOrder(t, stored(t, s, 3000), c)
	stop()

	// A new shipper knows nothing but the stream's end.
	fill(c, 100)
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})
	inOrder(t, stored(t, s, 3100), c)
}

// A busy host's records share messages, of one subject each.
func TestRecordsShareMessages(t *testing.T) {
	c := chaintest.New("c1")
	fill(c, 3000)
	s := server(t, t.TempDir(), "127.0.0.1:0")
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})
	inOrder(t, stored(t, s, 3000), c)
	api, _ := js.New(dial(t, s, jetstream.RoleHost))
	st, err := api.Stream(context.Background(), "SALLYPORT")
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Msgs; n > 100 {
		t.Errorf("%d messages for 3,000 records of two subjects", n)
	}
}

// A batch that was broken off at any of its messages goes on where it was: each
// record is in the stream once, also if the rest is broken off again.
func TestABrokenBatchGoesOn(t *testing.T) {
	whole := chaintest.New("c1")
	for i := range 120 {
		whole.Add(events.Kind(1+i%5), "postgres", fmt.Sprint("s-", i%2), fmt.Appendf(nil, `{"n":%d}`, i))
		if i%10 == 0 {
			whole.Add(events.Lifecycle, "", "", []byte(`{}`)) // of the host itself
			continue
		}
		whole.Add(0, "postgres", fmt.Sprint("s-", i%3), events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Data: make([]byte, 100)}))
	}
	for first := 1; first <= 8; first++ {
		srv, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		nc, err := nats.Connect("", nats.InProcessServer(srv))
		if err != nil {
			t.Fatal(err)
		}
		if err := jetstream.Ensure(t.Context(), nc, jetstream.Needs{}, 0); err != nil {
			t.Fatal(err)
		}
		api, _ := js.New(nc)
		st, err := api.Stream(t.Context(), "SALLYPORT")
		if err != nil {
			t.Fatal(err)
		}
		conf := st.CachedInfo().Config
		// Behind so many messages the stream takes no more; then one more at a time.
		shipped := uint64(0)
		for conf.MaxMsgs = int64(first); shipped < whole.Last(); conf.MaxMsgs++ {
			if _, err := api.UpdateStream(t.Context(), conf); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			sh := jetstream.Shipper{Host: "h1", Source: source(whole), Conn: nc, Failed: func(error) { cancel() }, Shipped: func(seq uint64) {
				if shipped = seq; seq == whole.Last() {
					cancel()
				}
			}}
			if err := sh.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if conf.MaxMsgs > 20 {
				t.Fatalf("%d messages for one batch", conf.MaxMsgs)
			}
		}
		inOrder(t, all(t, nc, 240), whole)
		nc.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

func TestTwoShippersOfOneChain(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	for range 2 {
		ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})
	}
	for range 10 {
		fill(c, 50)
		time.Sleep(5 * time.Millisecond)
	}
	inOrder(t, stored(t, s, 500), c)
}

func TestRefusesAForkedStream(t *testing.T) {
	s := server(t, t.TempDir(), "127.0.0.1:0")
	one, other := chaintest.New("c1"), chaintest.New("c1")
	fill(one, 10)
	stop := ship(t, &jetstream.Shipper{Host: "h1", Source: source(one), Conn: dial(t, s, jetstream.RoleHost)})
	stored(t, s, 10)
	stop()
	for range 12 {
		other.Add(events.Alarm, "", "", []byte(`{}`))
	}
	failed := make(chan error, 100)
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(other), Conn: dial(t, s, jetstream.RoleHost), Failed: func(err error) { failed <- err }})
	if err := <-failed; !errors.Is(err, jetstream.ErrForked) {
		t.Fatalf("a forked chain: %v", err)
	}
	stored(t, s, 10)
}

func TestTooLargeStopsBeforeIt(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	fill(c, 3)
	c.Add(0, "postgres", "s-1", make([]byte, 2<<20))
	fill(c, 3)
	failed := make(chan error, 100)
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost), Failed: func(err error) { failed <- err }})
	for err := range failed {
		if errors.Is(err, jetstream.ErrTooLarge) {
			break
		}
	}
	stored(t, s, 3)
}

func TestReceipts(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	pub, key, _ := ed25519.GenerateKey(nil)
	_, wrong, _ := ed25519.GenerateKey(nil)
	released := make(chan uint64, 10)
	fill(c, 20)
	ship(t, &jetstream.Shipper{
		Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost), RecorderKey: pub,
		Released: func(n uint64) { released <- n },
	})
	recs := stored(t, s, 20)
	rec := dial(t, s, jetstream.RoleRecorder)
	send := func(k ed25519.PrivateKey, r jetstream.Receipt) {
		t.Helper()
		if err := jetstream.PublishReceipt(rec, k, r); err != nil {
			t.Fatal(err)
		}
		rec.Flush()
	}
	send(wrong, jetstream.Receipt{Host: "h1", Chain: "c1", Seq: 19, Hash: recs[18].Hash[:]})
	send(key, jetstream.Receipt{Host: "h1", Chain: "c1", Seq: 18, Hash: recs[18].Hash[:]}) // not that record's hash
	send(key, jetstream.Receipt{Host: "h1", Chain: "c1", Seq: 21, Hash: recs[18].Hash[:]}) // beyond the end
	send(key, jetstream.Receipt{Host: "h1", Chain: "c0", Seq: 17, Hash: recs[16].Hash[:]}) // another chain
	send(key, jetstream.Receipt{Host: "h1", Chain: "c1", Seq: 7, Hash: recs[6].Hash[:]})
	if n := <-released; n != 7 || c.First() != 8 {
		t.Fatalf("released up to %d, the journal starts at %d: want 7 and 8", n, c.First())
	}
	select {
	case n := <-released:
		t.Fatalf("released %d as well", n)
	case <-time.After(100 * time.Millisecond):
	}
}

// A recorder that was put back to an earlier state, with its log, has fewer records than
// it signed: the host says so, also after a new start, and not of receipts that crossed.
func TestRecorderPutBack(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	pub, key, _ := ed25519.GenerateKey(nil)
	fill(c, 20)
	released, told := make(chan uint64, 10), make(chan [2]uint64, 10)
	shipper := func(patience time.Duration) *jetstream.Shipper {
		return &jetstream.Shipper{
			Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost), RecorderKey: pub, Patience: patience,
			Released: func(n uint64) { released <- n }, PutBack: func(seq, signed uint64) {
				select {
				case told <- [2]uint64{seq, signed}:
				default:
				}
			},
		}
	}
	rec := dial(t, s, jetstream.RoleRecorder)
	var recs []events.Record
	send := func(seqs ...uint64) {
		t.Helper()
		for _, seq := range seqs {
			if err := jetstream.PublishReceipt(rec, key, jetstream.Receipt{Host: "h1", Chain: "c1", Seq: seq, Hash: recs[seq-1].Hash[:]}); err != nil {
				t.Fatal(err)
			}
		}
		rec.Flush()
	}
	took := func(want uint64) {
		t.Helper()
		select {
		case n := <-released:
			if n != want {
				t.Fatalf("released %d, want %d", n, want)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("%d is not released", want)
		}
	}
	stop := ship(t, shipper(time.Hour))
	recs = stored(t, s, 20)
	send(7)
	took(7)
	send(5, 6, 9) // they crossed
	took(9)
	send(4, 3) // not for long
	send(10)
	took(10)
	stop()
	if len(told) > 0 {
		t.Fatalf("receipts that crossed: %v", <-told)
	}

	ship(t, shipper(time.Nanosecond))
	for end := time.Now().Add(2 * time.Minute); ; {
		send(5) // until the new start hears it
		select {
		case got := <-told:
			if got != [2]uint64{5, 10} {
				t.Errorf("told %v", got)
			}
		case <-time.After(50 * time.Millisecond):
			if time.Now().After(end) {
				t.Fatal("a recorder that lost what it signed is not told")
			}
			continue
		}
		break
	}
	send(12)
	took(12)
}

func TestRolesAreHeldToTheirPart(t *testing.T) {
	c := chaintest.New("c1")
	s := server(t, t.TempDir(), "127.0.0.1:0")
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: dial(t, s, jetstream.RoleHost)})

	if nc, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Fatalf("a client without a key: %v", err)
	}
	for _, role := range []string{jetstream.RoleHost, jetstream.RoleRecorder, jetstream.RoleSIEM} {
		if fi, err := os.Stat(s.SeedFile(role)); err != nil || fi.Mode() != 0o600 {
			t.Errorf("seed of %s: %v %v", role, fi.Mode(), err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	// The SIEM sees audit events only, live and from the start.
	siem := dial(t, s, jetstream.RoleSIEM)
	tail := func(o jetstream.TailOptions, started chan struct{}, n int) []string {
		var got []string
		stop := errors.New("enough")
		err := jetstream.Tail(ctx, siem, o, started, func(m *nats.Msg) error {
			_, rs, err := jetstream.Parse(m.Subject, m.Header, m.Data)
			if err != nil {
				return err
			}
			for range rs {
				got = append(got, m.Subject)
			}
			if len(got) >= n {
				return stop
			}
			return nil
		})
		if err != stop {
			t.Errorf("Tail: %v", err)
		}
		return got
	}
	started := make(chan struct{})
	live := make(chan []string, 1)
	go func() { live <- tail(jetstream.TailOptions{}, started, 20) }()
	<-started
	fill(c, 30)
	stored(t, s, 30)
	for _, got := range [][]string{<-live, tail(jetstream.TailOptions{FromStart: true}, nil, 20), tail(jetstream.TailOptions{FromStart: true}, nil, 20)} {
		for _, subj := range got {
			if subj != "sallyport.audit.h1.postgres.statement" {
				t.Errorf("the SIEM saw %s", subj)
			}
		}
	}
	if err := jetstream.Tail(ctx, siem, jetstream.TailOptions{Subject: "sallyport.transcript.>"}, nil, func(*nats.Msg) error { return nil }); err == nil {
		t.Error("the SIEM may subscribe to transcripts")
	}
	if err := jetstream.Tail(ctx, siem, jetstream.TailOptions{Subject: ">"}, nil, func(*nats.Msg) error { return nil }); err == nil {
		t.Error("the SIEM may subscribe to everything")
	}

	// What each role must not be able to publish or ask for.
	forbidden := map[string][]string{
		jetstream.RoleSIEM: {
			"sallyport.audit.h1.postgres.statement", "sallyport.receipt.h1",
			"$JS.API.STREAM.MSG.GET.SALLYPORT", "$JS.API.CONSUMER.CREATE.SALLYPORT.x.sallyport.audit.>",
			"sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.recorder", "$JS.API.STREAM.DELETE.SALLYPORT",
		},
		jetstream.RoleRecorder: {
			"sallyport.audit.h1.postgres.statement", "$JS.API.STREAM.DELETE.SALLYPORT",
			"$JS.API.STREAM.PURGE.SALLYPORT", "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.siem",
		},
		jetstream.RoleHost: {
			"sallyport.audit.h2.postgres.statement", "sallyport.receipt.h1", "$JS.API.STREAM.DELETE.SALLYPORT",
			"$JS.API.STREAM.UPDATE.SALLYPORT", "$JS.API.STREAM.PURGE.SALLYPORT", "$JS.API.CONSUMER.CREATE.SALLYPORT.x",
		},
	}
	for role, subjects := range forbidden {
		for _, subj := range subjects {
			nc, err := jetstream.Connect(s.URL(), s.SeedFile(role), quiet)
			if err != nil {
				t.Fatal(err)
			}
			nc.Publish(subj, nil)
			nc.Flush()
			if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s may publish to %s: %v", role, subj, err)
			}
			nc.Close()
		}
	}

	// A reader cannot have the server answer where the reader may not
	// publish: the stream survives, and no such event appears in it.
	for _, reply := range []string{"$JS.API.STREAM.DELETE.SALLYPORT", "$JS.API.STREAM.PURGE.SALLYPORT", "sallyport.audit.h1.host.alarm"} {
		for role, nc := range map[string]*nats.Conn{"siem": siem, "recorder": dial(t, s, jetstream.RoleRecorder)} {
			nc.PublishRequest("sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT."+role, reply, []byte(`{"batch":1,"no_wait":true}`))
			nc.PublishRequest("sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT."+role, reply, []byte(`{"batch":1,"expires":1000000}`))
			nc.Flush()
		}
	}
	time.Sleep(100 * time.Millisecond)
	inOrder(t, stored(t, s, 30), c)
}
