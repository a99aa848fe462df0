package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// From a request on a host to a message on a channel, by the program as it is run; what
// was told is evidence.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.Options{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Host: "h1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	open := func(folder string) *journal.Journal {
		j, err := journal.Open(folder, journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open(filepath.Join(dir, "journal"))
	t.Cleanup(func() { j.Close() })
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	sh := &jetstream.Shipper{Host: "h1", Conn: nc, Source: jetstream.Source{
		Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
		Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
	}}
	background(t, func(ctx context.Context) error { return sh.Run(ctx) })

	bodies := make(chan string, 10)
	var answer atomic.Int32
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if answer.Load() == http.StatusOK {
			bodies <- string(b)
		}
		w.WriteHeader(int(answer.Load()))
	}))
	t.Cleanup(peer.Close)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("secret", strings.Repeat("QUJD", 8))
	config := write("notify.yaml", fmt.Sprintf(`nats: %s
nkey: %s
state: state
page: https://recorder.example.org
channels:
- name: hook
  webhook: {url: %q, secret_files: [secret]}
routes:
- steps:
  - tell: [hook]
`, s.URL(), s.SeedFile(jetstream.RoleNotify), peer.URL))
	cli := func(args ...string) int {
		return run(t.Context(), append([]string{"notify"}, append(args, "--config", config)...))
	}
	answer.Store(http.StatusForbidden)
	if code := cli("test", "--channel", "hook"); code != 1 {
		t.Errorf("a channel that refuses: exit code %d", code)
	}
	answer.Store(http.StatusOK)
	for want, args := range map[string][]string{"": {"check"}, `"test"`: {"test", "--channel", "hook"}} {
		if code := cli(args...); code != 0 || want != "" && !strings.Contains(<-bodies, want) {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if code := cli("test", "--channel", "other"); code != 2 {
		t.Errorf("no such channel: exit code %d", code)
	}
	if code := run(t.Context(), []string{"notify", "run", "--config", write("bad.yaml", "channels: []\n")}); code != 2 {
		t.Errorf("a wrong configuration: exit code %d", code)
	}

	stop := background(t, func(ctx context.Context) error {
		if code := run(ctx, []string{"notify", "run", "--config", config}); code != 0 {
			return fmt.Errorf("exit code %d", code)
		}
		return nil
	})
	now := time.Now()
	if _, err := j.Append(&events.Event{Kind: events.ApprovalRequest, Time: now, Status: "requested", Session: &events.Session{Host: "h1"}, Approval: &events.Approval{
		ID: "ap-7ck3n2v5q4hz6w2x2m7d", Step: "requested", Rule: "deletes", Covers: "statement", Until: now.Add(15 * time.Minute), Lacks: 1, Workload: "billing", Resource: "clinic",
	}}); err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-bodies:
		if !strings.Contains(b, `"https://recorder.example.org/approvals/h1/ap-7ck3n2v5q4hz6w2x2m7d"`) {
			t.Error(b)
		}
	case <-time.After(4 * time.Minute):
		t.Fatal("nobody is told")
	}
	record := filepath.Join(dir, "state", "record")
	stop()
	told := open(record)
	defer told.Close()
	found := false
	in := told.Reader(1)
	defer in.Close()
	for n := told.Last(); n > 0; n-- {
		r, err := in.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v, err := ocsf.Decode(r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		found = found || v.Approval != nil && v.Approval.Step == "notified" && v.Approval.ID == "ap-7ck3n2v5q4hz6w2x2m7d" && strings.Contains(v.Message, "hook")
	}
	if !found {
		t.Error("what was told is not on the record")
	}
}
