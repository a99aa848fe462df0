package identity

import (
	"context"
	"crypto/sha256"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// SVID is what SPIFFE says of a process that somebody else attested. The zero
// SVID is of nobody.
type SVID struct {
	ID      string            // "spiffe://trust.domain/path"
	Cert    [sha256.Size]byte // of the leaf certificate, DER: what cnf x5t#S256 names; zero without one
	Expires time.Time
}

// Attester finds the SVID of another process, by its proved pid. It is safe
// for concurrent use. No SVID is an error, never the zero SVID; its text says
// why and what to do.
type Attester interface {
	Attest(ctx context.Context, peer *intercept.Peer) (SVID, error)
}
