package tlsport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// MaxLeaf is the longest life of a leaf.
	MaxLeaf = 24 * time.Hour
	// authorityLife is that of an authority: it stands in trust stores.
	authorityLife = 3 * 365 * 24 * time.Hour
	// early is how long before its making a certificate is valid: clocks differ.
	early = 5 * time.Minute
)

// organization stands in the certificates of authorities and leaves.
const organization = "sallyport"

// Permitted is what an authority's certificate limits it to (RFC 5280, 4.2.1.10).
type Permitted struct {
	Names    []string // a name, or with a dot before it all names below
	Prefixes []netip.Prefix
}

// Names that nobody has stand for none: an empty list of one kind would permit
// all of that kind.
var (
	noName   = "sallyport.invalid"             // RFC 6761, 6.4
	noPrefix = netip.MustParsePrefix("::/128") // nobody's address
)

// An Authority signs leaves for names that its certificate permits.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes one for a host, and returns its certificate in PEM form.
// With a key it is that key's, else its key is new.
func NewAuthority(host string, p Permitted, key crypto.Signer, now time.Time) (*Authority, []byte, error) {
	if key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		key = k
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "sallyport on " + host, Organization: []string{organization}},
		NotBefore: now.Add(-early), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: p.Names,
	}
	if len(t.PermittedDNSDomains) == 0 {
		t.PermittedDNSDomains = []string{noName}
	}
	prefixes := p.Prefixes
	if len(prefixes) == 0 {
		prefixes = []netip.Prefix{noPrefix}
	}
	four, six := false, false
	for _, f := range prefixes {
		f = f.Masked()
		four, six = four || f.Addr().Is4(), six || f.Addr().Is6()
		t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: f.Addr().AsSlice(), Mask: net.CIDRMask(f.Bits(), f.Addr().BitLen())})
	}
	// Some verifiers compare only constraints of an address's own family.
	if !four {
		t.ExcludedIPRanges = append(t.ExcludedIPRanges, &net.IPNet{IP: make(net.IP, 4), Mask: make(net.IPMask, 4)})
	}
	if !six {
		t.ExcludedIPRanges = append(t.ExcludedIPRanges, &net.IPNet{IP: make(net.IP, 16), Mask: make(net.IPMask, 16)})
	}
	der, err := certify(t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return &Authority{cert, key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// certify signs a certificate with a serial number of its own.
func certify(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, t, parent, pub, key)
}

// LoadAuthority reads a certificate and its key, both in PEM form.
func LoadAuthority(certificate, key []byte) (*Authority, error) {
	cert, err := ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	k, err := ParseKey(key)
	if err != nil {
		return nil, err
	}
	pub, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(cert.PublicKey) {
		return nil, errors.New("the authority's certificate is not its key's")
	}
	return &Authority{cert, k}, nil
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(b.Bytes)
}

// ParseKey reads a key as KeyPEM writes it.
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

// KeyPEM returns the authority's key in PEM form.
func (a *Authority) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Certificate is the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Sign returns a leaf (DER) that says that a key is a server's of this name: a
// DNS name, or an address. Wildcards and what the authority is not permitted to
// sign are refused.
func (a *Authority) Sign(pub crypto.PublicKey, name string, now time.Time) ([]byte, error) {
	return a.SignAny(pub, []string{name}, now)
}

// SignAny is Sign for those of several names that it does not refuse. It fails
// where none is left; the error is the first one's.
func (a *Authority) SignAny(pub crypto.PublicKey, names []string, now time.Time) ([]byte, error) {
	t := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{organization}},
		NotBefore: now.Add(-early), NotAfter: now.Add(-early).Add(MaxLeaf),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	if !now.Before(a.cert.NotAfter) {
		return nil, fmt.Errorf("the authority's certificate has expired on %s: make another (sallyport trust renew)", a.cert.NotAfter.Format(time.DateOnly))
	}
	permitted := PermittedBy(a.cert)
	refused := errors.New("no name was given")
	var kept []string
	for i, name := range names {
		err := permitted.add(t, name)
		if err == nil {
			kept = append(kept, name)
		} else if i == 0 {
			refused = err
		}
	}
	if kept == nil {
		return nil, refused
	}
	der, err := certify(t, a.cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// As clients would: what they would refuse is not signed.
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, name := range kept {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: name}); err != nil {
			return nil, fmt.Errorf("the authority can't sign for %q: %w", name, err)
		}
	}
	return der, nil
}

// add puts a name into a certificate that may have it.
func (p Permitted) add(t *x509.Certificate, name string) error {
	ip, err := netip.ParseAddr(name)
	ip = ip.Unmap().WithZone("")
	switch {
	case err == nil && p.prefix(netip.PrefixFrom(ip, ip.BitLen())):
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		return nil
	case err != nil && !IsHostName(name):
		return fmt.Errorf("%q is no name of a host", name)
	case err != nil && p.name(name):
		t.DNSNames = append(t.DNSNames, strings.ToLower(name))
		return nil
	}
	return fmt.Errorf("the authority may not sign for %q: permit it in sallyport.yaml (authority.permitted) and make another (sallyport trust renew)", name)
}

// IsHostName reports whether a name is one host's (RFC 1123, 2.1): no wildcard,
// no empty label.
func IsHostName(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// Fingerprint is a certificate's SHA-256, in the form that people compare.
func Fingerprint(c *x509.Certificate) string {
	s := sha256.Sum256(c.Raw)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", s[:]), " ", ":"))
}
