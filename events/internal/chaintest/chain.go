// Package chaintest gives tests a host's chain in memory, with the shape that
// the journal has for its readers.
package chaintest

import (
	"context"
	"sync"

	"sallyport.dev/sallyport/events"
)

// Chain is a chain that grows. It is safe for concurrent use.
type Chain struct {
	ID string

	mu       sync.Mutex
	records  []events.Record
	grown    chan struct{}
	released uint64
}

// New returns an empty chain.
func New(id string) *Chain { return &Chain{ID: id, grown: make(chan struct{})} }

// Add appends a record with the next sequence number and its hashes.
func (c *Chain) Add(kind events.Kind, protocol, session string, payload []byte) events.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := events.Record{
		Chain: c.ID, Seq: uint64(len(c.records)) + 1, Kind: kind,
		Protocol: protocol, Session: session, Payload: payload,
	}
	if n := len(c.records); n > 0 {
		r.Prev = c.records[n-1].Hash
	}
	r.Hash = r.Sum()
	c.records = append(c.records, r)
	close(c.grown)
	c.grown = make(chan struct{})
	return r
}

// All returns the records so far.
func (c *Chain) All() []events.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]events.Record(nil), c.records...)
}

// First returns the oldest record that was not released.
func (c *Chain) First() uint64 { c.mu.Lock(); defer c.mu.Unlock(); return c.released + 1 }

// Last returns the newest record.
func (c *Chain) Last() uint64 { c.mu.Lock(); defer c.mu.Unlock(); return uint64(len(c.records)) }

// Release forgets.
func (c *Chain) Release(upTo uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = max(c.released, upTo)
	return nil
}

// Reader reads from a record on.
func (c *Chain) Reader(from uint64) *Reader { return &Reader{c, from} }

// Reader is a place in a Chain.
type Reader struct {
	c    *Chain
	next uint64
}

// Next waits for the next record.
func (r *Reader) Next(ctx context.Context) (events.Record, error) {
	for {
		r.c.mu.Lock()
		grown := r.c.grown
		if r.next <= uint64(len(r.c.records)) {
			rec := r.c.records[r.next-1]
			r.next++
			r.c.mu.Unlock()
			return rec, nil
		}
		r.c.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return events.Record{}, ctx.Err()
		}
	}
}
