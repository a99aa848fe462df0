package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/intercept"
)

// ErrInBand is wrapped where a process is proved, and nobody yet: its client
// sends its token in the words of its protocol. See Binder.Present.
var ErrInBand = errors.New("its token comes in band (in_band): who it is shows when its client has sent it")

// Present proves a peer whose workload's token comes in band, by the token that
// its client has sent. was is who its session is by this token already, nil
// before: only then a one-time token is spent. An error's text says why, and
// holds nothing of the token but names.
func (b *Binder) Present(ctx context.Context, peer *intercept.Peer, sent []byte, was *intercept.Identity) (intercept.Identity, error) {
	if sent == nil {
		sent = []byte{} // an empty token is one that does not verify
	}
	spend := b.verifier.Spend
	if was != nil {
		spend = func(*Token) error { return nil }
	}
	return b.bind(ctx, peer, sent, spend)
}

// agrees holds a token that came in band against the one that sallyport exec
// gave the process, where it did: both must name the same, and hold.
func (b *Binder) agrees(ctx context.Context, id *intercept.Identity, w *Workload, pr *intercept.Proof, svid *SVID, spend func(*Token) error) error {
	raw := bytes.TrimSpace(pr.Token)
	if len(raw) == 0 {
		return nil
	}
	t, err := b.cache.verify(ctx, raw, w.Issuer)
	if err != nil {
		return fmt.Errorf("the token that sallyport exec gave it: %w", err)
	}
	other := *id
	if err := present(&other, t, svid, intercept.ProofPidfd); err != nil {
		return fmt.Errorf("the token that sallyport exec gave it: %w", err)
	}
	if !other.Same(id) {
		return fmt.Errorf("two tokens disagree: its client sent one of %.128q, and sallyport exec gave it one of %.128q", id.Actor(), other.Actor())
	}
	id.Expires = other.Expires
	if other.NotBefore.After(id.NotBefore) {
		id.NotBefore = other.NotBefore
	}
	if t.Sum == id.Token {
		return nil
	}
	return spend(t)
}
