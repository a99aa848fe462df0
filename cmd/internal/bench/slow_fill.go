package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
)

const (
	slowHost      = "bench"
	slowPeople    = 500 // principals, each for one of slowWorkloads
	slowWorkloads = 20
	slowBatch     = 8192        // records of a commit
	slowSigned    = 4096        // records between a host's signatures
	slowApart     = time.Second // between events
)

// slowStart is when the first event was.
var slowStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// slowFilled is what fill prints: rates are of the time that the store itself
// took, in records a second; memory is the most until then, in KiB.
type slowFilled struct {
	Records     int
	Seconds     float64
	First, Last float64 // of the first and the last tenth
	Early, Late int64
}

// fill stores events of sessions, each with its transcript, and has the log written
// meanwhile, as the recorder does.
func fill(ctx context.Context, store, state, count, statements string) error {
	total, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	each, err := strconv.Atoi(statements)
	if err != nil {
		return err
	}
	db, err := recorder.Open(store)
	if err != nil {
		return err
	}
	defer db.Close()
	hostKey, err := jetstream.ReadPrivateKey(filepath.Join(state, "host.key"))
	if err != nil {
		return err
	}
	logKey, err := jetstream.ReadPrivateKey(filepath.Join(state, "log.key"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	following := make(chan error, 1)
	go func() {
		following <- follow.Run(ctx, db, follow.Options{Dir: recorder.LogFolder(state), Key: logKey})
		cancel()
	}()
	f := filler{db: db, tenth: total / 10, record: events.Record{Chain: "c1"}}
	for i := 0; f.events < total; i++ {
		if err := f.session(ctx, i, each); err != nil {
			return err
		}
		if f.unsigned >= slowSigned {
			f.sign(events.SignHead(events.SignedHead{Host: slowHost, Chain: f.record.Chain, Seq: f.record.Seq, Hash: f.record.Hash}, hostKey))
		}
	}
	f.sign(events.SignHead(events.SignedHead{Host: slowHost, Chain: f.record.Chain, Seq: f.record.Seq, Hash: f.record.Hash}, hostKey))
	if err := f.commit(ctx); err != nil {
		return err
	}
	out := slowFilled{Records: int(f.record.Seq), Seconds: f.took.Seconds(), First: f.first, Early: f.early}
	out.Last = float64(f.record.Seq-f.lateFrom) / (f.took - f.lateTook).Seconds()
	if out.Late, err = most(); err != nil {
		return err
	}
	if err := awaitLog(ctx, db, state, tlogKeys(logKey)); err != nil {
		return err
	}
	cancel()
	if err := <-following; err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// filler makes a host's chain, and stores it batch by batch.
type filler struct {
	db       *recorder.DB
	record   events.Record // the newest
	events   int
	tenth    int // events
	unsigned int // records
	batch    []recorder.Message

	took, lateTook time.Duration
	first          float64
	early          int64
	lateFrom       uint64
}

// session adds one of so many statements, of one of slowPeople.
func (f *filler) session(ctx context.Context, i, statements int) error {
	person := i * 7 % slowPeople
	x := &events.Session{
		ID: fmt.Sprintf("%08x-7a31-7c00-8000-000000000000", i), Host: slowHost, Protocol: "postgres", Resource: "clinic",
		Destination: netip.MustParseAddrPort("10.0.0.5:5432"), Workload: fmt.Sprintf("bot-%02d", person%slowWorkloads), Actor: fmt.Sprintf("agent-%02d", person%slowWorkloads),
		Principal: slowPerson(person), User: "agent", Database: "clinic",
	}
	f.event(x, &events.Event{Kind: events.SessionOpen})
	for n := uint64(1); n <= uint64(statements); n++ {
		e := events.Event{
			Kind: events.Statement, Number: n, Command: "SELECT", Normalized: "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
			Verdict: events.Allow, Rules: []string{"read"}, Objects: []string{"public.pgbench_accounts"}, Literals: []events.Digest{{1, 2, byte(n)}},
			Status: "ok", Rows: 1, Bytes: 60, Duration: 200 * time.Microsecond,
		}
		if i%1000 == 0 && n == 1 { // one in a thousand sessions is refused something
			e.Verdict, e.Kind, e.Objects = events.Blocked, events.Block, []string{"clinic.patients"}
			e.Status, e.Rows, e.Bytes, e.Reason = "", 0, 0, "agents may not"
		}
		f.event(x, &e)
		at := f.at()
		piece := append([]byte(nil), events.Pieces)
		piece = events.AppendPiece(piece, &events.Chunk{Number: n, Kind: events.ChunkStatement, Time: at, Data: fmt.Appendf(nil, "SELECT abalance FROM pgbench_accounts WHERE aid = %d", f.events)})
		piece = events.AppendPiece(piece, &events.Chunk{Number: n, Kind: events.ChunkResult, Time: at, Data: []byte("T\x00\x00\x00\x21\x00\x01abalance\x00D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x010")})
		f.add(0, x, piece)
	}
	f.event(x, &events.Event{Kind: events.SessionClose, Status: "ok", Rows: int64(statements)})
	if len(f.batch) < slowBatch {
		return nil
	}
	return f.commit(ctx)
}

func slowPerson(i int) string { return fmt.Sprintf("dr.%03d", i) }

// at is the time of the next event.
func (f *filler) at() time.Time { return slowStart.Add(time.Duration(f.events) * slowApart) }

func (f *filler) event(x *events.Session, e *events.Event) {
	e.Session, e.Time = x, f.at()
	f.events++
	f.add(e.Kind, x, ocsf.Append(nil, fmt.Sprintf("c1-%d", f.record.Seq+1), e))
}

func (f *filler) add(kind events.Kind, x *events.Session, payload []byte) {
	r := events.Record{Chain: f.record.Chain, Seq: f.record.Seq + 1, Prev: f.record.Hash, Kind: kind, Payload: payload}
	if x != nil {
		r.Protocol, r.Session = x.Protocol, x.ID
	}
	r.Hash = r.Sum()
	f.record = r
	f.unsigned++
	f.batch = append(f.batch, recorder.Message{Host: slowHost, Record: r})
}

func (f *filler) sign(note string) {
	e := &events.Event{Kind: events.Checkpoint, Time: f.at(), Message: note}
	f.add(e.Kind, nil, ocsf.Append(nil, fmt.Sprintf("c1-%d", f.record.Seq+1), e))
	f.unsigned = 0
}

func (f *filler) commit(ctx context.Context) (err error) {
	began := time.Now()
	_, alarms, err := f.db.Add(ctx, f.batch, began)
	if err == nil && len(alarms) > 0 {
		err = fmt.Errorf("an alarm: %+v", alarms[0])
	}
	if err != nil {
		return err
	}
	f.took += time.Since(began)
	f.batch = f.batch[:0]
	if f.first == 0 && f.events >= f.tenth {
		f.first = float64(f.record.Seq) / f.took.Seconds()
		if f.early, err = most(); err != nil {
			return err
		}
	}
	if f.events <= 9*f.tenth {
		f.lateFrom, f.lateTook = f.record.Seq, f.took
	}
	return nil
}
