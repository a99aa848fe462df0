package desk

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/policy/approval"
)

// Recorded is the proof of a decision of somebody who has logged in by SAML: their
// provider's response to a request whose ID is the decision's approval.RequestID, and
// the signature of the recorder that had them log in. It is weaker than an ID token:
// a recorder has its own word only for what was shown to them.
type Recorded struct {
	Provider  string `json:"provider"`  // its name in approvals.saml
	Salt      []byte `json:"salt"`      // of the RequestID
	Response  string `json:"response"`  // SAMLResponse, base64
	Signature []byte `json:"signature"` // Ed25519, over what signed returns
}

// NewSalt returns a salt for one request.
func NewSalt() []byte {
	salt := make([]byte, approval.SaltBytes)
	_, _ = rand.Read(salt) // it never fails
	return salt
}

// Sign has a recorder's key sign the decision that stands in q, with its proof.
func (q *Ask) Sign(key ed25519.PrivateKey) { q.Recorded.Signature = ed25519.Sign(key, q.signed()) }

// signed is what a recorder signs: these fields, each with its length before it as a
// big-endian u64: "sallyport recorded decision 1", the verb, the request's ID, the
// justification, the provider's name, the salt, SHA-256 of the response.
func (q *Ask) signed() (out []byte) {
	r := q.Recorded
	sum := sha256.Sum256([]byte(r.Response))
	for _, f := range [][]byte{
		[]byte("sallyport recorded decision 1"), []byte(q.Do), []byte(q.ID), []byte(q.Why), []byte(r.Provider), r.Salt, sum[:],
	} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
		out = append(out, f...)
	}
	return out
}

// Recorders are those whose word, with an assertion, proves decisions. The zero value
// is none.
type Recorders struct {
	Keys   []ed25519.PublicKey
	People *saml.Verifier
	// Person names the claim by which a provider's people are told apart.
	Person func(provider string) string
}

// Prove verifies what stands in q: that a recorder signed it, and that the response is
// of the provider, for us and of now. Whether it is of this decision is told by the Book.
func (r *Recorders) Prove(ctx context.Context, q *Ask) (*approval.Proof, error) {
	rec := q.Recorded
	switch {
	case q.Do != approval.Approve && q.Do != approval.Deny && q.Do != approval.Revoke:
		return nil, errors.New("what a recorder signed proves a decision about a request, and nothing else")
	case q.Token != "":
		return nil, errors.New("a decision has one proof: an ID token, or what a recorder signed")
	case !slices.ContainsFunc(r.Keys, func(k ed25519.PublicKey) bool {
		return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, q.signed(), rec.Signature)
	}):
		return nil, errors.New("the approver is not proved: no recorder of approvals.recorder_keys has signed this decision")
	case r.People == nil:
		return nil, errors.New("the approver is not proved: there are no approvals.saml here")
	}
	b, err := r.People.ReadBound(ctx, rec.Provider, rec.Response)
	if err != nil {
		return nil, fmt.Errorf("the approver is not proved: %w", err)
	}
	token, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	return &approval.Proof{
		Issuer: b.Issuer, Subject: b.Subject, Claims: b.Claims, Issued: b.Issued, LoggedIn: b.Issued, Token: string(token),
		Person: r.Person(rec.Provider), SAML: rec.Provider, Answers: b.Request, Salt: rec.Salt, Assertion: b.ID,
	}, nil
}
