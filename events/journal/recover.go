package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport.dev/sallyport/events"
)

// open brings the folder into a state that appends can go on from.
func (j *Journal) open() error {
	if err := j.keys.load(j.fs); err != nil {
		return err
	}
	names, err := segmentNames(j.fs)
	if err != nil {
		return err
	}
	known, err := read(j.fs, chainName)
	if err != nil {
		return err
	}
	j.chain = strings.TrimSpace(string(known))
	// A crash may have left a segment whose header was never synced: no
	// record can stand behind it.
	if n := len(names); n > 0 {
		unborn, err := j.unborn(names[n-1])
		if err != nil {
			return err
		}
		if unborn {
			if err := errors.Join(j.fs.Remove(names[n-1]), j.fs.SyncDir()); err != nil {
				return err
			}
			names = names[:n-1]
		}
	}
	switch {
	case len(names) == 0 && j.chain != "":
		return fmt.Errorf("the segments of chain %s are gone: restore them, or begin a new chain in an empty folder", j.chain)
	case len(names) == 0:
		j.chain, j.salt = newChain(), newSalt()
		if err := j.begins(header{chain: j.chain, first: 1, salt: j.salt}); err != nil {
			return err
		}
		return j.replaceChain()
	}
	return j.recover(names)
}

func (j *Journal) replaceChain() error { return replace(j.fs, chainName, []byte(j.chain+"\n")) }

// segmentNames returns the segments in order.
func segmentNames(fs FS) ([]string, error) {
	all, err := fs.List()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n string) bool { _, ok := parseSegmentName(n); return !ok })
	slices.Sort(all)
	return all, nil
}

func (j *Journal) unborn(name string) (bool, error) {
	f, err := j.fs.Open(name, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > headerSize {
		return false, err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	_, err = parseHeader(b)
	return err != nil, nil
}

// recover reads all segments, cuts a torn tail, and closes what was open.
func (j *Journal) recover(names []string) error {
	var sc scan
	for i, name := range names {
		seg, f, err := j.take(&sc, name, i == len(names)-1)
		if err != nil {
			if f != nil {
				f.Close()
			}
			return fmt.Errorf("segment %s: %w", name, err)
		}
		j.segments = append(j.segments, seg)
		j.used += seg.size
		if i < len(names)-1 {
			f.Close()
		} else {
			j.file, j.off = f, seg.size
			if j.room, err = f.Size(); err != nil {
				return fmt.Errorf("segment %s: %w", name, err)
			}
		}
	}
	if j.chain == "" { // a crash at the folder's birth
		j.chain = sc.chain
		if err := j.replaceChain(); err != nil {
			return err
		}
	}
	j.seq, j.prev, j.salt = sc.seq, sc.hash, sc.salt
	j.written.Store(j.seq)
	j.head = j.prev
	j.durable.Store(j.seq)
	return j.interrupt(sc.cut)
}

// scan is the place that reading the segments has come to.
type scan struct {
	chain   string
	salt    uint32
	started bool
	seq     uint64
	hash    [32]byte
	cut     int64  // bytes of a torn tail
	upTo    uint64 // intents up to here are in the snapshot
}

// Damage of a segment.
var (
	errChain = errors.New("belongs to another chain")
	errGap   = errors.New("does not follow the segment before it: records are missing")
)

// header checks that a segment continues the chain.
func (sc *scan) header(h header, name string) error {
	first, _ := parseSegmentName(name)
	switch {
	case first != h.first:
		return fmt.Errorf("begins with record %d: it was renamed", h.first)
	case !sc.started:
		sc.started, sc.chain, sc.salt, sc.seq, sc.hash = true, h.chain, h.salt, h.first-1, h.prev
	case h.chain != sc.chain || h.salt != sc.salt:
		return errChain
	case h.first != sc.seq+1 || h.prev != sc.hash:
		return errGap
	}
	return nil
}

// record checks that a record continues the chain.
func (sc *scan) record(r *events.Record) error {
	switch {
	case r.Seq != sc.seq+1:
		return fmt.Errorf("record %d stands where %d must be", r.Seq, sc.seq+1)
	case r.Chain != sc.chain:
		return fmt.Errorf("record %d is of another chain", r.Seq)
	case r.Prev != sc.hash:
		return fmt.Errorf("record %d does not follow the record before it", r.Seq)
	case !r.Intact():
		return fmt.Errorf("record %d: its hash is not that of its content", r.Seq)
	}
	sc.seq, sc.hash = r.Seq, r.Hash
	return nil
}

// take reads one segment into the state.
func (j *Journal) take(sc *scan, name string, last bool) (*segment, File, error) {
	f, err := j.fs.Open(name, 0)
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, f, err
	}
	h, err := readHeader(f)
	if err != nil {
		return nil, f, err
	}
	fresh := !sc.started
	if err := sc.header(h, name); err != nil {
		return nil, f, err
	}
	if fresh {
		if j.chain != "" && j.chain != h.chain {
			return nil, f, errChain
		}
		if sc.upTo, err = j.intents.load(j.fs, h.chain); err != nil {
			return nil, f, err
		}
		if sc.upTo+1 < h.first {
			return nil, f, fmt.Errorf("%w: it begins with %d, and nothing past %d was released", errGap, h.first, sc.upTo)
		}
	}
	seg := &segment{name: name, head: h, size: headerSize}
	w := walker{f: f, salt: h.salt, off: headerSize, end: size}
	for {
		fr, err := w.next()
		if err == io.EOF {
			break
		}
		if err == errTorn && last {
			if err := torn(f, w.off, size, h.salt, sc.seq+1); err != nil {
				return nil, f, err
			}
			sc.cut = size - w.off
			if err := f.Truncate(w.off); err != nil {
				return nil, f, err
			}
			break
		}
		if err != nil {
			return nil, f, fmt.Errorf("record %d: %w", sc.seq+1, err)
		}
		if err := sc.record(&fr.rec); err != nil {
			return nil, f, err
		}
		if l := len(seg.marks); l == 0 || seg.size-seg.marks[l-1].off >= markEvery {
			seg.marks = append(seg.marks, mark{sc.seq, seg.size})
		}
		seg.size = w.off
		j.track(&fr, sc.upTo)
	}
	if last {
		err = settle(f, seg.size)
	}
	return seg, f, err
}

func readHeader(f File) (header, error) {
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return header{}, err
	}
	return parseHeader(b)
}

// track notes what a record that was read back opened or closed.
func (j *Journal) track(fr *frame, upTo uint64) {
	r := &fr.rec
	switch {
	case r.Seq <= upTo:
	case r.Kind == 0:
		cs, _ := events.ParseChunks(nil, r.Payload)
		for i := range cs {
			j.intents.chunk(r.Session, &cs[i], r.Seq)
		}
	default:
		j.intents.event(r.Kind, r.Session, r.Protocol, fr.number, r.Seq, int(fr.size))
	}
}

// torn decides whether what stands at off is an unfinished write, which may
// be cut, or damage to something that was durable: a later frame knows.
func torn(f File, off, size int64, salt uint32, seq uint64) error {
	b := make([]byte, size-off)
	if _, err := f.ReadAt(b, off); err != nil && err != io.EOF {
		return err
	}
	var names events.Record
	for i := 1; i < len(b); i++ {
		n := bytes.Index(b[i:], frameMagic)
		if n < 0 {
			return nil
		}
		i += n
		if fr, _, err := parseFrame(b[i:], salt, &names); err == nil && fr.durable >= seq {
			return fmt.Errorf("record %d is damaged at byte %d: it was durable, as record %d behind it says: restore the file, or keep it as evidence and begin a new chain", seq, off, fr.rec.Seq)
		}
	}
	return nil
}

// settle makes what was read durable: a sync that failed before the restart
// may have left it in the page cache only, marked clean. So it is written
// over itself.
func settle(f File, size int64) error {
	b := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; off += int64(len(b)) {
		b = b[:min(int64(len(b)), size-off)]
		if _, err := f.ReadAt(b, off); err != nil && err != io.EOF {
			return err
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// interrupt records the end of what the last process left open. It is
// appended like everything else, and durable before Open returns.
func (j *Journal) interrupt(cut int64) error {
	now := j.o.Now()
	if cut > 0 {
		if _, err := j.append(&events.Event{
			Kind: events.Lifecycle, Time: now, Status: "recovered",
			Message: fmt.Sprintf("the journal was recovered: %d bytes of unfinished records were cut; nobody was promised them", cut),
		}, true); err != nil {
			return err
		}
	}
	for _, s := range j.intents.sorted() {
		es := j.revive(s)
		const why = "the interceptor died before the end was recorded"
		for _, in := range slices.Clone(s.Open) {
			// The policy may have had the transcript hold a part of the result,
			// or nothing of it: what it holds is no bound of what was shown.
			if _, err := j.append(&events.Event{
				Kind: events.Response, Time: now, Session: es, Number: in.Number,
				Status: "interrupted", Recorded: in.Shown, Bytes: in.Shown, Reason: why,
				Message: fmt.Sprintf("how much of the result was shown is unknown: the transcript holds %d bytes of it", in.Shown),
			}, true); err != nil {
				return err
			}
		}
		if s.Opened {
			if _, err := j.append(&events.Event{
				Kind: events.SessionClose, Time: now, Session: es,
				Status: "interrupted", Reason: why,
			}, true); err != nil {
				return err
			}
		}
	}
	if err := j.write(); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.setDurable(j.written.Load())
	return nil
}

// revive returns the session that the recovered events belong to.
func (j *Journal) revive(s *session) *events.Session {
	if j.o.Revive != nil {
		payload := s.Payload
		if payload == nil {
			payload, _ = j.payload(s.First)
		}
		if es, err := j.o.Revive(payload); err == nil && es != nil {
			es.ID, es.Protocol = s.ID, s.Protocol
			return es
		}
	}
	return &events.Session{ID: s.ID, Protocol: s.Protocol, Host: j.o.Host}
}

// payload returns a copy of a durable record's payload.
func (j *Journal) payload(seq uint64) ([]byte, error) {
	r := j.Reader(seq)
	defer r.Close()
	fr, err := r.read()
	if err != nil {
		return nil, err
	}
	return bytes.Clone(fr.rec.Payload), nil
}
