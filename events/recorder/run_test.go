package recorder_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

// A test binary with this set is a recorder: url, seed file, store, folder of its keys.
const childEnv = "SALLYPORT_TEST_RECORDER"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Split(args, " ")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	nc, err := jetstream.Connect(args[0], args[1])
	if err != nil {
		return err
	}
	s, err := recorder.Open(args[2])
	if err != nil {
		return err
	}
	key, err := jetstream.ReadPrivateKey(filepath.Join(args[3], "recorder.key"))
	if err != nil {
		return err
	}
	r := &recorder.Recorder{
		Conn: nc, Store: s, Key: key, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Grace:  5 * time.Second,
		Stored: func(n int) { fmt.Println("stored", n) },
	}
	return r.Run(context.Background())
}

func startServer(t *testing.T) *jetstream.Server {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Host: "h1", AckWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func startShipper(t *testing.T, s *jetstream.Server, sh *jetstream.Shipper, c *chaintest.Chain) {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	sh.Host, sh.Conn = "h1", nc
	sh.Source = jetstream.Source{
		Chain: c.ID, First: c.First, Last: c.Last, Release: c.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return c.Reader(from), nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); sh.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; nc.Close() })
}

// process starts a recorder that can be killed; it returns once it has stored
// something.
func process(t *testing.T, s *jetstream.Server, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{s.URL(), s.SeedFile(jetstream.RoleRecorder), dir, home(dir)}, " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	stored := make(chan bool, 1)
	go func() {
		sc := bufio.NewScanner(out)
		stored <- sc.Scan()
		for sc.Scan() {
		}
	}()
	select {
	case ok := <-stored:
		if !ok {
			t.Fatal("a recorder ended and stored nothing")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("a recorder stores nothing")
	}
	return cmd
}

// complete waits until a store has n records of one chain, and wants it sound.
func complete(t *testing.T, dir string, c *chaintest.Chain) {
	t.Helper()
	s := open(t, dir)
	defer s.Close()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		hs, err := s.Heads(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(hs) == 1 && hs[0].Seq == c.Last() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("heads %v, the chain has %d", hs, c.Last())
		}
	}
	all := c.All()
	last := all[len(all)-1]
	rep := verify(t, dir, recorder.Head{Host: "h1", Chain: c.ID, Seq: last.Seq, Hash: last.Hash})
	if len(rep.Faults) != 0 || len(rep.Alarms) != 0 || len(rep.Chains) != 1 || rep.Chains[0].Records != c.Last() || rep.Chains[0].Waiting != 0 {
		t.Fatalf("%+v", rep)
	}
}

func feed(c *chaintest.Chain, n int, pause time.Duration) {
	for i := range n {
		c.Add(0, "postgres", "s-1", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Time: time.Now(), Data: make([]byte, i%2000)}))
		time.Sleep(pause)
	}
}

// feeding feeds until it is stopped: there is something for each recorder, however
// fast the one before it was, or slow to start.
func feeding(c *chaintest.Chain) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for pause := 200 * time.Microsecond; ; {
			select {
			case <-end:
				return
			default:
			}
			feed(c, 10, pause)
			if c.Last() > 6000 {
				pause = 10 * time.Millisecond
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-done })
}

func TestExactlyOnceThroughKills(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	startShipper(t, s, &jetstream.Shipper{}, c)
	stop := feeding(c)
	defer stop()
	for range 4 {
		p := process(t, s, dir)
		time.Sleep(60 * time.Millisecond)
		p.Process.Kill() // SIGKILL, somewhere between delivery, commit and ack
		p.Wait()
	}
	process(t, s, dir)
	stop()
	feed(c, 500, 100*time.Microsecond)
	complete(t, dir, c)
}

func TestTwoRecordersOfOneStore(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	startShipper(t, s, &jetstream.Shipper{}, c)
	stop := feeding(c)
	defer stop()
	process(t, s, dir) // each has stored something
	process(t, s, dir)
	stop()
	feed(c, 500, 100*time.Microsecond)
	complete(t, dir, c)
}

func TestReceiptLetsTheJournalForget(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	key, err := jetstream.ReadPrivateKey(filepath.Join(home(dir), "recorder.key"))
	if err != nil {
		t.Fatal(err)
	}
	startShipper(t, s, &jetstream.Shipper{RecorderKey: key.Public().(ed25519.PublicKey)}, c)
	feed(c, 100, 0)
	process(t, s, dir)
	for deadline := time.Now().Add(2 * time.Minute); c.First() != 101; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the journal still starts at %d", c.First())
		}
	}
	complete(t, dir, c)
}

// publish puts a record on the stream, as a host does.
func publish(t *testing.T, nc *nats.Conn, r events.Record) {
	t.Helper()
	h := nats.Header{
		"Sallyport-Chain": {r.Chain}, "Sallyport-Kind": {"transcript"}, "Sallyport-Protocol": {r.Protocol},
		"Sallyport-Record": {fmt.Sprintf("%d %d %s %x %x", r.Seq, len(r.Payload), r.Session, r.Prev, r.Hash)},
	}
	if _, err := nc.RequestMsg(&nats.Msg{Subject: jetstream.Subject("h1", &r), Header: h, Data: r.Payload}, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// What lies between two records is waited for a moment only: what came is stored.
func TestHolesHoldNothingUp(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	feed(c, 40, 0)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	rs := c.All()
	publish(t, nc, rs[0])
	process(t, s, dir)
	for i := range uint64(9) { // which of two timers is heard first is left to chance
		publish(t, nc, rs[4*i+2])
		publish(t, nc, rs[4*i+4])
		for deadline := time.Now().Add(2 * time.Minute); verify(t, dir).Chains[0].Waiting != 2*(i+1); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("records that came are not stored: %+v", verify(t, dir).Chains[0])
			}
		}
	}
}

func TestDuplicatesAndForgeriesOnTheStream(t *testing.T) {
	dir, s, c := newStore(t), startServer(t), chaintest.New("c1")
	feed(c, 20, 0)
	// A publisher with the host's own key, but not its journal.
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	publish := func(r events.Record) { publish(t, nc, r) }
	rs := c.All()
	for range 2 { // no message id: the stream takes both
		for _, r := range rs {
			publish(r)
		}
	}
	forged := rs[7]
	forged.Payload = []byte("\x01\x03 something that never was said")
	publish(forged)
	forged.Hash = forged.Sum()
	publish(forged)
	process(t, s, dir)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		rep := verify(t, dir)
		var got []string
		for _, a := range rep.Alarms {
			got = append(got, fmt.Sprint(a.What, " ", a.Seq))
		}
		if strings.Join(got, ", ") == "changed 8, forked 8" && rep.Chains[0].Records == 20 && len(rep.Faults) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("alarms %q, %+v", got, rep.Chains)
		}
	}
}

// Each message that can't be read leaves a trace of its own, however little it
// differs, and one only when it is delivered again.
func TestEachUnreadableMessageIsKept(t *testing.T) {
	dir, s := newStore(t), startServer(t)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 2 {
		for _, m := range []*nats.Msg{
			{Subject: "sallyport.audit.h1.host.alarm", Data: []byte("one")},
			{Subject: "sallyport.audit.h1.host.alarm", Data: []byte("two")},
			{Subject: "sallyport.audit.h1.host.block", Data: []byte("one")},
			{Subject: "sallyport.audit.h1.host.alarm", Data: []byte("one"), Header: nats.Header{"Sallyport-Kind": {"alarm"}}},
			{Subject: "sallyport.audit.h1.host.alarm", Data: []byte("one"), Header: nats.Header{"Sallyport-Kind": {"alarm", ""}}},
		} {
			if _, err := nc.RequestMsg(m, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	process(t, s, dir)
	c := chaintest.New("c1") // behind them all
	feed(c, 1, 0)
	publish(t, nc, c.All()[0])
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		rep := verify(t, dir)
		if len(rep.Chains) == 1 && rep.Chains[0].Records == 1 {
			for _, a := range rep.Alarms {
				if a.What != "unreadable" || a.Host != "h1" {
					t.Errorf("%+v", a)
				}
			}
			if len(rep.Alarms) != 5 {
				t.Errorf("%d alarms of 5 messages: %+v", len(rep.Alarms), rep.Alarms)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", rep)
		}
	}
}
