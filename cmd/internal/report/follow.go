package report

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// follower reads a chain of a bundle, and has m make its part of the report of it.
type follower struct {
	c     *Checked
	m     *maker
	ch    *Chain
	hosts events.HostKeys // nil: signatures are not looked at

	log    []proved // the chain's entries, in the order of their records
	cur    *block
	recent [][32]byte // hashes of records, for what the host signed of them: a ring, of record n at (n-1) % recentRecords
	signed uint64     // the newest record that it did
}

// recentRecords are those among which a signed one is looked for: a note of one that is
// further back covers nothing.
const recentRecords = 1 << 16

// checkpoint holds the log's checkpoint against what the report says of it, and the keys
// that must have signed it, nil for none.
func (u unpacked) checkpoint(said *LogState, keys *tlog.Keys, c *Checked) error {
	if said == nil {
		return errors.New("it has no proofs of the transparency log")
	}
	raw, err := u.held(checkpointFile)
	if err != nil {
		return err
	}
	is, err := tlog.Unverified(raw)
	if err == nil && keys != nil {
		is, err = tlog.ParseCheckpoint(raw, *keys)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", checkpointFile, err)
	}
	if c.Log = (LogState{is.Origin, is.Size, is.Root}); c.Log != *said {
		return fmt.Errorf("%s is not of the log that report.json names", checkpointFile)
	}
	c.Signers = is.Signed
	return nil
}

// entries reads what the log has of the chain.
func (f *follower) entries(in io.Reader) error {
	f.log = []proved{} // not nil: there is a log
	lines := eachLine(in)
	for lines.Scan() {
		var p proved
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return err
		}
		var again bytes.Buffer
		if err := p.write(&again); err != nil || !bytes.Equal(again.Bytes(), lines.Bytes()) {
			return fmt.Errorf("entry %d is not written as we write it", p.Index)
		}
		f.log = append(f.log, p)
	}
	return lines.Err()
}

// look has m see whose rows the statements of a chain were shown.
func look(in io.Reader, ch *Chain, m *maker) error {
	lines := eachLine(in)
	for lines.Scan() {
		var l link
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("chain %s: %w", ch.Chain, err)
		}
		if l.Payload != nil {
			m.see(ch.Host, &events.Record{Chain: ch.Chain, Seq: l.Seq, Kind: events.Kind(l.Kind), Payload: []byte(*l.Payload)})
		}
	}
	return lines.Err()
}

// follow reads the chain itself.
func (f *follower) follow(in io.Reader) error {
	lines := eachLine(in)
	faults := len(f.m.Faults)
	var last events.Record
	for lines.Scan() {
		var l link
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("record %d: %w", last.Seq+1, err)
		}
		r := events.Record{Chain: f.ch.Chain, Seq: l.Seq, Kind: events.Kind(l.Kind), Protocol: l.Protocol, Session: l.Session}
		if l.Payload != nil {
			r.Payload = []byte(*l.Payload)
		}
		if !digest(&r.Prev, l.Prev) || !digest(&r.Hash, l.Hash) {
			return fmt.Errorf("record %d has no hash", last.Seq+1)
		}
		b, err := line(&r, l.Payload != nil, l.Leaf)
		if err != nil {
			return err
		}
		switch {
		case r.Seq != last.Seq+1:
			return fmt.Errorf("record %d is missing", last.Seq+1)
		case r.Prev != last.Hash:
			return fmt.Errorf("record %d does not follow record %d", r.Seq, last.Seq)
		case !bytes.Equal(b, lines.Bytes()):
			return fmt.Errorf("record %d is not written as we write it", r.Seq)
		case l.Payload != nil && r.Sum() != r.Hash:
			return fmt.Errorf("record %d was changed", r.Seq)
		}
		f.c.Records++
		last = events.Record{Seq: r.Seq, Hash: r.Hash}
		f.m.link(f.ch.Host, &r)
		if err := f.proved(&r, &l); err != nil {
			return err
		}
		if err := f.signature(&r, l.Payload != nil); err != nil {
			return err
		}
		if l.Payload == nil {
			continue
		}
		f.c.Proved++
		if !f.m.record(f.ch.Host, &r) {
			return fmt.Errorf("record %d is not one that the report speaks of", r.Seq)
		}
		if len(f.m.Faults) > faults {
			return fmt.Errorf("record %d is of another host than the chain", r.Seq)
		}
	}
	switch {
	case f.cur != nil || len(f.log) > 0:
		return fmt.Errorf("chain %s: the log has more records than there are", f.ch.Chain)
	case f.hosts != nil && f.signed == 0:
		return fmt.Errorf("host %s, chain %s: the host signed none of it", f.ch.Host, f.ch.Chain)
	case f.signed > 0:
		f.c.Signed++
		f.c.Unsigned += last.Seq - f.signed
	}
	return lines.Err()
}

// proved holds a record against the log.
func (f *follower) proved(r *events.Record, l *link) error {
	if f.log == nil {
		if l.Leaf != "" {
			return fmt.Errorf("record %d is of a log that is not there", r.Seq)
		}
		return nil
	}
	if f.cur == nil {
		if len(f.log) == 0 {
			return fmt.Errorf("record %d is not in the log", r.Seq)
		}
		b, err := f.log[0].open(f.c.Log.checkpoint(), f.ch.Host, f.ch.Chain, r.Seq)
		if err != nil {
			return err
		}
		f.cur, f.log = b, f.log[1:]
	}
	leaf := recorder.LeafOf(r, len(r.Payload))
	if l.Payload == nil {
		if b, err := hex.DecodeString(l.Leaf); err != nil || copy(leaf[:], b) != len(leaf) || len(b) != len(leaf) {
			return fmt.Errorf("record %d has no place in its entry of the log", r.Seq)
		}
	} else if l.Leaf != "" {
		return fmt.Errorf("record %d says what is computed of it", r.Seq)
	}
	n, err := f.cur.add(r, leaf)
	if err != nil {
		return err
	}
	if n > 0 {
		f.cur = nil
		f.c.Logged += n
		f.m.Chains[len(f.m.Chains)-1].Logged += uint64(n)
	}
	return nil
}

// signature checks what the host signed of its chain.
func (f *follower) signature(r *events.Record, there bool) error {
	if f.hosts == nil {
		return nil
	}
	if len(f.recent) < recentRecords {
		f.recent = append(f.recent, r.Hash)
	} else {
		f.recent[(r.Seq-1)%recentRecords] = r.Hash
	}
	if r.Kind != events.Checkpoint || !there {
		return nil
	}
	v, err := ocsf.Decode(r.Payload)
	if err != nil {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	h, err := events.ParseSignedHead(v.Message)
	if err != nil {
		return fmt.Errorf("record %d: %w", r.Seq, err)
	}
	for _, k := range f.hosts[f.ch.Host] {
		if h.SignedBy(k) && h.Host == f.ch.Host && h.Chain == f.ch.Chain && h.Seq < r.Seq {
			if h.Seq == 0 || r.Seq-h.Seq >= recentRecords {
				return nil // what it signs is nothing, or can't be held against it
			}
			if f.recent[(h.Seq-1)%recentRecords] != h.Hash {
				return errors.New("record " + strconv.FormatUint(h.Seq, 10) + " is not the one that the host signed")
			}
			f.signed = max(f.signed, h.Seq)
			return nil
		}
	}
	return fmt.Errorf("record %d: no key of host %s signed it", r.Seq, f.ch.Host)
}
