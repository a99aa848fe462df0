package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"sallyport.dev/sallyport/events"
)

// ErrReleased is returned by a Reader whose next record was released.
var ErrReleased = errors.New("journal: the record was released")

// Reader gives durable records in order. It is for one goroutine at a time.
type Reader struct {
	j    *Journal
	next uint64
	seg  *segment
	f    File
	w    walker
}

// Reader returns a reader whose first record is from, at least 1.
func (j *Journal) Reader(from uint64) *Reader { return &Reader{j: j, next: max(from, 1)} }

// Next waits for the next record to be durable and returns it. Its payload is
// valid until the next call. It fails when ctx ends, when the journal is
// closed or has failed for good, with ErrReleased, or if the file is damaged.
func (r *Reader) Next(ctx context.Context) (events.Record, error) {
	for {
		signal, t := r.j.state()
		if r.j.durable.Load() >= r.next {
			break
		}
		if t != nil && t.final {
			return events.Record{}, t.err
		}
		select {
		case <-signal:
		case <-ctx.Done():
			return events.Record{}, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return events.Record{}, err
	}
	fr, err := r.read()
	return fr.rec, err
}

// Close gives the open file back; the reader may be used again.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f, r.seg = nil, nil
	return f.Close()
}

// read returns the record next, which is durable.
func (r *Reader) read() (frame, error) {
	for {
		if r.f == nil {
			if err := r.seek(); err != nil {
				return frame{}, err
			}
		}
		r.j.mu.Lock()
		r.w.end = r.seg.size
		r.j.mu.Unlock()
		fr, err := r.w.next()
		switch {
		case err == io.EOF: // the segment ends here, and the record is in the next
			r.Close()
			continue
		case err != nil:
			return frame{}, fmt.Errorf("journal: segment %s, record %d: %w", r.seg.name, r.next, err)
		case fr.rec.Seq < r.next:
			continue
		case fr.rec.Seq > r.next:
			return frame{}, fmt.Errorf("journal: segment %s: record %d stands where %d must be", r.seg.name, fr.rec.Seq, r.next)
		}
		r.next++
		return fr, nil
	}
}

// seek opens the segment that holds next, at the mark before it.
func (r *Reader) seek() error {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	segs := r.j.segments
	i := sort.Search(len(segs), func(i int) bool { return segs[i].head.first > r.next }) - 1
	if i < 0 {
		return fmt.Errorf("%w: %d", ErrReleased, r.next)
	}
	seg := segs[i]
	off := int64(headerSize)
	if m := sort.Search(len(seg.marks), func(i int) bool { return seg.marks[i].seq > r.next }); m > 0 {
		off = seg.marks[m-1].off
	}
	f, err := r.j.fs.Open(seg.name, 0)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %d", ErrReleased, r.next)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	r.seg, r.f = seg, f
	r.w = walker{f: f, salt: seg.head.salt, off: off, end: seg.size, buf: r.w.buf[:0]}
	return nil
}

// Release drops the segments that hold nothing past upTo. Only the recorder's
// signed receipt justifies it. What is still open in them is kept for
// recovery.
func (j *Journal) Release(upTo uint64) error {
	j.rmu.Lock()
	defer j.rmu.Unlock()
	if d := j.durable.Load(); upTo > d {
		return fmt.Errorf("journal: release up to %d: only %d are durable", upTo, d)
	}
	j.mu.Lock()
	n := 0
	for n+1 < len(j.segments) && j.segments[n+1].head.first-1 <= upTo {
		n++
	}
	if n == 0 || j.closed {
		j.mu.Unlock()
		return nil
	}
	sn := j.snapshot(j.segments[n].head.first - 1)
	gone := j.segments[:n:n]
	j.mu.Unlock()
	for _, s := range sn.Sessions {
		if s.Payload == nil {
			p, err := j.payload(s.First)
			if err != nil {
				return fmt.Errorf("release: %w", err)
			}
			s.Payload = p
		}
	}
	if err := j.save(sn); err != nil {
		return fmt.Errorf("journal: release: %w", err)
	}
	// From here on the snapshot covers what is removed, oldest first: a crash
	// in between leaves segments that are released again.
	j.mu.Lock()
	for _, s := range sn.Sessions {
		if own := j.intents.sessions[s.ID]; own != nil && own.First == s.First {
			own.Payload = s.Payload
		}
	}
	j.segments = append([]*segment(nil), j.segments[n:]...)
	for _, s := range gone {
		j.used -= s.size
	}
	j.mu.Unlock()
	for _, s := range gone {
		if err := j.fs.Remove(s.name); err != nil {
			return fmt.Errorf("journal: release: %w", err)
		}
	}
	if err := j.fs.SyncDir(); err != nil {
		return fmt.Errorf("journal: release: %w", err)
	}
	return nil
}

// snapshot copies what is open and stands at or before upTo.
func (j *Journal) snapshot(upTo uint64) *snapshot {
	sn := &snapshot{Chain: j.chain, UpTo: upTo}
	for _, s := range j.intents.sorted() {
		c := &session{ID: s.ID, Protocol: s.Protocol, First: s.First, Opened: s.Opened, Payload: s.Payload}
		for _, in := range s.Open {
			if in.Seq <= upTo {
				in.Counted = j.seq
				c.Open = append(c.Open, in)
			}
		}
		if s.First <= upTo && (c.Opened || len(c.Open) > 0) {
			sn.Sessions = append(sn.Sessions, c)
		}
	}
	return sn
}
