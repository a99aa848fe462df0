package recorder

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sallyport.dev/sallyport/events"
)

// Voucher says which identity vouches for the key that a note names, or why none does:
// events/vouch has one. It must hold at each of the times.
type Voucher interface {
	Check(h *events.SignedHead, at ...time.Time) (id string, err error)
}

// Vouch has the key of a chain be the one that an identity vouches for, in one of the
// chain's own checkpoints, of each host for which Trust was given no key. It must be
// called before the first Add.
func (s *DB) Vouch(by Voucher) { s.vouch = by }

// vouched tells whether the key that an identity vouched for signed a head. Until one
// holds, as it comes and by the host's clock, no signature of the chain counts: the next
// vouching may, and its signature covers all before it. The checkpoint itself, which is
// stored like every record, is what Verify holds against the trust bundle later.
func (a *adder) vouched(c *chainState, r *events.Record, f *Facts, h *events.SignedHead) (sound bool, what, why string, err error) {
	now := a.now.UnixNano()
	var key ed25519.PublicKey
	var since int64
	err = a.one(`SELECT key, since FROM vouched WHERE host = ? AND chain = ?`, []any{c.Host, c.Chain}, (*[]byte)(&key), &since)
	known := err == nil
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return false, "", "", err
	case h.Key != nil && !h.SignedBy(h.Key):
		return false, "forged", "the key that it names did not sign it", nil
	case known && !h.SignedBy(key):
		return false, "other-key", "the host signs with another key than the one that its identity vouched for", nil
	case known:
		err = a.store(`UPDATE vouched SET used = ? WHERE host = ? AND chain = ?`, now, c.Host, c.Chain)
	default:
		id, no := a.vouches.Check(h, a.now, f.Time)
		if no != nil {
			return false, "unvouched", fmt.Sprintf("its signatures do not count: %v", no), nil
		}
		if began := c.signer.key; len(began) > 0 && !began.Equal(h.Key) { // before there was a rule
			return false, "other-key", "its identity vouches for another key than the chain began with: somebody else writes its chain", nil
		}
		since = now
		c.signer.key, c.signer.moved = h.Key, true
		err = a.store(`INSERT INTO vouched VALUES (?,?,?,?,?,?,?)`, c.Host, c.Chain, bytes(h.Key), id, int64(r.Seq), now, now)
	}
	if err != nil {
		return false, "", "", err
	}
	// The key that was there first is in force for as long as it signs; what was used at a
	// time to come was so by a clock that was put back.
	var other string
	err = a.one(`SELECT chain FROM vouched WHERE host = ? AND chain <> ? AND key <> ? AND (since < ? OR since = ? AND chain < ?) AND used > ? AND used <= ? LIMIT 1`,
		[]any{c.Host, c.Chain, []byte(h.Key), since, since, c.Chain, a.now.Add(-twoHostsTime).UnixNano(), now}, &other)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return true, "", "", nil
	case err != nil:
		return false, "", "", err
	}
	return false, "other-key", fmt.Sprintf("chain %s of this host is signed with another key that its identity vouched for: its folder was replaced, or two hosts have one name; until that one is silent for %s this one's signatures do not count", other, twoHostsTime), nil
}

// vouched has the key of a chain that is verified be the one that an identity vouches for.
func (s *signatures) vouched(w *walker, r *events.Record, f *Facts, h *events.SignedHead) {
	switch {
	case h.Key != nil && !h.SignedBy(h.Key):
		s.no = "the key that it names did not sign it"
	case h.Vouching != nil || s.no == "":
		id, err := s.vouch.Check(h, f.Time)
		if err != nil {
			s.no = err.Error() // the recorder has raised an alarm; a later one may hold
			return
		}
		s.keys = []ed25519.PublicKey{h.Key}
		w.rep.VouchedBy, w.rep.VouchedIn = id, r.Seq
	}
}

// vouchedBeside holds the keys that identities vouched for against the chains: one that
// somebody put there would be trusted. Which checkpoint says it is for Noted.Vouch.
func vouchedBeside(ctx context.Context, tx *sql.Tx, now time.Time) (*Fault, error) {
	f := Fault{What: "altered", Seq: 1, Detail: "what the store notes of who vouched for the host's key is not so"}
	err := tx.QueryRowContext(ctx, `SELECT v.host, v.chain FROM vouched v LEFT JOIN chains c ON c.host = v.host AND c.chain = v.chain
		LEFT JOIN signers s ON s.host = v.host AND s.chain = v.chain
		WHERE c.host IS NULL OR s.host IS NULL OR s.key <> v.key OR v.seq < 1 OR v.seq > c.head_seq OR v.since > ?1 OR v.used > ?1
		ORDER BY v.host, v.chain LIMIT 1`, now.Add(2*day).UnixNano()).Scan(&f.Host, &f.Chain)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &f, err
}
