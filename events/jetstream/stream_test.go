package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
)

// weaker are the ways in which a stream may lose or alter evidence, by what the
// refusal names.
var weaker = map[string]func(*js.StreamConfig){
	"subjects":             func(c *js.StreamConfig) { c.Subjects = c.Subjects[:1] },
	"storage":              func(c *js.StreamConfig) { c.Storage = js.MemoryStorage },
	"retention":            func(c *js.StreamConfig) { c.Retention = js.InterestPolicy },
	"discard":              func(c *js.StreamConfig) { c.Discard = js.DiscardOld },
	"deny_delete":          func(c *js.StreamConfig) { c.DenyDelete = false },
	"deny_purge":           func(c *js.StreamConfig) { c.DenyPurge = false },
	"allow_rollup_hdrs":    func(c *js.StreamConfig) { c.AllowRollup = true },
	"max_age":              func(c *js.StreamConfig) { c.MaxAge = time.Hour },
	"max_msgs_per_subject": func(c *js.StreamConfig) { c.MaxMsgsPerSubject = 10 },
	"allow_msg_ttl":        func(c *js.StreamConfig) { c.AllowMsgTTL = true },
	"no_ack":               func(c *js.StreamConfig) { c.NoAck = true },
	"persist_mode":         func(c *js.StreamConfig) { c.PersistMode = js.AsyncPersistMode },
	"allow_msg_schedules":  func(c *js.StreamConfig) { c.AllowMsgSchedules = true },
	"allow_msg_counter":    func(c *js.StreamConfig) { c.AllowMsgCounter = true },
	"subject_transform": func(c *js.StreamConfig) {
		c.SubjectTransform = &js.SubjectTransformConfig{Source: "sallyport.audit.h2.>", Destination: "sallyport.audit.h1.>"}
	},
	"mirror":           func(c *js.StreamConfig) { c.Mirror = &js.StreamSource{Name: "OTHER"} },
	"sources":          func(c *js.StreamConfig) { c.Sources = []*js.StreamSource{{Name: "OTHER"}} },
	"republish":        func(c *js.StreamConfig) { c.RePublish = &js.RePublish{Source: ">", Destination: "copy.>"} },
	"sealed":           func(c *js.StreamConfig) { c.Sealed = true },
	"duplicate_window": func(c *js.StreamConfig) { c.Duplicates = time.Second },
	"num_replicas":     func(c *js.StreamConfig) { c.Replicas = 2 },
}

// bare is a NATS of the user's own, without a stream.
func bare(t *testing.T) *nats.Conn {
	t.Helper()
	srv, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// ours is the stream that sallyport makes, with three copies.
func ours(t *testing.T, nc *nats.Conn) js.StreamConfig {
	t.Helper()
	if err := jetstream.Ensure(t.Context(), nc, jetstream.Needs{}, 0); err != nil {
		t.Fatal(err)
	}
	api, _ := js.New(nc)
	st, err := api.Stream(t.Context(), "SALLYPORT")
	if err != nil {
		t.Fatal(err)
	}
	c := st.CachedInfo().Config
	c.Subjects, c.Replicas = append([]string(nil), c.Subjects...), 3
	return c
}

func TestEachWeakSettingIsRefused(t *testing.T) {
	good := ours(t, bare(t))
	if err := jetstream.Check(good, 3); err != nil {
		t.Fatalf("our own stream: %v", err)
	}
	for name, weaken := range weaker {
		weak := good
		weaken(&weak)
		if err := jetstream.Check(weak, 3); !errors.Is(err, jetstream.ErrWeak) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s weakened: %v", name, err)
		}
	}
}

// A stream that somebody has made weaker is neither taken at the start nor sent to,
// unless the configuration says so.
func TestNothingIsShippedToAWeakStream(t *testing.T) {
	for _, name := range []string{"storage", "discard", "deny_delete", "deny_purge", "max_age", "num_replicas"} {
		t.Run(name, func(t *testing.T) {
			conf := ours(t, bare(t))
			conf.Replicas = 1
			need := jetstream.Needs{}
			if name == "num_replicas" {
				need.Replicas = 3
			} else {
				weaker[name](&conf)
			}
			nc := bare(t)
			api, _ := js.New(nc)
			if _, err := api.CreateStream(t.Context(), conf); err != nil {
				t.Fatal(err)
			}
			if err := jetstream.Ensure(t.Context(), nc, need, 0); !errors.Is(err, jetstream.ErrWeak) {
				t.Errorf("Ensure: %v", err)
			}
			c := chaintest.New("c1")
			fill(c, 10)
			failed := make(chan error, 100)
			stop := ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc, Need: need, Failed: func(err error) { failed <- err }})
			if err := within(t, failed); !errors.Is(err, jetstream.ErrWeak) || !strings.Contains(err.Error(), name) {
				t.Errorf("shipping: %v", err)
			}
			stop()
			all(t, nc, 0)

			need.Weaker = true
			if err := jetstream.Ensure(t.Context(), nc, need, 0); err != nil {
				t.Errorf("Ensure, told to: %v", err)
			}
			ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc, Need: need})
			inOrder(t, all(t, nc, 10), c)
		})
	}
}

// A stream that becomes weak while records go to it gets no more of them once the
// shipper asks again.
func TestAStreamWeakenedLater(t *testing.T) {
	nc := bare(t)
	conf := ours(t, nc)
	conf.Replicas = 1
	c := chaintest.New("c1")
	fill(c, 10)
	stop := ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc})
	all(t, nc, 10)
	stop()
	api, _ := js.New(nc)
	conf.MaxAge = 24 * time.Hour
	if _, err := api.UpdateStream(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	fill(c, 10)
	failed := make(chan error, 100)
	ship(t, &jetstream.Shipper{Host: "h1", Source: source(c), Conn: nc, Failed: func(err error) { failed <- err }})
	if err := within(t, failed); !errors.Is(err, jetstream.ErrWeak) {
		t.Fatal(err)
	}
	all(t, nc, 10)
	conf.MaxAge = 0
	if _, err := api.UpdateStream(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	inOrder(t, all(t, nc, 20), c)
}

func within(t *testing.T, failed <-chan error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		t.Fatal("shipping neither failed nor was it tried")
		return nil
	}
}
