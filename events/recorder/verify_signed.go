package recorder

import (
	"crypto/ed25519"
	"database/sql"
	"errors"
	"time"

	"sallyport.dev/sallyport/events"
)

// signatures follows what a host signed of a chain while that is walked. Without
// given keys all of a chain must be signed with the one that its first names, which
// who computes a chain anew can do as well; with them, whose they are is proved, as it is
// by an identity that vouches for one.
type signatures struct {
	given bool
	keys  []ed25519.PublicKey
	vouch Voucher // nil: no identity's word counts, or keys were given
	no    string  // why none has vouched; "": nothing was signed

	seq    uint64       // the newest record that is signed
	recent []recentLink // a ring: record n at (n-1) % recentRecords
	tail   time.Time    // of the first record behind the newest that is signed; zero: there is none
	newest time.Time    // of those behind it
	last   uint64       // the newest record

	noted notedSigner
}

// notedSigner is what the store says of a chain's signatures: that must stand in some.
type notedSigner struct {
	key         []byte // empty: none
	seq         uint64 // 0: none
	by, covered bool   // a signature names that key, and signs that record
}

// note reads what the store says of the signatures of a chain.
func (s *signatures) note(w *walker) error {
	err := w.tx.QueryRowContext(w.ctx, `SELECT key, seq FROM signers WHERE host = ? AND chain = ?`, w.host, w.chain).Scan(&s.noted.key, &s.noted.seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return err
}

// recentLink is what is kept of a record for a signature of it.
type recentLink struct {
	hash [32]byte
	time time.Time // zero where no keys were given
}

// recentRecords are those among which a signed one is looked for: a note of one that
// is further back covers nothing.
const recentRecords = 1 << 16

func newSignatures(noted *Noted, host string) signatures {
	s := signatures{given: noted.Keys != nil, keys: noted.Keys[host]}
	if noted.Vouch != nil && len(s.keys) == 0 {
		s.given, s.vouch = true, noted.Vouch
	}
	return s
}

// at is what is kept of a record among the recent.
func (s *signatures) at(seq uint64) *recentLink { return &s.recent[(seq-1)%recentRecords] }

// record holds a record, that is sound in its place, against what is signed.
func (s *signatures) record(w *walker, r *events.Record, g *gist) {
	link := recentLink{hash: r.Hash, time: s.newest}
	if s.given && g.err == nil {
		link.time = g.facts.Time
	}
	if s.last = r.Seq; len(s.recent) < recentRecords {
		s.recent = append(s.recent, link)
	} else {
		*s.at(r.Seq) = link
	}
	if s.given && len(s.keys) == 0 && s.vouch == nil {
		w.bad(r.Seq, "unsigned", "none of the keys that were given is of this host")
		return
	}
	if r.Kind == events.Checkpoint && s.checkpoint(w, r) {
		s.tail, s.newest = time.Time{}, time.Time{}
		for seq := s.seq + 1; seq < r.Seq; seq++ { // what came while it was signed
			s.behind(s.at(seq).time)
		}
		return
	}
	s.behind(link.time)
}

// behind notes the time of a record that is not signed yet.
func (s *signatures) behind(t time.Time) {
	if s.tail.IsZero() {
		s.tail = t
	}
	if t.After(s.newest) {
		s.newest = t
	}
}

// checkpoint reports whether a signature covers records that none did before; where it
// is wrong it names it.
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
	s.noted.covered = s.noted.covered || h.Seq == s.noted.seq
	s.noted.by = s.noted.by || string(h.Key) == string(s.noted.key) && h.SignedBy(h.Key)
	if !s.given && len(s.keys) == 0 && h.Key != nil {
		s.keys = []ed25519.PublicKey{h.Key}
	}
	if s.vouch != nil && len(s.keys) == 0 {
		s.vouched(w, r, &f, &h)
	}
	switch signed, known := signedByOne(&h, s.keys); {
	case !known:
		return false
	case !signed:
		w.bad(r.Seq, "forged", "the host's key did not sign it")
		return false
	}
	switch {
	case h.Seq == 0 || r.Seq-h.Seq >= recentRecords:
		return false // what it signs is nothing, or can't be held against it
	case s.at(h.Seq).hash != h.Hash:
		w.bad(h.Seq, "changed", "the host signed another record in its place")
		return false
	case h.Seq <= s.seq:
		return false // an old one, that was put in again
	}
	s.seq = h.Seq
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
	if s.vouch != nil && len(s.keys) == 0 && s.no != "" {
		w.bad(1, "unvouched", "%s", s.no)
	}
	if over := s.newest.Sub(s.tail); s.given && !s.tail.IsZero() && over > unsignedTime {
		w.bad(s.seq+1, "unsigned", "the host signed none of the records from this one to %d, over %s", s.last, over.Round(time.Second))
	}
	if n := &s.noted; len(n.key) > 0 && !n.by || n.seq > 0 && !n.covered {
		w.bad(min(n.seq, s.last)+1, "altered", "what the store notes of the host's signatures stands in none of them: that the next ones are missing would be no alarm")
	}
}
