package spiretest

import (
	"fmt"
	"strings"
	"time"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// Entry says whose the identity of a path is.
type Entry struct {
	Path      string        // "/agent"
	Selectors []string      // "unix:uid:1000"; all must hold
	TTL       time.Duration // of an X.509-SVID; the server's own (an hour) where 0
	JWTTTL    time.Duration
	Federates []*Spire
	Hint      string
}

// Register makes an entry, and returns its id. The agent knows of it a little
// later.
func (s *Spire) Register(e Entry) string {
	s.t.Helper()
	entry := &types.Entry{
		SpiffeId: &types.SPIFFEID{TrustDomain: s.TrustDomain, Path: e.Path},
		ParentId: &types.SPIFFEID{TrustDomain: s.TrustDomain, Path: strings.TrimPrefix(s.Parent, "spiffe://"+s.TrustDomain)},
		Hint:     e.Hint, X509SvidTtl: int32(e.TTL.Seconds()), JwtSvidTtl: int32(e.JWTTTL.Seconds()),
	}
	for _, sel := range e.Selectors {
		typ, value, _ := strings.Cut(sel, ":")
		entry.Selectors = append(entry.Selectors, &types.Selector{Type: typ, Value: value})
	}
	for _, f := range e.Federates {
		entry.FederatesWith = append(entry.FederatesWith, f.TrustDomain)
	}
	r, err := entryv1.NewEntryClient(s.conn).BatchCreateEntry(s.ctx(), &entryv1.BatchCreateEntryRequest{Entries: []*types.Entry{entry}})
	if err == nil {
		err = failed(r.Results[0].Status)
	}
	if err != nil {
		s.t.Fatalf("register %s: %v", e.Path, err)
	}
	return r.Results[0].Entry.Id
}

// Delete takes an entry away.
func (s *Spire) Delete(id string) {
	s.t.Helper()
	r, err := entryv1.NewEntryClient(s.conn).BatchDeleteEntry(s.ctx(), &entryv1.BatchDeleteEntryRequest{Ids: []string{id}})
	if err == nil {
		err = failed(r.Results[0].Status)
	}
	if err != nil {
		s.t.Fatalf("delete %s: %v", id, err)
	}
}

// Bundle returns what others trust this domain by.
func (s *Spire) Bundle() *types.Bundle {
	s.t.Helper()
	b, err := bundlev1.NewBundleClient(s.conn).GetBundle(s.ctx(), &bundlev1.GetBundleRequest{})
	if err != nil {
		s.t.Fatalf("bundle of %s: %v", s.TrustDomain, err)
	}
	return b
}

// Trust gives this domain's server the other's bundle. An entry that federates
// with the other gets it.
func (s *Spire) Trust(other *Spire) {
	s.t.Helper()
	r, err := bundlev1.NewBundleClient(s.conn).BatchSetFederatedBundle(s.ctx(),
		&bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{clone(other.Bundle())}})
	if err == nil {
		err = failed(r.Results[0].Status)
	}
	if err != nil {
		s.t.Fatalf("%s trusts %s: %v", s.TrustDomain, other.TrustDomain, err)
	}
}

func failed(st *types.Status) error {
	if c := codes.Code(st.GetCode()); c != codes.OK {
		return fmt.Errorf("%s: %s", c, st.GetMessage())
	}
	return nil
}
