package recorder_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

// road is the way to NATS, which may be closed.
type road struct{ open atomic.Bool }

func (r *road) Dial(network, address string) (net.Conn, error) {
	if !r.open.Load() {
		return nil, errors.New("nobody is there")
	}
	return net.Dial(network, address)
}

// NATS is away for the whole run: clients are answered all the same, and when it is
// there, after the host was started anew, the recorder has what they were answered,
// each once.
func TestNATSIsAwayForTheWholeRun(t *testing.T) {
	server, to := startServer(t), &road{}
	store := open(t, t.TempDir())
	key, err := jetstream.ReadPrivateKey(filepath.Join(t.TempDir(), "recorder.key"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "journal")
	var failed atomic.Int64
	var released atomic.Uint64
	// host is a run of one: it ships to where the road leads.
	host := func() (j *journal.Journal, stop func()) {
		t.Helper()
		j, err := journal.Open(dir, journal.Options{Host: "h1", Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive, CheckpointEvery: -1})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := jetstream.Connect(server.URL(), server.SeedFile(jetstream.RoleHost), nats.SetCustomDialer(to), nats.RetryOnFailedConnect(true), nats.ReconnectWait(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		sh := &jetstream.Shipper{
			Host: "h1", Conn: nc, RecorderKey: key.Public().(ed25519.PublicKey), Failed: func(error) { failed.Add(1) }, Released: released.Store,
			Source: jetstream.Source{
				Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
				Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
			},
		}
		end := background(t, sh.Run)
		return j, func() {
			end()
			nc.Close()
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
	}

	j, stop := host()
	var answered atomic.Int64
	var ends []func()
	for i := range 4 {
		ends = append(ends, background(t, client(j, fmt.Sprintf("%08d-7a31-7c00-8000-000000000000", i), &answered)))
	}
	until(t, "clients that are answered without NATS", func() bool { return answered.Load() > 200 && failed.Load() > 0 })
	for _, end := range ends {
		end()
	}
	chain, last := j.Chain(), j.Last()
	stop()
	if released.Load() > 0 {
		t.Fatalf("the journal has forgotten %d records that nobody has", released.Load())
	}

	to.open.Store(true)
	nc, err := jetstream.Connect(server.URL(), server.SeedFile(jetstream.RoleRecorder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	background(t, (&recorder.Recorder{Conn: nc, Store: store, Key: key, Grace: time.Hour}).Run)
	j, stop = host()
	defer stop()
	if j.Chain() != chain || j.Last() < last {
		t.Fatalf("chain %s of %d records, it was %s of %d", j.Chain(), j.Last(), chain, last)
	}
	until(t, "a receipt for everything", func() bool { return released.Load() >= j.Last() && reached(t, store) == j.Last() })
	rep := verified(t, store, recorder.Noted{})
	if len(rep.Faults)+len(rep.Alarms) > 0 || len(rep.Chains) != 1 || rep.Chains[0].Records != j.Last() {
		t.Errorf("%+v, of %d records", rep, j.Last())
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
		t.Errorf("%d statements of %d sessions are recorded, clients were answered %d", held, len(sessions), answered.Load())
	}
}
