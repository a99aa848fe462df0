package spiffe

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	maxSVIDs = 32   // of one process
	maxID    = 2048 // bytes; SPIFFE-ID, section 2.3
	maxHint  = 1024 // bytes
	maxChain = 64 << 10
	maxToken = 16 << 10
)

// candidate is an SVID that the agent told, after a look at it. svid is nil
// where err says why nobody can be bound to it.
type candidate struct {
	id   string // as it was told, where it is one
	is   Identity
	svid *x509svid.SVID // nil unless keys are kept
	err  error
}

// check verifies one SVID. Its key is not used after, unless keys are kept.
func (a *Attestor) check(t *Told) (c candidate) {
	fail := func(err error) candidate {
		return candidate{id: c.id, err: err}
	}
	c.id = "an ID that is none"
	if len(t.ID) > maxID || len(t.Hint) > maxHint || len(t.Chain) > maxChain || len(t.Key) > maxChain {
		return fail(errors.New("the agent told an SVID beyond all sizes"))
	}
	id, err := spiffeid.FromString(t.ID)
	if err != nil {
		return fail(errors.New("the agent told a SPIFFE ID that is malformed"))
	}
	c.id = id.String()
	if id.Path() == "" {
		return fail(fmt.Errorf("%s is a trust domain and no workload", id))
	}
	if err := a.own.trusts(id.TrustDomain()); err != nil {
		return fail(fmt.Errorf("%s: %w", id, err))
	}
	certs, err := x509.ParseCertificates(t.Chain)
	if err != nil {
		return fail(fmt.Errorf("%s: its certificates are malformed", id))
	}
	now := a.c.now()
	got, _, err := x509svid.Verify(certs, a.own, x509svid.WithTime(now))
	if err != nil {
		return fail(fmt.Errorf("%s: its SVID does not verify: %w", id, err))
	}
	if got != id {
		return fail(fmt.Errorf("%s: its SVID is %s's", id, got))
	}
	leaf := certs[0]
	c.is = Identity{
		ID: id, Hint: t.Hint, Via: t.Via, NotBefore: leaf.NotBefore, Expires: expiry(certs),
		Thumbprints: [][sha256.Size]byte{sha256.Sum256(leaf.Raw)},
	}
	if a.c.Keys {
		if c.svid, err = x509svid.ParseRaw(t.Chain, t.Key); err != nil {
			return fail(fmt.Errorf("%s: its key is not its SVID's", id))
		}
		c.svid.Hint = t.Hint
	}
	return c
}

// expiry is the earliest of a chain: behind it nothing verifies.
func expiry(certs []*x509.Certificate) time.Time {
	t := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(t) {
			t = c.NotAfter
		}
	}
	return t
}
