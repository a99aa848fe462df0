package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

const wait = 2 * time.Minute

// world is a stream that a host ships its chain into.
type world struct {
	server *jetstream.Server
	chain  *chaintest.Chain
}

func newWorld(t *testing.T, sinks ...string) *world {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Host: "h1", Sinks: sinks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := &world{s, chaintest.New("c1")}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: w.chain.ID, First: w.chain.First, Last: w.chain.Last, Release: w.chain.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return w.chain.Reader(from), nil },
	}}
	run(t, sh.Run)
	return w
}

// run runs f until the test ends, or the returned function is called.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (w *world) dial(t *testing.T, role string) *nats.Conn {
	t.Helper()
	nc, err := jetstream.Connect(w.server.URL(), w.server.SeedFile(role), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

var start = time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)

// session is one whose names need every escape that there is.
var session = &events.Session{
	ID: "s-1", Host: "h1", Protocol: "postgres", Resource: "clinic", Workload: "triage|bot", Actor: `agent "a"]`,
	Principal: `dr=grey\`, Actors: []string{"agent-a", "orchestrator"}, Opened: start,
}

// add appends n events, a second apart, and a transcript's piece behind each.
func (w *world) add(n int) {
	for range n {
		seq := w.chain.Last() + 1
		e := &events.Event{
			Kind: events.Block, Time: start.Add(time.Duration(seq) * time.Second), Session: session, Number: seq, Command: "delete", Normalized: "delete\nfrom patients where note = $1",
			Verdict: events.Blocked, Rules: []string{"no-destruction"}, Reason: "agents may not delete patients", Code: "42501",
		}
		w.chain.Add(e.Kind, "postgres", "s-1", ocsf.Append(nil, fmt.Sprintf("c1-%d", seq), e))
		w.chain.Add(0, "postgres", "s-1", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkStatement, Data: []byte("PLANTED-SSN")}))
	}
}

// uids are those of the first n events that add made.
func uids(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("c1-%d", 2*i+1))
	}
	return out
}

// load parses a configuration with one sink, "it".
func load(t *testing.T, target string) *sink.Settings {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"token": "t0k", "secret": "whsec_" + strings.Repeat("QUJD", 8), "password": "pw"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sink.Parse([]byte("state: state\nsinks:\n- name: it\n  batch: 10\n"+target), filepath.Join(dir, "sinks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runSink runs the sink "it" of a configuration.
func (w *world) runSink(t *testing.T, s *sink.Settings, hooks sink.Hooks) (stop func()) {
	t.Helper()
	target, err := sink.Open(&s.Sinks[0])
	if err != nil {
		t.Fatal(err)
	}
	k := &sink.Sink{
		Config: s.Sinks[0], Target: target, Conn: w.dial(t, jetstream.RoleSink), State: s.State, Hooks: hooks,
		Pause: time.Millisecond, Limit: 2 * time.Second,
	}
	return run(t, func(ctx context.Context) error { return errors.Join(k.Run(ctx), target.Close()) })
}

func rejectedOf(t *testing.T, s *sink.Settings) (uids []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.State, "it.rejected.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var x struct {
			UID, Why string
			Event    json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &x); err != nil || x.Why == "" {
			t.Fatalf("%v: %s", err, line)
		}
		if _, err := ocsf.Decode(x.Event); err != nil {
			t.Fatal(err)
		}
		uids = append(uids, x.UID)
	}
	return uids
}

// taken is what a peer has taken, by uid.
type taken struct {
	mu    sync.Mutex
	times map[string]int
	order []string
}

func (k *taken) add(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.times == nil {
		k.times = map[string]int{}
	}
	if k.times[uid]++; k.times[uid] == 1 {
		k.order = append(k.order, uid)
	}
}

func (k *taken) count(uid string) int { k.mu.Lock(); defer k.mu.Unlock(); return k.times[uid] }

func (k *taken) list() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.order...)
}

// until waits until the peer has all of these.
func (k *taken) until(t *testing.T, want []string) {
	t.Helper()
	var missing []string
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		k.mu.Lock()
		missing = nil
		for _, u := range want {
			if k.times[u] == 0 {
				missing = append(missing, u)
			}
		}
		k.mu.Unlock()
		if len(missing) == 0 {
			return
		}
	}
	t.Fatalf("the target has not %v", missing)
}

// peer is an HTTP server whose first answers are faults.
type peer struct {
	*httptest.Server
	mu     sync.Mutex
	faults []http.HandlerFunc
	bodies []string
}

// newPeer serves a request with the next fault, or with serve when none is left.
func newPeer(t *testing.T, serve http.HandlerFunc, faults ...http.HandlerFunc) *peer {
	p := &peer{faults: faults}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p.mu.Lock()
		h := serve
		if len(p.faults) > 0 {
			h, p.faults = p.faults[0], p.faults[1:]
		}
		p.bodies = append(p.bodies, string(b))
		p.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		h(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *peer) left() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.faults) }

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// reset ends the connection with a RST, without an answer.
func reset(w http.ResponseWriter, _ *http.Request) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// half answers 200, and breaks off.
func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	io.WriteString(w, `{"items":[`)
	w.(http.Flusher).Flush()
	reset(w, nil)
}

// hang answers nothing for as long as the sink waits.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func later(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusTooManyRequests)
}

// acknowledged waits until no message is left for the sink.
func (w *world) acknowledged(t *testing.T) {
	t.Helper()
	nc := w.dial(t, jetstream.RoleSink)
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		c, err := jetstream.SinkReader(t.Context(), nc, "it")
		if err != nil {
			t.Fatal(err)
		}
		var info *js.ConsumerInfo = c.CachedInfo()
		if info.NumPending == 0 && info.NumAckPending == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages are left, %d without acknowledgement", info.NumPending, info.NumAckPending)
		}
	}
}
