package tlsport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// MaxLeaf is the longest life of a leaf.
	MaxLeaf = 24 * time.Hour
	// authorityLife is that of root and intermediate: the root stands in trust stores.
	authorityLife = 3 * 365 * 24 * time.Hour
	// maxCertificate bounds an authority's certificates, in bytes of DER: Java takes
	// no handshake message above 32 KiB, and one message to the daemon holds it.
	maxCertificate = 16 << 10
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

// Names and addresses that nobody has stand for none: an empty list of one kind
// would permit all of that kind, for some verifiers also one of a family. Java 17
// compares addresses of both families byte by byte: it fails on any IPv4 address
// where all of IPv6 is excluded instead, and 0.0.0.0/32 would permit it ::1.
var (
	noName = "sallyport.invalid" // RFC 6761, 6.4
	noFour = netip.MustParsePrefix("255.255.255.255/32")
	noSix  = netip.MustParsePrefix("::/128")
)

// An Authority signs leaves for names that its certificates permit. Its root is
// what agents trust. The key is that of an intermediate certificate, the only one
// that the root has ever signed: verifiers that look at no name constraints of a
// root, as Java, look at those of an intermediate.
type Authority struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer // the intermediate's
}

// NewAuthority makes one for a host. The root's key signs the intermediate and is
// forgotten: nobody can ever have the root sign anything else. A process that
// must not have it in its memory either ends now.
func NewAuthority(host string, p Permitted, now time.Time) (*Authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := constrained(p, now)
	t.Subject = pkix.Name{CommonName: "sallyport on " + host, Organization: []string{organization}}
	t.MaxPathLen = 1
	root, err := certify(t, t, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	t = constrained(p, now)
	// Another name than the root's: this one is not self-issued (RFC 5280, 3.2).
	t.Subject = pkix.Name{CommonName: "signer of sallyport on " + host, Organization: []string{organization}}
	t.MaxPathLenZero = true
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} // nor anybody's client
	intermediate, err := certify(t, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	if n := len(intermediate.Raw); n > maxCertificate {
		return nil, fmt.Errorf("the authority's certificate would have %d bytes, %d is the most that clients take: permit domains (.example.com) and prefixes instead of single hosts (authority.permitted)", n, maxCertificate)
	}
	return &Authority{root, intermediate, key}, nil
}

// constrained is what root and intermediate have in common.
func constrained(p Permitted, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		NotBefore: now.Add(-early), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: p.Names,
	}
	if len(t.PermittedDNSDomains) == 0 {
		t.PermittedDNSDomains = []string{noName}
	}
	prefixes := slices.Clone(p.Prefixes)
	if !slices.ContainsFunc(prefixes, func(f netip.Prefix) bool { return f.Addr().Is4() }) {
		prefixes = append(prefixes, noFour)
	}
	if !slices.ContainsFunc(prefixes, func(f netip.Prefix) bool { return f.Addr().Is6() }) {
		prefixes = append(prefixes, noSix)
	}
	// Java is done where one matches: IPv4 first, for what it does with the others.
	slices.SortStableFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	for _, f := range prefixes {
		f = f.Masked()
		t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: f.Addr().AsSlice(), Mask: net.CIDRMask(f.Bits(), f.Addr().BitLen())})
	}
	return t
}

// certify signs a certificate with a serial number of its own.
func certify(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	if t.SubjectKeyId, err = keyID(pub); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID is a key's identifier (RFC 7093, 2, method 1).
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// Root is what agents trust.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Sign returns what a server of this name shows (DER): a leaf that says that a key
// is the server's, and the intermediate. The name is a DNS name or an address.
// Wildcards and what the authority is not permitted to sign are refused.
func (a *Authority) Sign(pub crypto.PublicKey, name string, now time.Time) ([][]byte, error) {
	return a.SignAny(pub, []string{name}, now)
}

// SignAny is Sign for those of several names that it does not refuse. It fails
// where none is left; the error is the first one's.
func (a *Authority) SignAny(pub crypto.PublicKey, names []string, now time.Time) ([][]byte, error) {
	t := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{organization}},
		NotBefore: now.Add(-early), NotAfter: now.Add(-early).Add(MaxLeaf),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	end := a.intermediate.NotAfter
	if t.NotAfter.After(end) {
		t.NotAfter = end
	}
	if !now.Before(end) {
		return nil, fmt.Errorf("the authority's certificate has expired on %s: make another (sallyport trust renew)", end.Format(time.DateOnly))
	}
	permitted := PermittedBy(a.intermediate)
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
	leaf, err := certify(t, a.intermediate, pub, a.key)
	if err != nil {
		return nil, err
	}
	// As clients would: what they would refuse is not signed.
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(a.root)
	between.AddCert(a.intermediate)
	for _, name := range kept {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, DNSName: name}); err != nil {
			return nil, fmt.Errorf("the authority can't sign for %q: %w", name, err)
		}
	}
	return [][]byte{leaf.Raw, a.intermediate.Raw}, nil
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
