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
	ID      string // "spiffe://trust.domain/path"
	Expires time.Time
	// Certs are the SHA-256 of the leaf certificate (DER) and of the one that it
	// has replaced: what cnf x5t#S256 names.
	Certs [][sha256.Size]byte
}

// Attester finds the SVID of another process, by its proved pid. It is safe
// for concurrent use. No SVID is an error, never the zero SVID; its text says
// why and what to do.
type Attester interface {
	Attest(ctx context.Context, peer *intercept.Peer) (SVID, error)
}
