package recorder

import (
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
)

// A host signs the head of its chain each minute that it moves, in a Checkpoint
// event. Of each one that is stored the recorder checks that a key of the host signed
// it, and that what it signs is what is stored. A signature that is not right is an
// alarm, and what came is kept: a host forgets nothing for which a receipt names
// another hash than its own.
//
// The keys are those that Trust was given; of other hosts those that an identity vouches
// for, where Vouch was given a rule. Without either, the key of a chain is the one that
// its first signature names: NATS holds a publisher to its name.

const (
	// unsignedTime is how long records may come without a signature behind them.
	unsignedTime = 10 * time.Minute
	// signTime is what a host has for one once it is noticed: one that comes back after
	// an hour has not signed its last records of then.
	signTime = 2 * time.Minute
	// twoHostsTime is how long after a chain's first record the one that it takes the
	// place of may go on: by then nothing of it is on its way.
	twoHostsTime = 10 * time.Minute
)

// signer is what is known of a host's signatures in a chain.
type signer struct {
	key   ed25519.PublicKey // that the first one named; empty: there was none
	seq   uint64            // the newest record that is signed
	since int64             // ns: when the first one behind it came; 0: there is none
	due   int64             // ns: when that was too long ago; 0: it is not, told: so it was said
	moved bool
}

// told is a due that was raised.
const told = math.MaxInt64

// signature judges a record that is stored now by what it signs, or goes unsigned.
func (a *adder) signature(c *chainState, r *events.Record) error {
	if c.signer == nil {
		c.signer = new(signer)
		err := a.one(`SELECT key, seq, since, due FROM signers WHERE host = ? AND chain = ?`, []any{c.Host, c.Chain},
			(*[]byte)(&c.signer.key), &c.signer.seq, &c.signer.since, &c.signer.due)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	s, now := c.signer, a.now.UnixNano()
	if s.since > now || s.due > now && s.due != told { // a clock that was put back, or an edit: neither waits for a time to come
		s.since, s.due, s.moved = min(s.since, now), min(s.due, now), true
	}
	if r.Kind == events.Checkpoint {
		covers, err := a.checkpoint(c, r)
		if err != nil {
			return err
		}
		if covers > s.seq {
			s.seq, s.since, s.due, s.moved = covers, 0, 0, true
			if c.last > covers+1 { // more came while it was signed
				s.since = now
			}
			return nil
		}
	}
	switch {
	case r.Seq < c.last: // late
	case s.since == 0:
		s.since, s.moved = now, true
	case s.due == 0 && now-s.since > int64(unsignedTime):
		s.due, s.moved = now, true
	case s.due != 0 && s.due != told && now-s.due > int64(signTime):
		s.due, s.moved = told, true
		return a.alarm(c.Host, &events.Record{Chain: c.Chain, Seq: s.seq + 1}, "unsigned",
			fmt.Sprintf("since %s the host has signed none of the records from this one on", unixNano(s.since).UTC().Format(time.RFC3339)))
	}
	return nil
}

// checkpoint checks a signature, and returns the newest record that it covers, 0 for
// none.
func (a *adder) checkpoint(c *chainState, r *events.Record) (covers uint64, err error) {
	if err := a.twoHosts(c); err != nil {
		return 0, err
	}
	f, err := decode(r)
	if err != nil {
		return 0, nil // an alarm of its own
	}
	forged := func(format string, args ...any) (uint64, error) {
		return 0, a.refuse(c.Host, &events.Record{Chain: r.Chain, Seq: r.Seq, Hash: r.Hash}, "forged", fmt.Sprintf(format, args...))
	}
	h, err := events.ParseSignedHead(f.Message)
	switch {
	case err != nil:
		return forged("%v", err)
	case h.Host != c.Host || h.Chain != c.Chain || h.Seq >= r.Seq:
		return forged("it signs record %d of host %s, chain %s", h.Seq, h.Host, h.Chain)
	}
	sound, what, why, err := a.trusted(c, r, &f, &h)
	switch {
	case err != nil:
		return 0, err
	case what == "forged":
		return forged("%s", why)
	case what != "": // once for each key, from the first record on that is not signed
		about := slices.Clone(h.Key)
		if what == "unvouched" && h.Vouching != nil { // and for each identity
			about = append(about, h.Vouching.ID...)
		}
		if err := a.alarm(c.Host, &events.Record{Chain: r.Chain, Seq: c.signer.seq + 1, Hash: sha256.Sum256(about)}, what, why); err != nil {
			return 0, err
		}
	}
	if !sound {
		return 0, nil
	}
	have, err := a.stored(c, h.Seq)
	switch {
	case errors.Is(err, errBlock), err == nil && have == nil:
		return 0, nil // missing, or damaged: alarms of their own
	case err != nil:
		return 0, err
	case have.Hash != h.Hash:
		return forged("the host signed another record %d than the one that is stored", h.Seq)
	}
	return h.Seq, nil
}

// trusted tells whether a key of the host signed a head, or what is wrong.
func (a *adder) trusted(c *chainState, r *events.Record, f *Facts, h *events.SignedHead) (sound bool, what, why string, err error) {
	if a.vouches != nil && len(a.hosts[c.Host]) == 0 {
		return a.vouched(c, r, f, h)
	}
	if a.hosts != nil {
		switch signed, known := signedByOne(h, a.hosts[c.Host]); {
		case !known:
			return false, "unknown-key", "no key of this host is known: its signatures can't be checked", nil
		case !signed:
			return false, "forged", "none of the host's keys signed it", nil
		}
		return true, "", "", nil
	}
	s := c.signer
	switch {
	case h.SignedBy(s.key):
		return true, "", "", nil
	case h.Key == nil:
		return false, "unknown-key", "no key of this host is known, and its signatures do not name it: they can't be checked", nil
	case !h.SignedBy(h.Key):
		return false, "forged", "the key that it names did not sign it", nil
	case len(s.key) > 0:
		return false, "other-key", "the host signs with another key than it began with: its folder was replaced, or somebody else writes its chain", nil
	}
	s.key, s.moved = h.Key, true
	var other bool
	err = a.one(`SELECT EXISTS (SELECT 1 FROM signers WHERE host = ? AND chain <> ? AND length(key) > 0 AND key <> ?)`, []any{c.Host, c.Chain, []byte(h.Key)}, &other)
	if other {
		return true, "other-key", "the host signs with another key than it did in a chain before: its folder was replaced, or two hosts have one name", err
	}
	return true, "", "", err
}

func signedByOne(h *events.SignedHead, keys []ed25519.PublicKey) (signed, known bool) {
	for _, k := range keys {
		if h.SignedBy(k) {
			return true, true
		}
	}
	return false, len(keys) > 0
}

// twoHosts raises the alarm that a chain goes on although its host has long begun
// another one.
func (a *adder) twoHosts(c *chainState) error {
	var other string
	// Which came first is told by what was logged: nobody edits that unseen.
	const began = `(SELECT leaf FROM leaves WHERE host = ?1 AND chain = %s AND alarm = 0 ORDER BY first LIMIT 1)`
	err := a.one(`SELECT n.chain FROM chains n WHERE n.host = ?1 AND n.chain <> ?2 AND n.first_seen < ?3
		AND `+fmt.Sprintf(began, "n.chain")+` > `+fmt.Sprintf(began, "?2")+` ORDER BY n.first_seen DESC LIMIT 1`,
		[]any{c.Host, c.Chain, a.now.Add(-twoHostsTime).UnixNano()}, &other)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.alarm(c.Host, &events.Record{Chain: c.Chain, Seq: 1, Hash: sha256.Sum256([]byte(other))}, "two-hosts",
		fmt.Sprintf("this chain goes on, and chain %s of the same host began long ago: two interceptors have one name", other))
}

// keepSigner stores what changed.
func (a *adder) keepSigner(c *chainState) error {
	s := c.signer
	if s == nil || !s.moved {
		return nil
	}
	s.moved = false
	return a.store(`INSERT INTO signers VALUES (?,?,?,?,?,?) ON CONFLICT (host, chain) DO UPDATE
		SET key = excluded.key, seq = excluded.seq, since = excluded.since, due = excluded.due`,
		c.Host, c.Chain, bytes(s.key), int64(s.seq), s.since, s.due)
}

// Trust has signatures checked against these keys, and no others, of hosts that they
// do not name as well, unless Vouch has a rule for those. It must be called before the
// first Add.
func (s *DB) Trust(keys events.HostKeys) { s.hosts = keys }
