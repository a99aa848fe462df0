package tlsport

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Files are an authority as it is kept, each in PEM form.
type Files struct {
	Root, Intermediate []byte // certificates
	Key                []byte // the intermediate's, PKCS #8
}

// ErrEarlier is an authority whose root signs leaves itself, as earlier versions
// made it.
var ErrEarlier = errors.New("this host's authority was made by an earlier version of sallyport, so that Java would not see its limits: make another (sallyport trust renew)")

// Files returns what LoadAuthority reads.
func (a *Authority) Files() (f Files, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return f, err
	}
	defer clear(der)
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return Files{block("CERTIFICATE", a.root.Raw), block("CERTIFICATE", a.intermediate.Raw), block("PRIVATE KEY", der)}, nil
}

// LoadAuthority reads an authority that is whole, each part that of the other.
func LoadAuthority(f Files) (*Authority, error) {
	root, err := ParseCertificate(f.Root)
	if err != nil {
		return nil, fmt.Errorf("the authority's root: %w", err)
	}
	intermediate, err := Issued(root, f.Intermediate)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(f.Key)
	if err != nil {
		return nil, fmt.Errorf("the authority's key: %w", err)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(intermediate.PublicKey) {
		return nil, errors.New("the authority's key is not that of its intermediate certificate: make another authority (sallyport trust renew --yes)")
	}
	return &Authority{root, intermediate, key}, nil
}

// Issued reads the intermediate certificate (PEM) of a root. Without one, or with
// one that the root did not sign, the authority can't be used; it is ErrEarlier
// where the root may sign none.
func Issued(root *x509.Certificate, text []byte) (*x509.Certificate, error) {
	if root.MaxPathLen != 1 {
		return nil, ErrEarlier
	}
	c, err := ParseCertificate(text)
	if err == nil {
		err = c.CheckSignatureFrom(root)
	}
	if err != nil {
		return nil, fmt.Errorf("the intermediate certificate of the authority is not its root's: %w; make another authority (sallyport trust renew)", err)
	}
	return c, nil
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(b.Bytes)
}

// ParseKey reads a key as Files has it.
func ParseKey(text []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key in PEM form")
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, errors.New("an unreadable private key") // err may quote it
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("a private key that can't sign")
	}
	return s, nil
}

// Fingerprint is a certificate's SHA-256, in the form that people compare.
func Fingerprint(c *x509.Certificate) string {
	s := sha256.Sum256(c.Raw)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", s[:]), " ", ":"))
}
