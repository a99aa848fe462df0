package journal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport.dev/sallyport/events"
)

// Fault names the first record that is not what it must be.
type Fault struct {
	Seq     uint64 `json:"seq"`
	Segment string `json:"segment"`
	What    string `json:"what"` // removed, changed, reordered or cut
	Detail  string `json:"detail"`
}

func (f Fault) String() string {
	return fmt.Sprintf("record %d was %s: %s (%s)", f.Seq, f.What, f.Detail, f.Segment)
}

// Report is what Verify found. It is sound when Fault is nil.
type Report struct {
	Chain       string   `json:"chain"`
	Segments    int      `json:"segments"`
	First       uint64   `json:"first"` // oldest record that is kept
	Last        uint64   `json:"last"`
	Records     uint64   `json:"records"`
	Hash        [32]byte `json:"-"`    // of Last
	Torn        int64    `json:"torn"` // bytes behind Last that were never finished
	Checkpoints int      `json:"checkpoints"`
	Fault       *Fault   `json:"fault,omitempty"`
}

// Expect is what Verify is told from outside the folder.
type Expect struct {
	// Heads noted elsewhere: by the recorder, in a checkpoint, in an earlier
	// report. Records of other chains than theirs, or other hashes, are faults.
	Heads []Head
	// HostKey verifies the checkpoints that Message finds in payloads.
	HostKey ed25519.PublicKey
	// Message returns the Message of a Checkpoint event's payload.
	Message func(payload []byte) (string, error)
}

// Verify walks a journal's folder from its oldest record, without opening or
// changing it, and names the first record that was removed, changed,
// reordered or cut. It fails only if the folder can't be read.
//
// What it can't see without an Expect: records cut from the end on a frame's
// border; a chain that was computed anew from some record to its end by
// somebody who can write the folder; and segments missing from the start (they
// are normally released).
func Verify(folder string, ex Expect) (Report, error) { return verify(Dir(folder), ex) }

func verify(fs FS, ex Expect) (Report, error) {
	var rep Report
	names, err := segmentNames(fs)
	if err != nil {
		return rep, fmt.Errorf("journal: verify: %w", err)
	}
	known, err := read(fs, chainName)
	if err != nil {
		return rep, fmt.Errorf("journal: verify: %w", err)
	}
	if len(names) == 0 && len(known) == 0 {
		return rep, errors.New("journal: verify: there is no journal in this folder")
	}
	v := verifier{fs: fs, ex: ex, rep: &rep}
	rep.Chain = strings.TrimSpace(string(known))
	v.sc.chain = rep.Chain
	for i, name := range names {
		if err := v.segment(name, i == len(names)-1); err != nil {
			return rep, fmt.Errorf("journal: verify %s: %w", name, err)
		}
		if rep.Fault != nil {
			return rep, nil
		}
		rep.Segments++
	}
	for _, h := range ex.Heads {
		switch {
		case h.Chain != rep.Chain:
			v.bad(1, "removed", "chain %s was expected here, and this is chain %s", h.Chain, rep.Chain)
		case h.Seq > rep.Last:
			v.bad(rep.Last+1, "cut", "the chain was seen with %d records", h.Seq)
		}
	}
	return rep, nil
}

type verifier struct {
	fs   FS
	ex   Expect
	rep  *Report
	sc   scan
	name string
	// Hashes of the latest records: a checkpoint tells of one a little back.
	recent [][32]byte
}

const recentRecords = 1 << 16

func (v *verifier) bad(seq uint64, what, format string, args ...any) {
	if v.rep.Fault == nil {
		v.rep.Fault = &Fault{seq, v.name, what, fmt.Sprintf(format, args...)}
	}
}

func (v *verifier) segment(name string, last bool) error {
	v.name = name
	f, err := v.fs.Open(name, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // released meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	h, err := readHeader(f)
	if err != nil {
		if last && size <= headerSize {
			v.rep.Torn = size // not born yet
			return nil
		}
		v.bad(v.sc.seq+1, "changed", "%v", err)
		return nil
	}
	if !v.sc.started {
		if v.rep.Chain != "" && h.chain != v.rep.Chain {
			v.bad(h.first, "changed", "the segment %v", errChain)
			return nil
		}
		v.rep.Chain, v.rep.First, v.rep.Last = h.chain, h.first, h.first-1
	}
	if err := v.sc.header(h, name); err != nil {
		what := "changed"
		if errors.Is(err, errGap) {
			what = "removed"
		}
		v.bad(v.sc.seq+1, what, "the segment %v", err)
		return nil
	}
	w := walker{f: f, salt: h.salt, off: headerSize, end: size}
	for v.rep.Fault == nil {
		fr, err := w.next()
		switch {
		case err == io.EOF:
			return nil
		case err == errTorn && last:
			if err := torn(f, w.off, size, h.salt, v.sc.seq+1); err != nil {
				v.bad(v.sc.seq+1, "changed", "%v", err)
			}
			v.rep.Torn = size - w.off
			return nil
		case err == errTorn:
			v.bad(v.sc.seq+1, "changed", "at byte %d: %v", w.off, err)
			return nil
		case err != nil:
			return err
		}
		v.record(&fr.rec)
	}
	return nil
}

func (v *verifier) record(r *events.Record) {
	want, prev := v.sc.seq+1, v.sc.hash
	if err := v.sc.record(r); err != nil {
		switch {
		case r.Intact() && r.Seq > want:
			v.bad(want, "removed", "record %d stands in its place", r.Seq)
		case r.Intact() && r.Seq < want:
			v.bad(want, "reordered", "record %d stands in its place", r.Seq)
		case r.Intact() && r.Prev != prev:
			v.bad(max(want, 2)-1, "changed", "record %d follows another record %d than this", r.Seq, r.Seq-1)
		default:
			v.bad(want, "changed", "%v", err)
		}
		return
	}
	v.rep.Records++
	v.rep.Last, v.rep.Hash = r.Seq, r.Hash
	if v.ex.Message != nil && v.ex.HostKey != nil {
		if v.recent == nil {
			v.recent = make([][32]byte, recentRecords)
		}
		v.recent[r.Seq%recentRecords] = r.Hash
	}
	for _, h := range v.ex.Heads {
		if h.Chain == r.Chain && h.Seq == r.Seq && h.Hash != r.Hash {
			v.bad(r.Seq, "changed", "its hash is %x, and was noted as %x", r.Hash, h.Hash)
		}
	}
	if r.Kind == events.Checkpoint && v.ex.Message != nil && v.ex.HostKey != nil {
		v.checkpoint(r)
	}
}

// checkpoint compares what the host signed earlier with what is here now.
func (v *verifier) checkpoint(r *events.Record) {
	note, err := v.ex.Message(r.Payload)
	if err != nil {
		v.bad(r.Seq, "changed", "%v", err)
		return
	}
	h, err := ParseCheckpoint(note, v.ex.HostKey)
	switch {
	case err != nil:
		v.bad(r.Seq, "changed", "%v", err)
	case h.Chain != r.Chain || h.Seq >= r.Seq:
		v.bad(r.Seq, "changed", "its checkpoint is of chain %s, record %d", h.Chain, h.Seq)
	case h.Seq >= v.rep.First && r.Seq-h.Seq < recentRecords && h.Hash != v.recent[h.Seq%recentRecords]:
		v.bad(h.Seq, "changed", "the host signed the hash %x for it", h.Hash)
	}
	v.rep.Checkpoints++
}
