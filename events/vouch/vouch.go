// Package vouch says whether the word of a SPIFFE identity for a host's key counts: the
// SVID is of the trust bundle, of the identity that may speak for this host, and not
// expired.
package vouch

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/whole"
)

// Rule is which identity may speak for which host, and who vouches for identities.
type Rule struct {
	ids     string
	domain  spiffeid.TrustDomain
	bundles x509bundle.Source
}

const hostIn = "{host}"

// New makes a rule: ids is the SPIFFE ID of a host, with {host} once in its path for the
// host's name, as spiffe://example.org/sallyport/host/{host}.
func New(ids string, bundles x509bundle.Source) (*Rule, error) {
	bad := func(why string) (*Rule, error) {
		return nil, fmt.Errorf("SPIFFE IDs of hosts %q: %s: it is as spiffe://example.org/sallyport/host/{host}", ids, why)
	}
	if strings.Count(ids, hostIn) != 1 {
		return bad("it must have {host} once, so that no host speaks for another")
	}
	id, err := spiffeid.FromString(strings.Replace(ids, hostIn, "h", 1))
	if err != nil {
		return bad(err.Error())
	}
	if !strings.HasPrefix(ids, id.TrustDomain().IDString()+"/") {
		return bad("{host} must be in its path")
	}
	return &Rule{ids, id.TrustDomain(), bundles}, nil
}

// Domain is the trust domain of the hosts.
func (r *Rule) Domain() spiffeid.TrustDomain { return r.domain }

// Check returns the SPIFFE ID that vouches for a note's key, or why none does. The SVID
// must hold at each of the times.
func (r *Rule) Check(h *events.SignedHead, at ...time.Time) (id string, err error) {
	if err := h.Vouched(); err != nil {
		return "", err
	}
	if strings.Contains(h.Host, "/") { // else what is registered below a host's ID could be a host
		return "", errors.New("no SPIFFE ID can be that of this host: it has a slash in its name")
	}
	want, err := spiffeid.FromString(strings.Replace(r.ids, hostIn, h.Host, 1))
	if err != nil {
		return "", fmt.Errorf("no SPIFFE ID can be that of this host: %w", err)
	}
	if h.Vouching.ID != want.String() {
		return "", fmt.Errorf("%s vouches for the key, and only %s may for this host", h.Vouching.ID, want)
	}
	if len(at) == 0 {
		return "", errors.New("vouch: no time to check at")
	}
	for _, t := range at {
		if t.IsZero() { // for a certificate's verifier that is now
			return "", errors.New("vouch: a note of no time")
		}
		got, _, err := x509svid.Verify(h.Vouching.SVID, r.bundles, x509svid.WithTime(t))
		if err != nil {
			return "", fmt.Errorf("the SVID of %s does not hold at %s: %w", want, t.UTC().Format(time.RFC3339), err)
		}
		if got != want {
			return "", fmt.Errorf("%s vouches for the key, and only %s may for this host", got, want)
		}
	}
	return want.String(), nil
}

// File is a trust bundle in a file, read again at each question: certificates (PEM), or a
// SPIFFE bundle (JSON). Authorities that have expired may be among them: to verify later
// they must be.
type File string

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (f File) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		s, err := spiffebundle.Parse(td, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", string(f), err)
		}
		return s.X509Bundle(), nil
	}
	x, err := x509bundle.Parse(td, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", string(f), err)
	}
	if x.Empty() {
		return nil, fmt.Errorf("%s: no certificates", string(f))
	}
	return x, nil
}

// Kept keeps each authority that From tells, in a file (PEM) that File reads: they are
// needed to verify later what they vouched for.
type Kept struct {
	From x509bundle.Source
	To   string
}

// GetX509BundleForTrustDomain implements x509bundle.Source. What can't be kept is not told.
func (k Kept) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	b, err := k.From.GetX509BundleForTrustDomain(td)
	if err != nil {
		return nil, err
	}
	if err := k.keep(td, b.X509Authorities()); err != nil {
		return nil, fmt.Errorf("keep the trust bundle: %w", err)
	}
	return b, nil
}

func (k Kept) keep(td spiffeid.TrustDomain, authorities []*x509.Certificate) error {
	have := x509bundle.New(td)
	switch old, err := File(k.To).GetX509BundleForTrustDomain(td); {
	case err == nil:
		have = old
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	n := len(have.X509Authorities())
	for _, c := range authorities {
		have.AddX509Authority(c)
	}
	if len(have.X509Authorities()) == n {
		return nil
	}
	pem, err := have.Marshal()
	if err != nil {
		return err
	}
	return whole.Write(k.To, ".authorities-", pem)
}
