// Package journal is the host's durable record: segments of framed, chained
// records in one folder, written and synced in groups.
//
// A record is durable once its group was synced; Ticket.Wait tells. The chain
// has one id for the life of the folder and goes on over restarts. Recovery
// cuts what a crash left unfinished at the end, refuses to open on any other
// damage, and closes what had begun as interrupted.
//
// When the disk is full, new statements are refused until a write succeeds
// again. Any other failure of the disk is final: nothing is accepted until a
// restart, and a failed sync is never tried again, because what it lost can't
// be known.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/events"
)

// Options of a Journal. Encode is required; zero values of the others are
// replaced by the defaults given.
type Options struct {
	Host         string
	MaxBytes     int64 // of the whole folder; full at this size; 4 GiB
	SegmentBytes int64 // a new file is begun at this size; 64 MiB, at most MaxBytes/4
	// AheadBytes of zeros are written in front of the records, so that a sync
	// has no change of the file's size to carry; 1 MiB, at most SegmentBytes/4,
	// negative for none.
	AheadBytes  int64
	BufferBytes int // records that wait to be written; 8 MiB
	// Sync: a record counts as durable after fdatasync. Without it, after
	// write(2): it survives the process, not the machine.
	Sync bool
	// Together is from how many that wait for a sync at once a Statement that is
	// Later waits for its outcome, to be one record with it; below, a sync that
	// begins with the statement is sooner. 3; negative: always.
	Together int
	// Encode appends an event's payload to dst. uid is "<chain>-<seq>" and is
	// valid during the call only. It is called under the journal's lock.
	Encode func(dst []byte, uid string, e *events.Event) []byte
	// Revive reads the session back from a payload, for the events that
	// recovery writes; nil: they carry only the session's id and protocol.
	Revive func(payload []byte) (*events.Session, error)
	// CheckpointEvery is the time between signed heads of the chain; 1
	// minute, negative for none.
	CheckpointEvery time.Duration
	// Vouch may append an events.Vouching to the note over a head. It is called by one
	// goroutine, which commits as well, so it may not wait; nil: none is.
	Vouch func(note string) string
	FS    FS // default: the folder itself
	Now   func() time.Time
}

// ErrClosed is what a closed journal's readers end with.
var ErrClosed = errors.New("journal: closed")

const (
	retryFull  = 200 * time.Millisecond // between writes while the disk is full
	gatherTime = 100 * time.Microsecond // that one waits for others who are to come
	lingerTime = 20 * time.Millisecond  // until what nobody waits for is durable
)

// Journal implements events.Journal and events.Waiter. Its methods may be
// called from many goroutines.
type Journal struct {
	o     Options
	fs    FS
	lock  io.Closer
	chain string
	keys  keys

	mu       sync.Mutex // the head of the chain and what waits to be written
	seq      uint64
	prev     [32]byte
	salt     uint32 // of the chain's frames
	pending  []byte
	buffered int64            // bytes in pending and in out
	held     map[string]*held // by session
	late     []*held          // with a statement that waited, since the last group
	holding  int64            // room of pieces that are held
	deferred int64            // of statements that are held
	measured []byte
	used     int64 // bytes of all segments and of what is buffered
	intents  intents
	segments []*segment // oldest first; the last one is written
	uid      []byte
	scratch  events.Event
	host     *events.Session
	closed   bool

	wmu     sync.Mutex // the file; taken before mu
	file    File
	off     int64
	room    int64  // where the zeros that were written ahead end
	out     []byte // being written, or waiting for room on the disk
	outSeq  uint64
	outHash [32]byte
	spare   []byte
	written atomic.Uint64 // changes while wmu is held
	head    [32]byte      // hash of written

	durable atomic.Uint64
	trouble atomic.Pointer[trouble]
	dmu     sync.Mutex
	signal  chan struct{} // closed and replaced when durable or trouble changes
	waiting []*waiter     // of WaitDurable

	rmu       sync.Mutex // Release
	kicked    chan struct{}
	gathered  atomic.Int32 // kicks since the last group
	crowd     atomic.Int32 // how many are to be expected
	syncing   atomic.Bool
	lingers   chan struct{}
	lingering atomic.Bool // the committer was told of it
	stop      chan struct{}
	done      chan struct{}
	marked    uint64 // the latest checkpoint; the committer's
}

var (
	_ events.Journal = (*Journal)(nil)
	_ events.Waiter  = (*Journal)(nil)
)

// trouble is why the journal refuses.
type trouble struct {
	err   error // wraps events.ErrFull
	final bool
}

// segment is one file of the journal.
type segment struct {
	name  string
	head  header
	size  int64  // written
	marks []mark // places to start reading from
}

type mark struct {
	seq uint64
	off int64
}

// markEvery is the most that a reader skips, in bytes.
const markEvery = 256 << 10

// Open opens the journal in a folder, recovers it, or begins a new one.
func Open(folder string, o Options) (*Journal, error) {
	if o.Encode == nil {
		return nil, errors.New("journal: Options.Encode is required")
	}
	def(&o.MaxBytes, 4<<30)
	def(&o.SegmentBytes, 64<<20)
	def(&o.BufferBytes, 8<<20)
	def(&o.CheckpointEvery, time.Minute)
	def(&o.Together, 3)
	if o.MaxBytes < 64<<10 {
		return nil, fmt.Errorf("journal: max_bytes %d: a journal needs at least 64 KiB", o.MaxBytes)
	}
	def(&o.AheadBytes, 1<<20)
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/4)
	o.AheadBytes = min(o.AheadBytes, o.SegmentBytes/4)
	if o.FS == nil {
		o.FS = Dir(folder)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	j := &Journal{
		o: o, fs: o.FS, host: &events.Session{Host: o.Host},
		intents: intents{sessions: map[string]*session{}}, held: map[string]*held{},
		signal: make(chan struct{}), kicked: make(chan struct{}, 1), lingers: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	var err error
	if j.lock, err = j.fs.Lock(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := j.open(); err != nil {
		if j.file != nil {
			j.file.Close()
		}
		j.lock.Close()
		return nil, fmt.Errorf("journal %s: %w", folder, err)
	}
	go j.run()
	return j, nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Close writes and syncs what is there and gives the folder up. Later appends
// are refused.
func (j *Journal) Close() error {
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	if was {
		<-j.done
		return nil
	}
	close(j.stop)
	<-j.done
	var err error
	if t := j.trouble.Load(); t != nil {
		err = t.err
	}
	j.give(&trouble{fmt.Errorf("%w: %w", events.ErrFull, ErrClosed), true})
	j.wmu.Lock()
	defer j.wmu.Unlock()
	if err == nil {
		err = j.trim()
	}
	return errors.Join(err, j.file.Close(), j.lock.Close())
}

// Chain returns the id of the chain.
func (j *Journal) Chain() string { return j.chain }

// First returns the oldest record that is kept, Last()+1 when there is none.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[0].head.first
}

// Last returns the newest durable record, 0 for none.
func (j *Journal) Last() uint64 { return j.durable.Load() }

// Durable implements events.Waiter.
func (j *Journal) Durable() uint64 { return j.durable.Load() }

// Head returns the newest record that was appended, durable or not, and its
// hash.
func (j *Journal) Head() (seq uint64, hash [32]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq, j.prev
}

// WaitDurable implements events.Waiter. While the disk is full it returns
// ErrFull, although the record may still get there.
func (j *Journal) WaitDurable(ctx context.Context, seq uint64) error {
	w := waiters.Get().(*waiter)
	defer waiters.Put(w)
	for {
		j.dmu.Lock()
		if j.durable.Load() >= seq {
			j.dmu.Unlock()
			return nil
		}
		if t := j.trouble.Load(); t != nil {
			j.dmu.Unlock()
			return t.err
		}
		w.seq = seq
		j.waiting = append(j.waiting, w)
		j.dmu.Unlock()
		select {
		case <-w.woken:
		case <-ctx.Done():
			j.leave(w)
			return ctx.Err()
		}
	}
}

// waiter waits for one record: who has what it waits for is woken, and nobody
// else. woken has room for one, and is empty while the waiter is in the pool.
type waiter struct {
	seq   uint64
	woken chan struct{}
}

var waiters = sync.Pool{New: func() any { return &waiter{woken: make(chan struct{}, 1)} }}

// leave takes a waiter off the list, or what woke it meanwhile.
func (j *Journal) leave(w *waiter) {
	j.dmu.Lock()
	defer j.dmu.Unlock()
	if i := slices.Index(j.waiting, w); i >= 0 {
		j.waiting = slices.Delete(j.waiting, i, i+1)
		return
	}
	<-w.woken
}

// state returns the channel that is closed at the next change.
func (j *Journal) state() (<-chan struct{}, *trouble) {
	j.dmu.Lock()
	defer j.dmu.Unlock()
	return j.signal, j.trouble.Load()
}

// wake wakes those who wait for records up to seq, and readers; dmu is held.
func (j *Journal) wake(seq uint64) {
	rest := j.waiting[:0]
	for _, w := range j.waiting {
		if w.seq <= seq {
			w.woken <- struct{}{}
		} else {
			rest = append(rest, w)
		}
	}
	clear(j.waiting[len(rest):])
	j.waiting = rest
	close(j.signal)
	j.signal = make(chan struct{})
}

// give notes a trouble, or its end; a final one stays.
func (j *Journal) give(t *trouble) {
	j.dmu.Lock()
	defer j.dmu.Unlock()
	old := j.trouble.Load()
	if old != nil && old.final || old == nil && t == nil {
		return
	}
	j.trouble.Store(t)
	j.wake(math.MaxUint64)
}

func (j *Journal) setDurable(seq uint64) {
	j.dmu.Lock()
	defer j.dmu.Unlock()
	if seq > j.durable.Load() {
		j.durable.Store(seq)
		j.wake(seq)
	}
}

// Stats are figures for metrics.
type Stats struct {
	Used, Reserved, Max int64 // bytes
	Buffered            int64 // bytes not yet written
	Appended, Durable   uint64
	Segments            int
	Err                 error // why appends are refused, nil when they are not
}

// Stats returns the figures of this moment.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Stats{
		Used: j.used, Reserved: j.intents.reserved, Max: j.o.MaxBytes, Buffered: j.buffered + j.holding + j.deferred,
		Appended: j.seq, Durable: j.durable.Load(), Segments: len(j.segments),
	}
	if t := j.trouble.Load(); t != nil {
		s.Err = t.err
	}
	return s
}
