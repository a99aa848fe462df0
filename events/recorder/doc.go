// Package recorder receives the hosts' chains from JetStream, verifies each
// record against the one before it, keeps them in SQLite or PostgreSQL and reads them back:
// sessions, transcripts, replay and the proof that nothing was altered.
package recorder

import (
	"context"
	"time"

	"sallyport.dev/sallyport/events"
)

// Message is a record as it arrived, with the host that published it. Err
// says why it could not be read; Record.Payload is then the raw message.
type Message struct {
	Host   string
	Record events.Record
	Err    error
}

// Head is the newest record of a chain up to which nothing is missing.
type Head struct {
	Host  string   `json:"host"`
	Chain string   `json:"chain"`
	Seq   uint64   `json:"seq"`
	Hash  [32]byte `json:"-"`
}

// Alarm is something that should never be seen in a sound chain.
type Alarm struct {
	ID    int64     `json:"id"` // from 1, without gaps
	Time  time.Time `json:"time"`
	Host  string    `json:"host"`
	Chain string    `json:"chain"`
	Seq   uint64    `json:"seq"`
	// What: changed, forked, unlinked, gap, late, relabelled, second-chain, unreadable, undecodable, damaged, limit, silent,
	// unsigned, forged, unknown-key, other-key, unvouched, two-hosts.
	What   string `json:"what"`
	Detail string `json:"detail"`
}

// Store keeps verified records. Methods may be called from many goroutines and
// processes.
type Store interface {
	// Add verifies and stores a batch in one durable transaction: when it
	// returns nil, all of it is on stable storage, or was there before, or
	// is held as the evidence of an alarm. It returns the heads that moved
	// and the alarms that are new.
	Add(ctx context.Context, batch []Message, now time.Time) ([]Head, []Alarm, error)
	// Settle takes in records that have waited since before for one in front
	// of them, and raises the alarm that it is missing. No head passes a gap.
	Settle(ctx context.Context, before time.Time) ([]Alarm, error)
	// Heads returns the head of each chain.
	Heads(ctx context.Context) ([]Head, error)
}
