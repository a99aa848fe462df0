package spiffe

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

// VerifyJWT verifies a JWT-SVID: of a trust domain that workloads may be of,
// signed by one of its keys, for one of the audiences, not expired. It says
// nothing of who may present the token. An error holds nothing of it but the
// names of its parties.
func (s *Source) VerifyJWT(token string, audience ...string) (*jwtsvid.SVID, error) {
	switch {
	case len(token) > maxToken:
		return nil, fmt.Errorf("JWT-SVID: longer than %d bytes", maxToken)
	case len(audience) == 0:
		return nil, errors.New("JWT-SVID: no audience is configured")
	}
	// Who it says it is decides about whose keys; nothing of it is believed yet.
	unsafe, err := jwtsvid.ParseInsecure(token, audience)
	if err != nil {
		return nil, fmt.Errorf("JWT-SVID: %.300s", err)
	}
	if err := s.trusts(unsafe.ID.TrustDomain()); err != nil {
		return nil, fmt.Errorf("JWT-SVID: %w", err)
	}
	if _, err := s.GetJWTBundleForTrustDomain(unsafe.ID.TrustDomain()); err != nil {
		return nil, fmt.Errorf("JWT-SVID: %w", err)
	}
	svid, err := jwtsvid.ParseAndValidate(token, s, audience)
	if err != nil {
		return nil, fmt.Errorf("JWT-SVID: %.300s", err)
	}
	// go-spiffe lets a minute pass.
	if !s.c.now().Before(svid.Expiry) {
		return nil, fmt.Errorf("JWT-SVID of %s: it has expired: renew it", svid.ID)
	}
	if svid.ID.Path() == "" {
		return nil, fmt.Errorf("JWT-SVID: %s is a trust domain and no workload", svid.ID)
	}
	return svid, nil
}

// pickJWT finds the token of one identity among those that the agent told.
func (s *Source) pickJWT(list []ToldJWT, id spiffeid.ID, audience []string) (*jwtsvid.SVID, error) {
	if len(list) > maxSVIDs {
		return nil, fmt.Errorf("%w: the agent told %d JWT-SVIDs, more than %d", ErrNobody, len(list), maxSVIDs)
	}
	for _, t := range list {
		if t.ID != id.String() {
			continue
		}
		svid, err := s.VerifyJWT(t.Token, audience...)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNobody, err)
		}
		if svid.ID != id {
			return nil, fmt.Errorf("%w: the agent told a JWT-SVID of %s for %s", ErrNobody, svid.ID, id)
		}
		return svid, nil
	}
	return nil, fmt.Errorf("%w: the agent has no JWT-SVID of %s for this process", ErrNobody, id)
}
