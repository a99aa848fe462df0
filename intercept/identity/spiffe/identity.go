package spiffe

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/intercept"
)

// Identity is what the agent says of a process, verified.
type Identity struct {
	ID        spiffeid.ID
	Hint      string // of the entry
	Via       string // which of the agent's APIs said so: ViaBroker, ViaDelegated
	NotBefore time.Time
	Expires   time.Time // of the SVID that was told last
	// Thumbprints are the SHA-256 of the SVID's certificate, the newest first
	// and the one before it: what x5t#S256 of a bound token is held against
	// (RFC 8705, section 3.1).
	Thumbprints [][sha256.Size]byte
}

// Intercept returns the identity of a connection of a workload that has no
// other: the SPIFFE ID is who acts, and nobody stands behind it.
func (i *Identity) Intercept(workload string) intercept.Identity {
	proved := i.Proved()
	return intercept.Identity{
		Workload: workload, SPIFFE: i.ID.String(), Issuer: i.ID.TrustDomain().IDString(), Subject: i.ID.String(),
		Proof: proved.By, Proofs: intercept.Proofs{Workload: proved, Actor: proved},
		NotBefore: i.NotBefore, Expires: i.Expires,
	}
}

// Proved returns how the workload's name is proved.
func (i *Identity) Proved() intercept.Proved {
	return intercept.Proved{By: intercept.ProofSPIFFE, Bound: []string{intercept.BoundPidfd}}
}

// Certificate reports whether a thumbprint is of the SVID's certificate, or of
// the one that it has replaced.
func (i *Identity) Certificate(x5t [sha256.Size]byte) bool {
	return slices.Contains(i.Thumbprints, x5t)
}
