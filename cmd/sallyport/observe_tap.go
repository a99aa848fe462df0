package main

import (
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// tapSize is how far a relayed client may be ahead of who reads along.
	tapSize = 1 << 20
	// tapTime is how long a client waits for who reads along, once.
	tapTime = 2 * time.Second
)

var errTooFast = errors.New("what was sent could not be read as fast as it came")

// tap hands a copy of what is relayed to a reader. It holds the relay up for
// tapTime at most: then nobody reads along any more.
type tap struct {
	mu     sync.Mutex
	cond   *sync.Cond
	buf    []byte
	closed bool  // nothing more comes
	err    error // why the reader hears no more, io.EOF at the end
	gone   bool  // nobody reads
}

func newTap() *tap {
	t := &tap{}
	t.cond = sync.NewCond(&t.mu)
	return t
}

// Write implements io.Writer for the relay; it never fails.
func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.gone && len(t.buf) >= tapSize {
		timer := time.AfterFunc(tapTime, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if !t.gone && len(t.buf) >= tapSize {
				t.gone, t.buf, t.err = true, nil, errTooFast
			}
			t.cond.Broadcast()
		})
		for !t.gone && len(t.buf) >= tapSize {
			t.cond.Wait()
		}
		timer.Stop()
	}
	if !t.gone {
		t.buf = append(t.buf, b...)
		t.cond.Broadcast()
	}
	return len(b), nil
}

// Read implements io.Reader for who reads along.
func (t *tap) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.buf) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		if t.closed {
			return 0, io.EOF
		}
		t.cond.Wait()
	}
	n := copy(b, t.buf)
	if t.buf = t.buf[n:]; len(t.buf) == 0 {
		t.buf = nil
	}
	t.cond.Broadcast()
	return n, nil
}

// close says that nothing more comes; err, when it is not nil, is why.
func (t *tap) close(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.err == nil {
		t.err = err
	}
	t.cond.Broadcast()
}

// deaf says that nobody reads any more.
func (t *tap) deaf() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone, t.buf = true, nil
	t.cond.Broadcast()
}

// openDoors are connections that can be ended together.
type openDoors struct {
	mu  sync.Mutex
	all map[*func()]struct{}
}

func (o *openDoors) register(slam func()) (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[*func()]struct{}{}
	}
	o.all[&slam] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.all, &slam)
	}
}

// slam ends them, and returns how many they were.
func (o *openDoors) slam() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for f := range o.all {
		(*f)()
	}
	return len(o.all)
}
