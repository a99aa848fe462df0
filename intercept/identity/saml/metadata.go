package saml

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"
	xrv "github.com/mattermost/xml-roundtrip-validator"
)

const (
	maxMetadata = 1 << 20 // bytes
	maxKeys     = 16
)

// described is what a provider's metadata says.
type described struct {
	entity *saml.EntityDescriptor
	login  string // where the redirect binding leads
	certs  []*x509.Certificate
	until  time.Time // zero: for good
}

// Certificate reads one certificate in PEM form.
func Certificate(b []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("must be one certificate in PEM form")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is no certificate: %w", err)
	}
	return c, usable(c)
}

// describe reads metadata (saml-metadata-2.0-os) of the provider p.
func describe(b []byte, p *Provider, now time.Time) (*described, error) {
	if len(b) > maxMetadata || !utf8.Valid(b) {
		return nil, fmt.Errorf("must be UTF-8 of at most %d bytes", maxMetadata)
	}
	if bytes.Contains(b, []byte("<!DOCTYPE")) || bytes.Contains(b, []byte("<!ENTITY")) {
		return nil, errors.New("holds a DTD, which is refused")
	}
	if err := xrv.Validate(bytes.NewReader(b)); err != nil {
		return nil, errors.New("is no XML, or reads differently when it is written again")
	}
	if p.Metadata.Signer != nil {
		var err error
		if b, err = signedMetadata(b, p.Metadata.Signer, now); err != nil {
			return nil, err
		}
	}
	d := &described{entity: &saml.EntityDescriptor{}}
	if err := xml.Unmarshal(b, d.entity); err != nil {
		return nil, errors.New("is not the EntityDescriptor of one provider")
	}
	if d.entity.EntityID != p.EntityID {
		return nil, fmt.Errorf("is of %.256q, not of %s", d.entity.EntityID, p.EntityID)
	}
	if d.until = d.entity.ValidUntil; !d.until.IsZero() && !now.Before(d.until) {
		return nil, fmt.Errorf("was valid until %s: have the provider's new metadata", d.until.UTC().Format(time.RFC3339))
	}
	if len(d.entity.IDPSSODescriptors) != 1 {
		return nil, errors.New("must describe one identity provider (IDPSSODescriptor)")
	}
	return d, d.read(p)
}

// signedMetadata returns what a signature over the whole of it covers.
func signedMetadata(b []byte, signer *x509.Certificate, now time.Time) ([]byte, error) {
	doc := etree.NewDocument()
	doc.ReadSettings = etree.ReadSettings{PreserveDuplicateAttrs: true, MaxDepth: maxDepth}
	if err := doc.ReadFromBytes(b); err != nil || doc.Root() == nil {
		return nil, errors.New("is no XML")
	}
	got, err := verified(doc.Root(), []*x509.Certificate{signer}, now)
	if err != nil {
		return nil, err
	}
	if got == nil {
		return nil, errors.New("is not signed")
	}
	signed := etree.NewDocument()
	signed.SetRoot(got)
	return signed.WriteToBytes()
}

// read takes the provider's end point and keys.
func (d *described) read(p *Provider) error {
	idp := &d.entity.IDPSSODescriptors[0]
	if w := idp.WantAuthnRequestsSigned; w != nil && *w {
		return errors.New("asks for signed requests, which are not supported: have that changed at the provider")
	}
	if !slices.Contains(strings.Fields(idp.ProtocolSupportEnumeration), nsProtocol) {
		return errors.New("is of a provider that does not speak SAML 2.0")
	}
	for _, s := range idp.SingleSignOnServices {
		if s.Binding == saml.HTTPRedirectBinding && d.login == "" {
			d.login = s.Location
		}
	}
	if !safeURL(d.login) {
		return errors.New("names no https URL for logins by the redirect binding (SingleSignOnService)")
	}
	for _, k := range idp.KeyDescriptors {
		if k.Use != "signing" && k.Use != "" {
			continue
		}
		for _, c := range k.KeyInfo.X509Data.X509Certificates {
			if err := d.key(c.Data, p.Metadata.Pins); err != nil {
				return err
			}
		}
	}
	switch {
	case len(d.certs) == 0 && len(p.Metadata.Pins) > 0:
		return errors.New("has none of the certificates that are pinned")
	case len(d.certs) == 0 || len(d.certs) > maxKeys:
		return fmt.Errorf("must have 1 to %d certificates for signing", maxKeys)
	}
	return nil
}

// key adds a certificate, unless pins pass it over.
func (d *described) key(data string, pins [][sha256.Size]byte) error {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data), ""))
	if err != nil {
		return errors.New("has a certificate that is not base64")
	}
	if len(pins) > 0 && !slices.Contains(pins, sha256.Sum256(der)) {
		return nil
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		err = usable(c)
	}
	if err != nil {
		return fmt.Errorf("has a certificate that can't be used: %w", err)
	}
	d.certs = append(d.certs, c)
	return nil
}
