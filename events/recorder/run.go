package recorder

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
)

// Recorder moves records from JetStream into a Store. Several may share one
// consumer when they share one store.
type Recorder struct {
	Conn     *nats.Conn
	Store    Store
	Key      ed25519.PrivateKey // signs receipts; nil: none are sent
	Consumer string             // durable consumer; default jetstream.RecorderConsumer
	Grace    time.Duration      // how long a record may be missing before that is an alarm; default 1 min
	Silence  time.Duration      // after which a host that nothing comes from is an alarm; 0: never
	Log      *slog.Logger

	// For metrics; nil for none.
	Stored func(records int)
	Alarm  func(Alarm)
	Heard  func(host string, at time.Time) // something new came; needs Silence
	// Unstored is called each time that records could not be stored.
	Unstored func(error)
}

const (
	batchRecords = 32 << 10 // of one commit, as a bound on memory
	batchBytes   = 32 << 20
	pullMessages = 4096 // the bytes are the limit: what NATS says between messages must find room as well
	pullBytes    = 8 << 20
	together     = 2 * time.Millisecond  // one commit for what comes together
	apart        = 50 * time.Millisecond // for the rest of a batch
	resend       = 30 * time.Second      // receipts that nobody heard are sent again
)

// Run works until ctx ends, and returns nil then. What fails is tried again:
// a message is acknowledged after the commit that holds it, never before.
func (r *Recorder) Run(ctx context.Context) error {
	if r.Conn == nil || r.Store == nil {
		return errors.New("recorder: needs a connection and a store")
	}
	if r.Consumer == "" {
		r.Consumer = jetstream.RecorderConsumer
	}
	if r.Grace <= 0 {
		r.Grace = time.Minute
	}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if w, ok := r.Store.(Watcher); ok && r.Silence > 0 {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { r.listen(ctx, w) })
	}
	const least, most = 100 * time.Millisecond, 10 * time.Second
	pause := least
	for {
		start := time.Now()
		err := r.consume(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(start) > most {
			pause = least
		}
		r.Log.Warn("recording is interrupted; nothing is lost", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, most)
	}
}

func (r *Recorder) consume(ctx context.Context) error {
	_, c, err := jetstream.Consumer(ctx, r.Conn, r.Consumer)
	if err != nil {
		return err
	}
	it, err := c.Messages(js.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes), js.PullExpiry(5*time.Second))
	if err != nil {
		return err
	}
	defer it.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := make(chan js.Msg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := it.Next(js.NextContext(ctx))
			if err != nil {
				cancel(err)
				return
			}
			select {
			case in <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { cancel(nil); <-done }()
	r.receipts(ctx, nil)
	tick := time.NewTicker(max(r.Grace/4, time.Millisecond))
	defer tick.Stop()
	again := time.NewTicker(resend)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			alarms, err := r.Store.Settle(ctx, time.Now().Add(-r.Grace))
			r.raise(alarms)
			if err != nil {
				return err
			}
		case <-again.C:
			r.receipts(ctx, nil)
		case m := <-in:
			if err := r.take(ctx, m, in); err != nil {
				return err
			}
		}
	}
}

// take stores m and what else has arrived, then acknowledges it.
func (r *Recorder) take(ctx context.Context, m js.Msg, in <-chan js.Msg) error {
	var g gathered
	g.add(m)
	soon, late := time.NewTimer(together), time.NewTimer(apart)
	defer soon.Stop()
	defer late.Stop()
	// What lies between is on its way: messages of one batch hold records of one
	// kind each.
	for early, full := true, false; !full && (early || !g.whole()); {
		select {
		case m := <-in:
			g.add(m)
			full = len(g.batch) >= batchRecords || g.size >= batchBytes
		case <-soon.C:
			early = false
		case <-late.C:
			full = true
		}
	}
	msgs := g.msgs
	heads, alarms, err := r.Store.Add(ctx, inOrder(g.batch), time.Now())
	if err != nil {
		r.unstored(ctx, len(g.batch), err)
		return err
	}
	r.raise(alarms)
	for _, m := range msgs {
		if err := m.Ack(); err != nil {
			return err // delivered again, and known then
		}
	}
	if r.Stored != nil {
		r.Stored(len(g.batch))
	}
	r.receipts(ctx, heads)
	return nil
}

// gathered is what goes into one transaction.
type gathered struct {
	msgs   []js.Msg
	batch  []Message
	size   int
	chains map[[2]string]*extent
}

// extent is what of a chain has come together.
type extent struct{ first, last, n uint64 }

func (g *gathered) add(m js.Msg) {
	g.msgs, g.size = append(g.msgs, m), g.size+len(m.Data())
	host, rs, err := jetstream.Parse(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		g.batch = append(g.batch, Message{Host: host, Record: events.Record{Hash: messageHash(m), Payload: m.Data()}, Err: err})
		return
	}
	if g.chains == nil {
		g.chains = map[[2]string]*extent{}
	}
	key := [2]string{host, rs[0].Chain}
	e := g.chains[key]
	if e == nil {
		e = &extent{first: rs[0].Seq}
		g.chains[key] = e
	}
	for i := range rs {
		g.batch = append(g.batch, Message{Host: host, Record: rs[i]})
	}
	e.first, e.last, e.n = min(e.first, rs[0].Seq), max(e.last, rs[len(rs)-1].Seq), e.n+uint64(len(rs))
}

// messageHash tells a message that can't be read from others: SHA-256 of its
// subject, headers and data, so that each is kept, and once.
func messageHash(m js.Msg) (sum [32]byte) {
	h := sha256.New()
	part := func(b string) { fmt.Fprintf(h, "%d %s", len(b), b) }
	headers := m.Headers()
	part(m.Subject())
	fmt.Fprintf(h, "%d ", len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		part(name)
		fmt.Fprintf(h, "%d ", len(headers[name]))
		for _, v := range headers[name] {
			part(v)
		}
	}
	h.Write(m.Data())
	h.Sum(sum[:0])
	return sum
}

// whole reports whether no record is missing between those that came.
func (g *gathered) whole() bool {
	for _, e := range g.chains {
		if e.n < e.last-e.first+1 {
			return false
		}
	}
	return true
}

// receipts tells the hosts what they may forget; all heads when none is given.
func (r *Recorder) receipts(ctx context.Context, heads []Head) {
	if r.Key == nil {
		return
	}
	if heads == nil {
		var err error
		if heads, err = r.Store.Heads(ctx); err != nil {
			r.Log.Error("no receipts", "error", err)
			return
		}
	}
	for _, h := range heads {
		if err := jetstream.PublishReceipt(r.Conn, r.Key, jetstream.Receipt{Host: h.Host, Chain: h.Chain, Seq: h.Seq, Hash: h.Hash[:]}); err != nil {
			r.Log.Warn("a receipt was not sent; the next one covers it", "host", h.Host, "error", err)
		}
	}
}

// unstored tells that records could not be stored. They are not acknowledged, and
// come again.
func (r *Recorder) unstored(ctx context.Context, records int, err error) {
	if ctx.Err() != nil {
		return
	}
	r.Log.Error("ALARM: records can't be stored; none of them is acknowledged, and they are tried again", "records", records, "error", err)
	if r.Unstored != nil {
		r.Unstored(err)
	}
}

func (r *Recorder) raise(alarms []Alarm) {
	for _, a := range alarms {
		r.Log.Error("ALARM: the evidence of a host is not sound", "what", a.What, "host", a.Host, "chain", a.Chain, "seq", a.Seq, "detail", a.Detail)
		if r.Alarm != nil {
			r.Alarm(a)
		}
	}
}

// inOrder returns records in the order of their chains; copies of one stay in the
// order they came in. They are large, and mostly come as a few runs: what is sorted
// is where they are.
func inOrder(batch []Message) []Message {
	at := make([]int32, len(batch))
	for i := range at {
		at[i] = int32(i)
	}
	slices.SortFunc(at, func(i, j int32) int {
		x, y := &batch[i], &batch[j]
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Record.Chain, y.Record.Chain), cmp.Compare(x.Record.Seq, y.Record.Seq), cmp.Compare(i, j))
	})
	out := make([]Message, len(batch))
	for i, from := range at {
		out[i] = batch[from]
	}
	return out
}
