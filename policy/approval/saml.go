package approval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// SaltBytes is the size of what makes a RequestID unlike any other.
const SaltBytes = 32

// RequestID is what the ID of a SAML request (AuthnRequest) must be by which somebody
// signs a decision, of the decision's Nonce: "_" and SHA-256, in hexadecimal, over
// "sallyport saml approval 1", the nonce and a random salt, each with its length before
// it as a big-endian u64. The provider signs it as what its assertion answers
// (InResponseTo), and that is what binds the assertion to the decision.
func RequestID(nonce string, salt []byte) string {
	h := sha256.New()
	field(h, []byte("sallyport saml approval 1"))
	field(h, []byte(nonce))
	field(h, salt)
	return "_" + hex.EncodeToString(h.Sum(nil))
}

// toldApart refuses an approver by SAML unless each token of the requester's says by
// the very claim that the assertion has who it is of: provider and issuers name people
// otherwise, so that other names that differ tell nothing.
func toldApart(w *Who, p *Proof) error {
	for _, of := range []struct{ name, issuer string }{{w.Subject, w.Issuer}, {w.Principal, w.PrincipalIssuer}} {
		if (of.name != "" || of.issuer != "") && !slices.ContainsFunc(w.Known, func(k Known) bool { return k.Issuer == of.issuer }) {
			return errHidden(p)
		}
	}
	for _, k := range w.Known {
		if k.Claims[p.Person] == "" {
			return errHidden(p)
		}
	}
	return nil
}

func errHidden(p *Proof) error {
	return fmt.Errorf("it can't be told that you are somebody else than who asks: a token of theirs has no claim %q, by which the SAML provider %s names people; have their issuer put it in, and ask again, or approve by an ID token", p.Person, p.SAML)
}

// apart refuses an approval beside others of which it can't be told that they are of
// somebody else: where one is by SAML, all must name people by the same claim.
func apart(before []Decision, d *Decision) error {
	for _, x := range before {
		if x.Verb == Approve && x.Issuer != d.Issuer && (x.SAML != "" || d.SAML != "") && (x.Named == "" || x.Named != d.Named) {
			return errors.New("it can't be told that you are somebody else than who approved it before: their issuer and yours name people by different claims")
		}
	}
	return nil
}
