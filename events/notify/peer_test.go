package notify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/notify"
	"sallyport.dev/sallyport/events/ocsf"
)

// wait bounds what must come to be.
const wait = 4 * time.Minute

// world is a stream that a host ships its chain into.
type world struct {
	t      *testing.T
	server *jetstream.Server
	chain  *chaintest.Chain
	dir    string

	mu     sync.Mutex
	record []events.Event // what is evidence
	calls  []string       // outcomes of callbacks
	errs   int            // refused and unrouted
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	s, err := jetstream.StartServer(jetstream.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Host: "h1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := &world{t: t, server: s, chain: chaintest.New("c1"), dir: t.TempDir()}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: w.chain.ID, First: w.chain.First, Last: w.chain.Last, Release: w.chain.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return w.chain.Reader(from), nil },
	}}
	background(t, sh.Run)
	w.write("secret", "whsec_"+strings.Repeat("QUJD", 8))
	w.write("older", strings.Repeat("REVG", 8))
	w.write("token", "xoxb-1")
	w.write("signing", "8f742231b10e8888abcd99yyyzzz85a5")
	return w
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// background runs f until the test ends, or the returned function is called.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
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

const head = "state: state\npage: https://recorder.example.org/\n"

// load reads a configuration; what head has is in front.
func (w *world) load(text string) *notify.Settings {
	w.t.Helper()
	s, err := notify.Parse([]byte(head+text), filepath.Join(w.dir, "notify.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// run tells until the test ends, or the returned function is called.
func (w *world) run(s *notify.Settings, change ...func(*notify.Notifier)) (stop func()) {
	w.t.Helper()
	return background(w.t, w.notifier(s, change...))
}

// notifier is what run runs.
func (w *world) notifier(s *notify.Settings, change ...func(*notify.Notifier)) func(context.Context) error {
	w.t.Helper()
	nc, err := jetstream.Connect(w.server.URL(), w.server.SeedFile(jetstream.RoleNotify), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]notify.Channel{}
	for i := range s.Channels {
		if all[s.Channels[i].Name], err = notify.Open(&s.Channels[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	bad := func() { w.mu.Lock(); w.errs++; w.mu.Unlock() }
	n := &notify.Notifier{
		Settings: s, Channels: all, Conn: nc, Pause: time.Millisecond,
		Hooks: notify.Hooks{Refused: bad, Unrouted: bad, Callback: func(_, outcome string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.calls = append(w.calls, outcome)
		}},
		Record: func(e *events.Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.record = append(w.record, *e)
			return nil
		},
	}
	for _, c := range change {
		c(n)
	}
	return func(ctx context.Context) error {
		err := n.Run(ctx)
		nc.Close()
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
		return err
	}
}

// id is a request's.
func id(n int) string { return fmt.Sprintf("ap-%020d", n) }

// step publishes a step of a request, as a host does.
func (w *world) step(name string, n int, change ...func(*events.Event)) {
	kind := events.ApprovalRequest
	if name == "approved" || name == "denied" || name == "revoked" || name == "consumed" {
		kind = events.ApprovalDecision
	}
	now := time.Now()
	e := &events.Event{
		Kind: kind, Time: now, Status: name, Session: &events.Session{Host: "h1"}, Approval: &events.Approval{
			ID: id(n), Step: name, Rule: "deletes need a lead", Covers: "statement", Until: now.Add(15 * time.Minute), Uses: 1,
			Workload: "billing", Actor: "bot-7", Principal: "alice", Resource: "clinic", Database: "clinic", Session: "s-1",
		},
	}
	if name == "requested" || name == "seen" {
		e.Approval.Lacks = 1
	}
	if kind == events.ApprovalDecision {
		e.Approval.Approver, e.Approval.Why = "dr-lee", "PLANTED duplicate of Jane Doe"
	}
	for _, c := range change {
		c(e)
	}
	w.chain.Add(e.Kind, "", "", ocsf.Append(nil, fmt.Sprintf("c1-%d", w.chain.Last()+1), e))
}

// got is one request that a peer was sent.
type got struct {
	path, body string
	header     http.Header
}

// peer is an HTTP server whose first answers are faults.
type peer struct {
	*httptest.Server
	mu     sync.Mutex
	faults []http.HandlerFunc
	all    []got // what was taken
	tries  int
}

// newPeer serves a request with the next fault, or with serve when none is left; what
// serve gets counts as taken.
func newPeer(t *testing.T, serve http.HandlerFunc, faults ...http.HandlerFunc) *peer {
	p := &peer{faults: faults}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		p.mu.Lock()
		h := serve
		p.tries++
		if len(p.faults) > 0 {
			h, p.faults = p.faults[0], p.faults[1:]
			p.mu.Unlock()
			h(w, r)
			return
		}
		p.all = append(p.all, got{r.URL.Path, string(b), r.Header.Clone()})
		p.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *peer) taken() []got { p.mu.Lock(); defer p.mu.Unlock(); return slices.Clone(p.all) }

// until waits until the peer has taken n, and returns them.
func (p *peer) until(t *testing.T, n int) []got {
	t.Helper()
	until(t, func() bool { return len(p.taken()) >= n })
	return p.taken()
}

func until(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to be")
		}
	}
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

// later says to wait a second.
func later(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusTooManyRequests)
}

// listening tells where callbacks are taken.
func listening(address chan<- string) func(*notify.Notifier) {
	return func(n *notify.Notifier) {
		n.Log = slog.New(&logs{address})
	}
}

// logs looks for the address in log lines.
type logs struct{ address chan<- string }

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "address" {
			l.address <- a.Value.String()
		}
		return true
	})
	return nil
}
