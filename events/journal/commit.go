package journal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"sallyport.dev/sallyport/events"
)

// run is the committer: the only one that syncs, and that begins a segment.
func (j *Journal) run() {
	defer close(j.done)
	var checkpoints, retry <-chan time.Time
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	brief := time.NewTimer(time.Hour)
	brief.Stop()
	if j.o.CheckpointEvery > 0 {
		t := time.NewTicker(j.o.CheckpointEvery)
		defer t.Stop()
		checkpoints = t.C
	}
	for {
		select {
		case <-j.kicked:
			j.gather(brief)
			n := j.gathered.Swap(0)
			j.commit()
			j.crowd.Store(n + j.gathered.Load())
		case <-j.lingers:
			soon.Reset(lingerTime)
			continue
		case <-soon.C:
			j.lingering.Store(false)
			if j.letOld(false) {
				j.linger()
			}
			j.commit()
		case <-checkpoints:
			j.checkpoint()
			j.commit()
		case <-retry:
			j.commit()
		case <-j.stop:
			j.letOld(true)
			j.commit()
			return
		}
		retry = nil
		if t := j.trouble.Load(); t != nil && !t.final {
			retry = time.After(retryFull)
		}
	}
}

// gather waits until as many have come as took part in the last two groups, but
// not longer than gatherTime: a sync costs the same for one as for many. Who is
// alone does not wait.
func (j *Journal) gather(brief *time.Timer) {
	if j.gathered.Load() >= j.crowd.Load() {
		return
	}
	brief.Reset(gatherTime)
	for j.gathered.Load() < j.crowd.Load() {
		select {
		case <-j.kicked:
		case <-j.stop:
			brief.Stop()
			return
		case <-brief.C:
			return
		}
	}
	brief.Stop()
}

// commit writes what has been appended and makes it durable.
func (j *Journal) commit() {
	j.letLate()
	j.wmu.Lock()
	err := j.roll()
	if err == nil {
		err = j.write()
	}
	seq, f := j.written.Load(), j.file
	j.wmu.Unlock()
	if err != nil {
		j.failed(err)
	}
	if t := j.trouble.Load(); t != nil && t.final {
		return
	}
	if seq > j.durable.Load() {
		if j.o.Sync {
			// A crash before this line loses the group: nobody was told of it.
			j.syncing.Store(true)
			failed := f.Sync()
			j.syncing.Store(false)
			if failed != nil {
				j.failed(fmt.Errorf("sync: %w", failed))
				return
			}
			// What those who wait are about to show was added meanwhile: one
			// write for all of them before they are woken.
			j.wmu.Lock()
			failed = j.write()
			j.wmu.Unlock()
			err = errors.Join(err, failed)
		}
		j.setDurable(seq)
	}
	if err == nil {
		j.give(nil)
	}
}

// failed notes an error of the disk and returns what callers are told.
func (j *Journal) failed(err error) error {
	t := &trouble{final: !full(err)}
	if t.final {
		t.err = fmt.Errorf("%w: %w: nothing is accepted until a restart", events.ErrFull, err)
	} else {
		t.err = fmt.Errorf("%w: %w: free some space", events.ErrFull, err)
	}
	if old := j.trouble.Load(); old == nil || t.final {
		j.give(t)
	}
	if now := j.trouble.Load(); now != nil {
		return now.err
	}
	return t.err
}

// write writes out what was appended before the call, in order. The caller
// holds wmu. A write that found no room is kept and made again at the same
// place, so that a part of a record never stands in front of another.
func (j *Journal) write() error {
	if t := j.trouble.Load(); t != nil && t.final {
		return t.err
	}
	j.mu.Lock()
	target := j.seq
	j.mu.Unlock()
	for j.written.Load() < target {
		if len(j.out) == 0 {
			j.mu.Lock()
			j.out, j.pending, j.spare = j.pending, j.spare[:0], nil
			j.outSeq, j.outHash = j.seq, j.prev
			j.mu.Unlock()
		}
		if _, err := j.file.WriteAt(j.out, j.off); err != nil {
			err = fmt.Errorf("write: %w", err)
			if !full(err) {
				j.failed(err) // before anybody can write behind the gap
			}
			return err
		}
		n := int64(len(j.out))
		if err := j.ahead(j.off + n); err != nil {
			j.failed(err)
			return err
		}
		j.mu.Lock()
		seg := j.segments[len(j.segments)-1]
		if l := len(seg.marks); l == 0 || j.off-seg.marks[l-1].off >= markEvery {
			seg.marks = append(seg.marks, mark{j.written.Load() + 1, j.off})
		}
		j.off += n
		seg.size = j.off
		j.buffered -= n
		j.mu.Unlock()
		j.head = j.outHash
		j.written.Store(j.outSeq)
		j.spare, j.out = j.out[:0], nil
		if cap(j.spare) > 1<<20 && int(n) < cap(j.spare)/8 {
			j.spare = nil // a burst is over; an idle journal is small
		}
	}
	return nil
}

var zeros [64 << 10]byte

// ahead makes room behind off, where records now end, if they came to the end
// of what there was. Where the disk is full there is none: that costs time only.
func (j *Journal) ahead(off int64) error {
	if j.o.AheadBytes <= 0 || off <= j.room {
		return nil
	}
	j.room = off
	for end := min(off+j.o.AheadBytes, j.o.SegmentBytes); j.room < end; {
		n, err := j.file.WriteAt(zeros[:min(int64(len(zeros)), end-j.room)], j.room)
		j.room += int64(n)
		switch {
		case err == nil:
		case full(err):
			return nil
		default:
			return fmt.Errorf("write ahead: %w", err)
		}
	}
	return nil
}

// roll begins a new segment when the current one is long enough. The old one
// is synced before the new one exists, so that only the last one can be torn.
func (j *Journal) roll() error {
	if t := j.trouble.Load(); t != nil && t.final {
		return t.err
	}
	if j.off < j.o.SegmentBytes || len(j.out) > 0 {
		return nil
	}
	err := j.trim()
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		err = fmt.Errorf("sync: %w", err)
		j.failed(err)
		return err
	}
	return j.begins(header{chain: j.chain, first: j.written.Load() + 1, prev: j.head, salt: j.salt})
}

// trim takes away the room that is not used.
func (j *Journal) trim() error {
	if j.room <= j.off {
		return nil
	}
	return j.file.Truncate(j.off)
}

// begins creates the next segment; the caller holds wmu.
func (j *Journal) begins(h header) error {
	name := segmentName(h.first)
	f, err := j.create(name, h.bytes())
	if err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close() // synced; nothing can be lost by it
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.file, j.off, j.room = f, headerSize, headerSize
	j.segments = append(j.segments, &segment{name: name, head: h, size: headerSize})
	j.used += headerSize
	return nil
}

// create makes a segment with its header durable, or leaves none.
func (j *Journal) create(name string, head []byte) (File, error) {
	f, err := j.fs.Open(name, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("new segment %s: %w", name, err)
	}
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fs.SyncDir()
	}
	if err != nil {
		return nil, fmt.Errorf("new segment %s: %w", name, errors.Join(err, f.Close(), j.fs.Remove(name)))
	}
	return f, nil
}
