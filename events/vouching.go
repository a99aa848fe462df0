package events

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A Vouching is the word of a host's identity for the key that a note names: a second
// signature of the note, by the key of the host's X.509-SVID, in a line of its own
//
//	— spiffe://example.org/sallyport/host/ward-3 <base64>
//
// of the key id, two bytes of the signature's length, the signature over svidContext and
// the note's text, and the SVID's certificates (DER), the leaf first. The text has host,
// chain, place and key, so that it can stand for no others.
type Vouching struct {
	ID   string              // the SPIFFE ID that it says it is of
	SVID []*x509.Certificate // the leaf first
	sig  []byte
}

const (
	svidContext = "sallyport/svid/v1\n" // what an SVID's key signs elsewhere begins otherwise
	svidKeyType = "\xffsallyport svid"  // of the key id: C2SP signed-note
	maxSVID     = 1 << 15               // bytes of a vouching
	maxID       = 2048                  // SPIFFE-ID 2.3
)

// Vouch appends to a note, as SignHead returns it, the word of an SVID's key for it.
func Vouch(note string, svid []*x509.Certificate, key crypto.Signer) (string, error) {
	if len(svid) == 0 || len(svid[0].URIs) != 1 {
		return "", errors.New("vouch: not an X.509-SVID")
	}
	text, _, ok := strings.Cut(note, "\n\n")
	if !ok {
		return "", errors.New("vouch: not a note")
	}
	_, hash, err := svidAlgorithm(svid[0])
	if err != nil {
		return "", err
	}
	signed := []byte(svidContext + text + "\n")
	if hash != 0 {
		h := hash.New()
		h.Write(signed)
		signed = h.Sum(nil)
	}
	sig, err := key.Sign(rand.Reader, signed, hash)
	if err != nil {
		return "", fmt.Errorf("vouch: %w", err)
	}
	id := svid[0].URIs[0].String()
	b := binary.BigEndian.AppendUint16(svidKeyID(id, svid[0]), uint16(len(sig)))
	b = append(b, sig...)
	for _, c := range svid {
		b = append(b, c.Raw...)
	}
	return note + "— " + id + " " + base64.StdEncoding.EncodeToString(b) + "\n", nil
}

func svidKeyID(id string, leaf *x509.Certificate) []byte {
	sum := sha256.Sum256(append([]byte(id+"\n"+svidKeyType), leaf.RawSubjectPublicKeyInfo...))
	return sum[:4:4]
}

// svidAlgorithm is how the key of a certificate signs.
func svidAlgorithm(c *x509.Certificate) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		}
		return x509.ECDSAWithSHA256, crypto.SHA256, nil
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, crypto.SHA256, nil
	case ed25519.PublicKey:
		return x509.PureEd25519, 0, nil
	}
	return 0, 0, fmt.Errorf("vouch: an SVID with a key of a kind that is not known (%T)", c.PublicKey)
}

// parseVouching reads a line; what it says is not known to be so until Vouched.
func parseVouching(line string) (*Vouching, error) {
	bad := errors.New("a checkpoint with a second signature that is no SVID's")
	rest, ok := strings.CutPrefix(line, "— ")
	id, text, ok2 := strings.Cut(rest, " ")
	odd := strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || len(id) > maxID
	if !ok || !ok2 || odd || !strings.HasPrefix(id, "spiffe://") || len(text) > base64.StdEncoding.EncodedLen(maxSVID) {
		return nil, bad
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) < 6 {
		return nil, bad
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < 6+n {
		return nil, bad
	}
	v := &Vouching{ID: id, sig: b[6 : 6+n]}
	if v.SVID, err = x509.ParseCertificates(b[6+n:]); err != nil || len(v.SVID) == 0 || !bytes.Equal(b[:4], svidKeyID(id, v.SVID[0])) {
		return nil, bad
	}
	return v, nil
}

// Vouched returns an error unless the note has a Vouching that is by the key of its leaf.
// Whose that certificate is, and until when, is not looked at.
func (h *SignedHead) Vouched() error {
	v := h.Vouching
	if v == nil || h.Key == nil {
		return errors.New("no identity vouches for the key")
	}
	leaf := v.SVID[0]
	alg, _, err := svidAlgorithm(leaf)
	if err != nil {
		return err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != v.ID {
		return fmt.Errorf("the SVID is not that of %s", v.ID)
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 { // X509-SVID 4.3
		return fmt.Errorf("the SVID of %s is not one to sign with", v.ID)
	}
	if leaf.CheckSignature(alg, append([]byte(svidContext), h.text...), v.sig) != nil {
		return fmt.Errorf("the key of %s did not sign it: it vouches for another key, chain or place", v.ID)
	}
	return nil
}
