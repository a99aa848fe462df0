package saml

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// What a signature may be made with: no SHA-1, no shared secret, and one way to
// write down what is signed.
var (
	signatureMethods = []string{dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod}
	digestMethods    = []string{
		"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512",
	}
)

const (
	exclusive = string(dsig.CanonicalXML10ExclusiveAlgorithmId)
	enveloped = string(dsig.EnvelopedSignatureAltorithmId)
)

var ncName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,255}$`)

// verified returns what the signature of el covers, read from the bytes that
// were signed; what else stands in the document is no part of it. nil without
// an error: el has no signature.
func verified(el *etree.Element, certs []*x509.Certificate, now time.Time) (*etree.Element, error) {
	sig, err := maybe(el, nsSignature, "Signature")
	if sig == nil || err != nil {
		return nil, err
	}
	if err := checkSignature(el, sig); err != nil {
		return nil, fmt.Errorf("the signature of its %s: %w", el.Tag, err)
	}
	// Namespaces that are declared above belong to what is signed.
	ns, err := etreeutils.NSBuildParentContext(el)
	if err != nil {
		return nil, err
	}
	if ns, err = ns.SubContext(el); err != nil {
		return nil, err
	}
	alone, err := etreeutils.NSDetatch(ns, el)
	if err != nil {
		return nil, err
	}
	// What a signature says of its key is not looked at.
	for _, s := range children(alone, nsSignature, "Signature") {
		for _, k := range children(s, nsSignature, "KeyInfo") {
			s.RemoveChild(k)
		}
	}
	for _, c := range certs {
		ctx := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{c}})
		ctx.Clock = dsig.NewFakeClockAt(now)
		got, err := ctx.Validate(alone)
		if err != nil {
			continue
		}
		if got.Tag != el.Tag || got.NamespaceURI() != el.NamespaceURI() || value(got, "ID") != value(el, "ID") {
			return nil, fmt.Errorf("the signature of its %s covers something else", el.Tag)
		}
		return got, nil
	}
	return nil, fmt.Errorf("the signature of its %s does not hold by a key of the provider that is valid now", el.Tag)
}

// checkSignature holds a signature against the one shape that there is here
// (saml-core-2.0-os, section 5.4; xmldsig-core, section 4).
func checkSignature(el, sig *etree.Element) error {
	id := value(el, "ID")
	if !ncName.MatchString(id) {
		return errors.New("what it is of has no usable ID")
	}
	parts := sig.ChildElements()
	if len(parts) < 2 || len(parts) > 3 || !is(parts[0], nsSignature, "SignedInfo") || !is(parts[1], nsSignature, "SignatureValue") ||
		len(parts) == 3 && !is(parts[2], nsSignature, "KeyInfo") {
		return errors.New("it is not made of SignedInfo, SignatureValue and KeyInfo")
	}
	info := parts[0].ChildElements()
	if len(info) != 3 || !is(info[0], nsSignature, "CanonicalizationMethod") || !is(info[1], nsSignature, "SignatureMethod") || !is(info[2], nsSignature, "Reference") {
		return errors.New("SignedInfo does not have exactly one reference")
	}
	if value(info[0], "Algorithm") != exclusive || len(info[0].ChildElements()) > 0 {
		return errors.New("CanonicalizationMethod is not exclusive canonicalization (exc-c14n)")
	}
	if m := value(info[1], "Algorithm"); !slices.Contains(signatureMethods, m) || len(info[1].ChildElements()) > 0 {
		return fmt.Errorf("SignatureMethod %.64q: must be RSA with SHA-256, SHA-384 or SHA-512", m)
	}
	if value(info[2], "URI") != "#"+id {
		return errors.New("its reference is to something else than what it stands in")
	}
	ref := info[2].ChildElements()
	if len(ref) != 3 || !is(ref[0], nsSignature, "Transforms") || !is(ref[1], nsSignature, "DigestMethod") || !is(ref[2], nsSignature, "DigestValue") {
		return errors.New("its reference is not made of Transforms, DigestMethod and DigestValue")
	}
	t := ref[0].ChildElements()
	if len(t) != 2 || value(t[0], "Algorithm") != enveloped || len(t[0].ChildElements()) > 0 || value(t[1], "Algorithm") != exclusive {
		return errors.New("its transforms are not enveloped-signature and exc-c14n")
	}
	if m := value(ref[1], "Algorithm"); !slices.Contains(digestMethods, m) {
		return fmt.Errorf("DigestMethod %.64q: must be SHA-256, SHA-384 or SHA-512", m)
	}
	return nil
}

// usable returns why a certificate's key can't be a provider's, nil where it can.
func usable(c *x509.Certificate) error {
	k, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || k.N.BitLen() < 2048 || k.N.BitLen() > 8192 {
		return errors.New("its key must be RSA, of 2048 to 8192 bits")
	}
	return nil
}
