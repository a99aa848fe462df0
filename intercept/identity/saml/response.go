package saml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	"github.com/crewjam/saml"

	"sallyport.dev/sallyport/intercept/identity"
)

// said is what a verified assertion says.
type said struct {
	id        string
	request   string // that it answers
	subject   string
	audience  []string
	claims    map[string]any
	authn     time.Time // when the person authenticated
	end       time.Time // of the session; zero where it does not say
	notBefore time.Time
	notAfter  time.Time // it must be handed over before
}

// outline refuses what may stand nowhere in a response, before anything is
// verified: where signatures and assertions may be is fixed.
func outline(root *etree.Element) (assertion *etree.Element, err error) {
	if !is(root, nsProtocol, "Response") {
		return nil, errors.New("it is no SAML 2.0 Response")
	}
	var look func(el *etree.Element) error
	look = func(el *etree.Element) error {
		for _, c := range el.ChildElements() {
			switch c.Tag {
			case "EncryptedAssertion", "EncryptedID", "EncryptedAttribute", "NewEncryptedID", "EncryptedData":
				return errors.New("it is encrypted, which is not supported: have the provider send it signed and not encrypted (it travels by TLS)")
			case "Response":
				return errors.New("it has a Response within")
			case "Assertion":
				if assertion != nil || el != root || !is(c, nsAssertion, "Assertion") {
					return errors.New("it has more than one Assertion, or one in a place where none belongs")
				}
				assertion = c
			case "Signature":
				if el != root && (el != assertion || assertion == nil) || !is(c, nsSignature, "Signature") {
					return errors.New("it has a Signature in a place where none belongs")
				}
				// Each is of what it stands in, before any is looked for.
				if err := checkSignature(el, c); err != nil {
					return fmt.Errorf("the signature of its %s: %w", el.Tag, err)
				}
			}
			if err := look(c); err != nil {
				return err
			}
		}
		return nil
	}
	if err := look(root); err != nil {
		return nil, err
	}
	if assertion == nil {
		return nil, errors.New("it has no Assertion")
	}
	return assertion, nil
}

// open verifies a response by the provider's keys and returns what it says.
// Only what the last verified element holds is read.
func (p *Provider) open(root *etree.Element, d *described, now time.Time) (*said, error) {
	whole, err := verified(root, d.certs, now)
	if err != nil {
		return nil, err
	}
	signed := whole != nil
	if signed {
		root = whole
	}
	if err := p.envelope(root, signed); err != nil {
		return nil, err
	}
	assertion, err := one(root, nsAssertion, "Assertion")
	if err != nil {
		return nil, err
	}
	part, err := verified(assertion, d.certs, now)
	switch {
	case err != nil:
		return nil, err
	case part != nil:
		assertion = part
	case !signed:
		return nil, errors.New("neither the response nor its assertion is signed")
	}
	s, err := p.read(assertion)
	if err != nil {
		return nil, err
	}
	if to := value(root, "InResponseTo"); to != "" && to != s.request {
		return nil, errors.New("the response and its assertion answer two requests (InResponseTo)")
	}
	return s, nil
}

// envelope checks a Response (saml-core-2.0-os, section 3.2.2). One that is not
// signed itself may leave things out; the assertion has what counts.
func (p *Provider) envelope(r *etree.Element, signed bool) error {
	if value(r, "Version") != "2.0" {
		return errors.New("the response is not of SAML 2.0")
	}
	if to := value(r, "Destination"); to != p.ACS && (signed || to != "") {
		return fmt.Errorf("the response is for %.256q (Destination), not for %s", to, p.ACS)
	}
	if issuer, err := maybe(r, nsAssertion, "Issuer"); err != nil {
		return err
	} else if issuer != nil {
		if name, err := text(issuer); err != nil || name != p.EntityID {
			return fmt.Errorf("the response is of %.256q (Issuer), not of %s", name, p.EntityID)
		}
	}
	status, err := one(r, nsProtocol, "Status")
	if err != nil {
		return err
	}
	code, err := one(status, nsProtocol, "StatusCode")
	if err != nil {
		return err
	}
	if c := value(code, "Value"); c != saml.StatusSuccess {
		return fmt.Errorf("the provider says that the login failed (%.128q): log in again, or ask its administrator", strings.TrimPrefix(c, "urn:oasis:names:tc:SAML:2.0:status:"))
	}
	return nil
}

// read takes a verified assertion apart (saml-core-2.0-os, section 2.3.3;
// saml-profiles-2.0-os, section 4.1.4).
func (p *Provider) read(a *etree.Element) (*said, error) {
	s := &said{id: value(a, "ID"), claims: map[string]any{}}
	if value(a, "Version") != "2.0" || !ncName.MatchString(s.id) {
		return nil, errors.New("the assertion is not of SAML 2.0, or has no usable ID")
	}
	if name, err := textOf(a, nsAssertion, "Issuer"); err != nil {
		return nil, err
	} else if name != p.EntityID {
		return nil, fmt.Errorf("the assertion is of %.256q (Issuer), not of %s", name, p.EntityID)
	}
	for _, read := range []func(*said, *etree.Element) error{p.conditions, p.confirmation, p.authentication, p.attributes, p.name} {
		if err := read(s, a); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// conditions reads Conditions; one that is not understood is refused.
func (p *Provider) conditions(s *said, a *etree.Element) error {
	c, err := one(a, nsAssertion, "Conditions")
	if err != nil {
		return err
	}
	if s.notBefore, err = instant(c, "NotBefore"); err != nil {
		return err
	}
	if s.notAfter, err = instant(c, "NotOnOrAfter"); err != nil {
		return err
	}
	for _, x := range c.ChildElements() {
		if !is(x, nsAssertion, "AudienceRestriction") && !is(x, nsAssertion, "OneTimeUse") && !is(x, nsAssertion, "ProxyRestriction") {
			return fmt.Errorf("the assertion has a condition that is not understood (%.64q)", x.Tag)
		}
	}
	all := children(c, nsAssertion, "AudienceRestriction")
	if len(all) != 1 {
		return errors.New("the assertion does not say for whom it is (one AudienceRestriction)")
	}
	for _, x := range children(all[0], nsAssertion, "Audience") {
		name, err := text(x)
		if err != nil {
			return err
		}
		s.audience = append(s.audience, name)
	}
	if !slices.Contains(s.audience, p.Audience) {
		return fmt.Errorf("the assertion is not for the audience %q: register this entity id at the provider", p.Audience)
	}
	return nil
}

// confirmation reads the one bearer confirmation that there must be.
func (p *Provider) confirmation(s *said, a *etree.Element) error {
	subject, err := one(a, nsAssertion, "Subject")
	if err != nil {
		return err
	}
	var bearer []*etree.Element
	for _, c := range children(subject, nsAssertion, "SubjectConfirmation") {
		if value(c, "Method") == "urn:oasis:names:tc:SAML:2.0:cm:bearer" {
			bearer = append(bearer, c)
		}
	}
	if len(bearer) != 1 {
		return errors.New("the assertion does not have exactly one SubjectConfirmation of a bearer")
	}
	data, err := one(bearer[0], nsAssertion, "SubjectConfirmationData")
	if err != nil {
		return err
	}
	if to := value(data, "Recipient"); to != p.ACS {
		return fmt.Errorf("the assertion is for %.256q (Recipient), not for %s", to, p.ACS)
	}
	if s.request = value(data, "InResponseTo"); s.request == "" {
		return errors.New("the assertion answers no request (InResponseTo): logins begin here, not at the provider")
	}
	from, err := instant(data, "NotBefore")
	if err != nil {
		return err
	}
	end, err := instant(data, "NotOnOrAfter")
	if err != nil {
		return err
	}
	if end.IsZero() {
		return errors.New("the assertion does not say until when it may be presented (SubjectConfirmationData NotOnOrAfter)")
	}
	if from.After(s.notBefore) {
		s.notBefore = from
	}
	if s.notAfter.IsZero() || end.Before(s.notAfter) {
		s.notAfter = end
	}
	return nil
}

// authentication reads the one AuthnStatement that there must be.
func (p *Provider) authentication(s *said, a *etree.Element) error {
	st, err := one(a, nsAssertion, "AuthnStatement")
	if err != nil {
		return err
	}
	if s.authn, err = instant(st, "AuthnInstant"); err != nil {
		return err
	}
	if s.authn.IsZero() {
		return errors.New("the assertion does not say when the person authenticated (AuthnInstant)")
	}
	if s.end, err = instant(st, "SessionNotOnOrAfter"); err != nil {
		return err
	}
	ctx, err := maybe(st, nsAssertion, "AuthnContext")
	if err != nil || ctx == nil {
		return err
	}
	class, err := maybe(ctx, nsAssertion, "AuthnContextClassRef")
	if err != nil || class == nil {
		return err
	}
	name, err := text(class)
	if err == nil {
		s.claims[ClaimContext] = name
	}
	return err
}

// attributes turns attributes into claims: lists of texts.
func (p *Provider) attributes(s *said, a *etree.Element) error {
	values, odd := map[string][]any{}, map[string]bool{}
	for _, st := range children(a, nsAssertion, "AttributeStatement") {
		for _, at := range children(st, nsAssertion, "Attribute") {
			name, err := identity.Name(value(at, "Name"))
			if err != nil {
				return fmt.Errorf("the assertion has an attribute whose Name %w", err)
			}
			if _, twice := values[name]; twice {
				return fmt.Errorf("the assertion has the attribute %.128q twice", name)
			}
			values[name] = []any{}
			for _, v := range children(at, nsAssertion, "AttributeValue") {
				t, err := text(v)
				odd[name] = odd[name] || err != nil
				values[name] = append(values[name], t)
			}
		}
	}
	wanted := p.Attributes
	if wanted == nil {
		wanted = map[string]string{}
		for name := range values {
			if !odd[name] && name != ClaimNameID && name != ClaimContext {
				wanted[name] = name
			}
		}
	}
	for claim, name := range wanted {
		if odd[name] {
			return fmt.Errorf("the assertion's attribute %.128q holds more than text, which is not understood", name)
		}
		if v, has := values[name]; has {
			s.claims[claim] = v
		}
	}
	if p.Subject != "" {
		if v := values[p.Subject]; len(v) == 1 && !odd[p.Subject] {
			s.subject, _ = v[0].(string)
		}
		if s.subject == "" {
			return fmt.Errorf("the assertion does not have exactly one value of the attribute %.128q, which names the person", p.Subject)
		}
	}
	return nil
}

// name reads who it is, unless an attribute has said that.
func (p *Provider) name(s *said, a *etree.Element) error {
	subject, err := one(a, nsAssertion, "Subject")
	if err != nil {
		return err
	}
	id, err := maybe(subject, nsAssertion, "NameID")
	if err != nil {
		return err
	}
	if id != nil {
		name, err := text(id)
		if err != nil {
			return err
		}
		s.claims[ClaimNameID] = name
		if p.Subject == "" {
			if value(id, "Format") == string(saml.TransientNameIDFormat) {
				return errors.New("the assertion's NameID is transient and names nobody next time: have the provider send another, or name an attribute (subject)")
			}
			s.subject = name
		}
	}
	if s.subject, err = identity.Name(s.subject); err != nil {
		return fmt.Errorf("the assertion's person (NameID, or subject's attribute) %w", err)
	}
	if s.subject != strings.TrimSpace(s.subject) {
		return errors.New("the assertion's person begins or ends with a space, which is refused")
	}
	return nil
}

// instant reads a time, zero where there is none (saml-core-2.0-os, section
// 1.3.3: UTC).
func instant(el *etree.Element, name string) (time.Time, error) {
	v := value(el, name)
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil || !strings.HasSuffix(v, "Z") || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%s's %s is no time in UTC", el.Tag, name)
	}
	return t, nil
}
