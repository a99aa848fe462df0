package jetstream

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"sallyport.dev/sallyport/events"
)

// Source is the journal as the Shipper sees it. All functions may be called
// from several goroutines; only durable records are given out.
type Source struct {
	Chain   string
	First   func() uint64                     // the oldest record still kept; Last()+1 when there is none
	Last    func() uint64                     // the newest durable record, 0 for none
	Open    func(from uint64) (Reader, error) // records from a sequence number on
	Release func(upTo uint64) error           // the recorder has these; they may be forgotten
}

// Reader gives durable records in order. Next waits for the next one, until
// ctx ends; the record is the caller's until the next call.
type Reader interface {
	Next(ctx context.Context) (events.Record, error)
}

// Shipper publishes a journal to the stream, in order and once, for as long as
// Run runs. It touches nothing that a session waits for.
type Shipper struct {
	Host   string
	Source Source
	Conn   *nats.Conn
	// RecorderKey is the only key whose receipts are believed; without one
	// the journal keeps everything.
	RecorderKey ed25519.PublicKey
	Need        Needs // of the stream; nothing is sent to a weaker one
	Log         *slog.Logger

	// Figures for metrics, called after each change; nil for none.
	Shipped  func(seq uint64) // newest record that the stream holds
	Released func(seq uint64) // newest record that the recorder has
	Failed   func(error)      // a try that failed, and will be made again
	// PutBack is called while the recorder goes on to have fewer records of the chain than
	// it has signed.
	PutBack  func(seq, signed uint64)
	Patience time.Duration // how long that must have been so; default 90 s

	shipped atomic.Uint64
	signed  signed // of receive alone
	taken   bool   // see pack.message; of Run alone
	spare   buffers
}

// Lag returns how many durable records the stream is not known to hold.
func (s *Shipper) Lag() uint64 {
	last := s.Source.Last()
	return last - min(last, s.shipped.Load())
}

// Limits of a batch. Its messages are published one behind the other, each
// only if the one before it is the host's last, so that no failure can put a
// later batch in front of an earlier one; what of a batch a failure has left out
// comes next. NATS could take a batch whole, but would write it twice for that,
// with syncs. Batches that are not full follow each other no faster than pace.
const (
	batchRecords  = 8192
	batchMessages = 1000
	batchBytes    = 4 << 20
	pace          = 200 * time.Millisecond
	ackTimeout    = 5 * time.Second
)

// Errors that an operator must act on; the Shipper keeps trying meanwhile.
var (
	ErrTooLarge = errors.New("jetstream: a record is larger than NATS takes")
	ErrForked   = errors.New("jetstream: the stream holds another continuation of this host's chain")
)

// Run ships until ctx ends, and returns nil then. Every failure is tried again
// with a growing, jittered pause; where to go on is asked of the stream each
// time.
func (s *Shipper) Run(ctx context.Context) error {
	if s.Conn == nil || s.Source.Open == nil || !ValidHost.MatchString(s.Host) {
		return errors.New("jetstream: a shipper needs a connection, a source and a host name")
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	stop, err := s.receipts(ctx)
	if err != nil {
		return err
	}
	defer stop()
	const least, most = 50 * time.Millisecond, 10 * time.Second
	pause, limit := least, batchRecords
	for {
		shipped, err := s.ship(ctx, limit)
		if ctx.Err() != nil {
			return nil
		}
		if shipped > 0 {
			pause = least
		}
		// A batch tells that it failed, not why: its records are tried one
		// by one until one gets through.
		limit = 1
		s.Log.Warn("records wait to be shipped", "error", err, "lag", s.Lag(), "pause", pause)
		if s.Failed != nil {
			s.Failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(pause*2, most)
	}
}

// end is where the stream ends for this host.
type end struct {
	at    uint64 // the stream's own sequence number of the last message, 0 for none
	chain string
	seq   uint64 // the newest record with none missing before it
	hash  [32]byte
	// have is what the stream holds past seq, of the batch broken, which was not
	// published to its end.
	have   map[uint64][32]byte
	broken extent
}

// of returns the extent of a batch. As long as it goes over what is left of a
// broken one it is still that one: so the next end finds all of it.
func (e *end) of(b *batch) extent {
	if e.have == nil {
		return extent{b.first, b.last, e.at}
	}
	of := extent{e.broken.first, max(e.broken.last, b.last), e.broken.after}
	if b.last >= e.broken.last {
		e.have = nil
	}
	return of
}

func (s *Shipper) end(ctx context.Context) (e end, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	last, err := s.get(ctx, fmt.Sprintf(`{"last_by_subj":%q}`, s.filter()))
	if err != nil || last == nil {
		return end{}, err
	}
	rec := &last.records[len(last.records)-1]
	e = end{at: last.at, chain: rec.Chain, seq: rec.Seq, hash: rec.Hash}
	if last.batch.last == rec.Seq {
		return e, nil // it holds the batch's last record, and is its last message
	}
	e.seq, e.hash, e.have, e.broken = last.batch.first-1, [32]byte{}, map[uint64][32]byte{}, last.batch
	for at := last.batch.after; at < last.at; {
		m, err := s.get(ctx, fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, at+1, s.filter()))
		if err != nil {
			return end{}, err
		}
		if m == nil {
			return end{}, errors.New("jetstream: end of the stream: a message of the last batch is gone")
		}
		for i := range m.records {
			e.have[m.records[i].Seq] = m.records[i].Hash
		}
		at = m.at
	}
	return e, nil
}

// held is a message that the stream holds, without its payloads.
type held struct {
	at      uint64
	records []events.Record
	batch   extent
}

// get asks the stream for a message, nil when there is none.
func (s *Shipper) get(ctx context.Context, query string) (*held, error) {
	m, err := request(ctx, s.Conn, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + StreamName, Data: []byte(query)})
	if err != nil {
		return nil, fmt.Errorf("jetstream: end of the stream: %w", err)
	}
	var r struct {
		Message *struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
		} `json:"message"`
		Error *js.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &r); {
	case err != nil:
		return nil, fmt.Errorf("jetstream: end of the stream: %w", err)
	case r.Error != nil && r.Error.ErrorCode == js.JSErrCodeMessageNotFound:
		return nil, nil
	case r.Error != nil:
		return nil, fmt.Errorf("jetstream: end of the stream: %w", r.Error)
	case r.Message == nil:
		return nil, errors.New("jetstream: end of the stream: an answer without a message")
	}
	h, err := nats.DecodeHeadersMsg(r.Message.Header)
	if err != nil {
		return nil, fmt.Errorf("jetstream: end of the stream: %w", err)
	}
	out := &held{at: r.Message.Seq}
	if _, out.records, _, err = parseHead(r.Message.Subject, h); err != nil {
		return nil, err
	}
	out.batch, err = parseExtent(h.Get(headerBatch))
	return out, err
}

func (s *Shipper) filter() string { return "sallyport.*." + s.Host + ".>" }

// ship goes on from the stream's end until something fails. The first batches
// hold at most limit records; with each that gets through they grow.
func (s *Shipper) ship(ctx context.Context, limit int) (shipped int, err error) {
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	e, err := s.end(ctx)
	if err != nil {
		return 0, err
	}
	from := s.Source.First()
	switch {
	case e.at == 0:
	case e.chain != s.Source.Chain:
		s.Log.Error("the stream holds another chain of this host: a new journal, or two interceptors with one name",
			"stream", e.chain, "journal", s.Source.Chain)
	case e.seq > s.Source.Last():
		return 0, fmt.Errorf("%w: it ends at %d, the journal at %d: was an old journal put back?", ErrForked, e.seq, s.Source.Last())
	case e.seq+1 >= from:
		from = e.seq + 1
	}
	s.shipped.Store(from - 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	more, used, err := s.read(ctx, cancel, from)
	if err != nil {
		return 0, err
	}
	records := &incoming{more: more, used: used}
	continues := e.chain == s.Source.Chain && from == e.seq+1 && e.have == nil
	var last time.Time
	for {
		batch, err := s.collect(ctx, records, limit, last.Add(pace), e.have)
		if err != nil {
			return shipped, err
		}
		last = time.Now()
		if continues && batch.prev != e.hash {
			return shipped, fmt.Errorf("%w: record %d does not follow it", ErrForked, batch.first)
		}
		continues = false
		e.at, err = s.publish(ctx, batch, e.of(batch), e.at)
		batch.release()
		if err != nil {
			return shipped, err
		}
		if len(batch.packs) > 0 { // else the stream had them all
			shipped += batch.n
			limit = min(limit*4, batchRecords)
		}
		s.shipped.Store(batch.last)
		if s.Shipped != nil {
			s.Shipped(batch.last)
		}
	}
}

// check holds the stream to what evidence asks of it.
func (s *Shipper) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	m, err := request(ctx, s.Conn, &nats.Msg{Subject: "$JS.API.STREAM.INFO." + StreamName})
	if err != nil {
		return fmt.Errorf("jetstream: settings of the stream: %w", err)
	}
	var r struct {
		Config *js.StreamConfig `json:"config"`
		Error  *js.APIError     `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &r); {
	case err != nil:
		return fmt.Errorf("jetstream: settings of the stream: %w", err)
	case r.Error != nil:
		return fmt.Errorf("jetstream: settings of the stream: %w", r.Error)
	case r.Config == nil:
		return errors.New("jetstream: settings of the stream: an answer without them")
	}
	err = Check(*r.Config, s.Need.replicas(s.Conn))
	if err != nil && s.Need.Weaker {
		s.Log.Warn("records go to a weak stream, as configured (evidence.nats.weaker)", "error", err)
		return nil
	}
	return err
}

// read runs ahead of publishing, so that a batch fills while the one before
// it is on its way. It ends with ctx, and ends ctx when reading fails. What is
// read may be given back for what comes next.
func (s *Shipper) read(ctx context.Context, fail context.CancelCauseFunc, from uint64) (<-chan *portion, chan<- *portion, error) {
	r, err := s.Source.Open(from)
	if err != nil {
		return nil, nil, err
	}
	out, used := make(chan *portion, 4), make(chan *portion, 8)
	go func() {
		if c, ok := r.(interface{ Close() error }); ok {
			defer c.Close()
		}
		for {
			var p *portion
			select {
			case p = <-used:
			default:
				p = new(portion)
			}
			if err := p.read(ctx, r, s.Source.Last); err != nil {
				fail(err)
				return
			}
			few := len(p.records) < readAhead/2
			select {
			case out <- p:
			case <-ctx.Done():
				return
			}
			if few {
				// Not at each sync, which sessions wait for.
				select {
				case <-time.After(breath):
				case <-ctx.Done():
					fail(ctx.Err())
					return
				}
			}
		}
	}()
	return out, used, nil
}

// breath is how long the journal is left alone once it has given what it had.
const breath = 40 * time.Millisecond

// readAhead is how many records, and roughly bytes, are handed over at once.
const (
	readAhead      = 256
	readAheadBytes = 512 << 10
)

// portion is records that were read together, with their payloads.
type portion struct {
	records  []events.Record
	payloads []byte // what has moved is kept by the records before
}

// read waits for a record, and takes it with those that are there already.
func (p *portion) read(ctx context.Context, r Reader, last func() uint64) error {
	p.records, p.payloads = p.records[:0], p.payloads[:0]
	rec, err := r.Next(ctx)
	if err != nil {
		return err
	}
	for n := min(last()+1-rec.Seq, readAhead); ; {
		at := len(p.payloads)
		p.payloads = append(p.payloads, rec.Payload...)
		rec.Payload = p.payloads[at:len(p.payloads):len(p.payloads)]
		if p.records = append(p.records, rec); uint64(len(p.records)) >= n || len(p.payloads) > readAheadBytes {
			return nil
		}
		if rec, err = r.Next(ctx); err != nil {
			return nil // it comes again
		}
	}
}

// collect waits for a record, and for more until a batch is full or the time
// has come.
func (s *Shipper) collect(ctx context.Context, in *incoming, limit int, until time.Time, have map[uint64][32]byte) (*batch, error) {
	b := &batch{host: s.Host, room: int(min(packBytes, s.Conn.MaxPayload()/4)), have: have, open: map[packKey]*pack{}, spare: &s.spare}
	wait := time.NewTimer(time.Until(until))
	defer wait.Stop()
	for {
		for len(in.rest) > 0 && !b.full(limit) {
			if err := b.add(&in.rest[0]); err != nil {
				return nil, err
			}
			in.rest = in.rest[1:]
		}
		in.giveBack()
		if b.full(limit) {
			return b, nil
		}
		due := wait.C
		if b.n == 0 {
			due = nil
		}
		select {
		case p := <-in.more:
			in.take(p)
			continue
		default:
		}
		select {
		case p := <-in.more:
			in.take(p)
		case <-due:
			return b, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// incoming is what the journal has given and no batch has taken.
type incoming struct {
	more <-chan *portion
	used chan<- *portion
	from *portion // that rest is of
	rest []events.Record
}

func (in *incoming) take(p *portion) { in.from, in.rest = p, p.records }

// giveBack lets a portion be used again whose records are all in batches, which
// have copies.
func (in *incoming) giveBack() {
	if in.from == nil || len(in.rest) > 0 {
		return
	}
	select {
	case in.used <- in.from:
	default:
	}
	in.from, in.rest = nil, nil
}

// publish stores a batch behind the message at, the last one of this host. It
// returns what is the last one then, also with an error.
func (s *Shipper) publish(ctx context.Context, b *batch, of extent, at uint64) (uint64, error) {
	for i, m := range b.messages(s.taken) {
		if n := size(m); n > s.Conn.MaxPayload() && s.Conn.IsConnected() {
			return at, fmt.Errorf("%w: the message of record %d has %d bytes, the limit is %d: raise max_payload of the NATS server", ErrTooLarge, b.packs[i].last, n, s.Conn.MaxPayload())
		}
		m.Header.Set(headerBatch, of.String())
		m.Header.Set("Nats-Expected-Last-Subject-Sequence", strconv.FormatUint(at, 10))
		m.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", s.filter())
		var err error
		if at, err = s.commit(ctx, m, at); err != nil {
			return at, err
		}
	}
	return at, nil
}

func (s *Shipper) commit(ctx context.Context, m *nats.Msg, at uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	reply, err := request(ctx, s.Conn, m)
	if err != nil {
		return at, fmt.Errorf("jetstream: publish: %w", err)
	}
	var ack struct {
		Stream    string       `json:"stream"`
		Seq       uint64       `json:"seq"`
		Duplicate bool         `json:"duplicate"`
		Error     *js.APIError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &ack); {
	case err != nil:
		return at, fmt.Errorf("jetstream: publish: %w", err)
	case ack.Error != nil:
		return at, fmt.Errorf("jetstream: publish: %w", ack.Error)
	case ack.Stream != StreamName:
		return at, fmt.Errorf("jetstream: publish: stored by stream %q instead of %s", ack.Stream, StreamName)
	case ack.Duplicate:
		// By another shipper, or an answer that was lost: it may hold less. Or it is of
		// somebody who has written the id that ours would have.
		s.taken = true
		return at, fmt.Errorf("jetstream: publish: the stream has a message with the id %q already", m.Header.Get(nats.MsgIdHdr))
	}
	return ack.Seq, nil
}

// request is RequestMsgWithContext that does not hide a lost connection behind
// a time-out.
func request(ctx context.Context, nc *nats.Conn, m *nats.Msg) (*nats.Msg, error) {
	if !nc.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	return nc.RequestMsgWithContext(ctx, m)
}

// size is what NATS counts against max_payload.
func size(m *nats.Msg) int64 {
	n := len("NATS/1.0\r\n\r\n") + len(m.Data) + 256 // what batches add
	for k, vs := range m.Header {
		for _, v := range vs {
			n += len(k) + len(v) + len(": \r\n")
		}
	}
	return int64(n)
}

// receipts listens for the recorder's word and lets the journal forget what it
// covers.
func (s *Shipper) receipts(ctx context.Context) (stop func(), err error) {
	if len(s.RecorderKey) != ed25519.PublicKeySize {
		s.Log.Info("no recorder key is configured: the journal keeps everything (evidence.recorder_key)")
		return func() {}, nil
	}
	in := make(chan *nats.Msg, 64) // full: dropped, the next one covers it
	sub, err := s.Conn.ChanSubscribe(receiptSubject(s.Host), in)
	if err != nil {
		return nil, fmt.Errorf("jetstream: receipts: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-in:
				if err := s.receive(ctx, m.Data); err != nil {
					s.Log.Error("a receipt was not believed", "error", err)
				}
			}
		}
	}()
	return func() { sub.Unsubscribe(); cancel(); <-done }, nil
}

func (s *Shipper) receive(ctx context.Context, b []byte) error {
	var r Receipt
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("jetstream: receipt: %w", err)
	}
	switch {
	case !r.Verify(s.RecorderKey):
		return errors.New("jetstream: receipt: not signed by the recorder's key (evidence.recorder_key)")
	case r.Host != s.Host:
		return fmt.Errorf("jetstream: receipt: for host %q", r.Host)
	case r.Chain != s.Source.Chain:
		return nil // of an older journal of this host: nothing left to forget
	}
	if is, err := s.behind(r.Seq, time.Now()); is {
		return err
	}
	switch {
	case r.Seq < s.Source.First():
		return nil
	case r.Seq > s.Source.Last():
		return fmt.Errorf("jetstream: receipt: for record %d, the journal ends at %d", r.Seq, s.Source.Last())
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	rd, err := s.Source.Open(r.Seq)
	if err != nil {
		return err
	}
	if c, ok := rd.(interface{ Close() error }); ok {
		defer c.Close()
	}
	rec, err := rd.Next(ctx)
	if err != nil {
		return err
	}
	if rec.Seq != r.Seq || string(rec.Hash[:]) != string(r.Hash) {
		return fmt.Errorf("jetstream: receipt: the recorder holds another record %d than the journal", r.Seq)
	}
	s.signed.high = max(s.signed.high, r.Seq)
	if err := s.Source.Release(r.Seq); err != nil {
		return fmt.Errorf("jetstream: release up to %d: %w", r.Seq, err)
	}
	if s.Released != nil {
		s.Released(r.Seq)
	}
	return nil
}
