package recorder

import (
	"crypto/ed25519"
	"time"

	"sallyport.dev/sallyport/events"
)

// signatures follows what a host signed of a chain while that is walked. Without
// given keys all of a chain must be signed with the one that its first names, which
// who computes a chain anew can do as well; with them, whose they are is proved.
type signatures struct {
	given bool
	keys  []ed25519.PublicKey

	seq    uint64 // the newest record that is signed
	recent [][32]byte
	tail   time.Time      // of the first record behind that
	last   *events.Record // of the chain
}

// recentRecords are those among which a signed one is looked for.
const recentRecords = 1 << 16

func newSignatures(keys events.HostKeys, host string) signatures {
	return signatures{given: keys != nil, keys: keys[host], recent: make([][32]byte, recentRecords)}
}

// record holds a record, that is sound in its place, against what is signed.
func (s *signatures) record(w *walker, r *events.Record) {
	s.recent[r.Seq%recentRecords] = r.Hash
	s.last = r
	if s.given && len(s.keys) == 0 {
		w.bad(r.Seq, "unsigned", "none of the keys that were given is of this host")
		return
	}
	if r.Kind == events.Checkpoint && s.checkpoint(w, r) {
		s.tail = time.Time{}
		return
	}
	if s.tail.IsZero() {
		if f, err := w.look.facts(r); err == nil {
			s.tail = f.Time
		}
	}
}

// checkpoint reports whether a signature is right; where it is wrong it names it.
func (s *signatures) checkpoint(w *walker, r *events.Record) bool {
	f, err := decode(r)
	if err != nil {
		return false // the recorder has raised an alarm; it signs nothing
	}
	h, err := events.ParseSignedHead(f.Message)
	switch {
	case err != nil:
		w.bad(r.Seq, "forged", "%v", err)
		return false
	case h.Host != w.host || h.Chain != w.chain || h.Seq >= r.Seq:
		w.bad(r.Seq, "forged", "it signs record %d of host %s, chain %s", h.Seq, h.Host, h.Chain)
		return false
	}
	if !s.given && len(s.keys) == 0 && h.Key != nil {
		s.keys = []ed25519.PublicKey{h.Key}
	}
	switch signed, known := signedByOne(&h, s.keys); {
	case !known:
		return false
	case !signed:
		w.bad(r.Seq, "forged", "the host's key did not sign it")
		return false
	}
	if r.Seq-h.Seq < recentRecords && h.Seq > 0 && s.recent[h.Seq%recentRecords] != h.Hash {
		w.bad(h.Seq, "changed", "the host signed another record in its place")
		return false
	}
	s.seq = max(s.seq, h.Seq)
	for _, k := range s.keys {
		if h.SignedBy(k) {
			w.rep.Signer = events.HostKeyLine(w.host, k)
		}
	}
	return true
}

// end looks at what came behind the last signature.
func (s *signatures) end(w *walker) {
	w.rep.Signed = s.seq
	if !s.given || s.last == nil || s.tail.IsZero() {
		return
	}
	if f, err := w.look.facts(s.last); err == nil && f.Time.Sub(s.tail) > unsignedTime {
		w.bad(s.seq+1, "unsigned", "the host signed none of the records from this one to %d, over %s", s.last.Seq, f.Time.Sub(s.tail).Round(time.Second))
	}
}
