package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/report"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
)

// reads is the record of who read the evidence: a chain like a host's, in the
// recorder's store, which sallyport verify --journal verifies.
type reads struct{ j *journal.Journal }

// lockTime is what one reader waits for another.
var lockTime = 30 * time.Second

func openReads(ctx context.Context, folder string) (*reads, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockTime); ; {
		j, err := journal.Open(folder, journal.Options{
			Host: host, MaxBytes: 1 << 30, SegmentBytes: 16 << 20, AheadBytes: -1, Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive,
		})
		if err == nil {
			return &reads{j}, nil
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || time.Now().After(end) || !pause(ctx, 200*time.Millisecond) {
			return nil, fmt.Errorf("that the evidence is read can't go on the record: %w", err)
		}
	}
}

// note is on stable storage when it returns nil.
func (r *reads) note(ctx context.Context, what, text string) error {
	t, err := r.j.Append(&events.Event{Kind: events.Lifecycle, Time: time.Now(), Status: what, Message: text})
	if err == nil {
		err = t.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("that the evidence is read can't go on the record: %w", err)
	}
	return nil
}

// between returns what is on the record of a time.
func (r *reads) between(ctx context.Context, from, to time.Time) (out []report.Note, err error) {
	in := r.j.Reader(1)
	defer in.Close()
	for last, seq := r.j.Last(), uint64(0); seq < last; {
		rec, err := in.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("the record of who read the evidence: %w", err)
		}
		seq = rec.Seq
		v, err := ocsf.Decode(rec.Payload)
		if err != nil {
			return nil, fmt.Errorf("the record of who read the evidence: %w", err)
		}
		if rec.Kind == events.Lifecycle && v.Status == "read" && !v.Time.Before(from) && v.Time.Before(to) {
			out = append(out, report.Note{Record: v.UID, Time: v.Time, Host: v.Host, What: v.Status, Text: v.Message})
		}
	}
	return out, nil
}

func (r *reads) close() { _ = r.j.Close() }
