package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/policy/approval/desk"
)

// readSAML reads the files of identity.saml and approvals.saml, by the names that the
// configuration has for them.
func readSAML(cfg *config.Config) (map[string][]byte, error) {
	files := map[string][]byte{}
	var errs []error
	read := func(s *config.SAML, at ...any) {
		for key, file := range map[string]string{"metadata": s.Metadata, "metadata_signer": s.Signer} {
			if file == "" || key == "metadata" && s.Remote() {
				continue
			}
			b, err := readFile(file, maxSecret)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", cfg.At(append(at, key)...), err))
			}
			files[file] = b
		}
	}
	for i := range cfg.Identity.SAML {
		read(&cfg.Identity.SAML[i], "identity", "saml", i)
	}
	for i := range cfg.Approvals.SAML {
		read(cfg.Approvals.SAML[i].Provider(), "approvals", "saml", i)
	}
	return files, errors.Join(errs...)
}

// believePeople makes the verifier of logins by SAML, or keeps that of old. What
// was asked and believed outlives both.
func (s *setting) believePeople(files map[string][]byte, old *setting) (err error) {
	s.saml, s.logins = files, saml.NewLogins(time.Now)
	if old != nil {
		s.logins = old.logins
		if reflect.DeepEqual(old.cfg.Identity.SAML, s.cfg.Identity.SAML) && reflect.DeepEqual(old.saml, files) {
			s.people = old.people
			return nil
		}
	}
	var ps []saml.Provider
	for i := range s.cfg.Identity.SAML {
		p, err := provider(&s.cfg.Identity.SAML[i], files)
		if err == nil {
			// Each alone first, so that an error has a line.
			_, err = saml.New([]saml.Provider{p}, s.logins, time.Now)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.cfg.At("identity", "saml", i), err)
		}
		ps = append(ps, p)
	}
	s.people, err = saml.New(ps, s.logins, time.Now)
	return err
}

// believeApprovers makes the verifier of assertions that recorders bring, or keeps that
// of old.
func (s *setting) believeApprovers(files map[string][]byte, old *setting) error {
	a := &s.cfg.Approvals
	s.recorders = &desk.Recorders{Keys: a.Keys(), Person: a.PersonBySAML}
	if old != nil && reflect.DeepEqual(old.cfg.Approvals.SAML, a.SAML) && reflect.DeepEqual(old.saml, files) {
		s.recorders.People = old.recorders.People
		return nil
	}
	l := saml.NewLogins(time.Now) // which none of it is kept in
	var ps []saml.Provider
	for i := range a.SAML {
		p, err := provider(a.SAML[i].Provider(), files)
		if err == nil {
			_, err = saml.New([]saml.Provider{p}, l, time.Now)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.cfg.At("approvals", "saml", i), err)
		}
		ps = append(ps, p)
	}
	var err error
	s.recorders.People, err = saml.New(ps, l, time.Now)
	return err
}

func provider(c *config.SAML, files map[string][]byte) (p saml.Provider, err error) {
	p = saml.Provider{
		Name: c.Name, EntityID: c.EntityID, Audience: c.Audience, ACS: c.ACS, Subject: c.Subject, Attributes: c.Attributes,
		Skew: c.Skew, Life: c.MaxAge, Metadata: saml.Metadata{Grace: c.OfflineGrace},
	}
	if c.Remote() {
		p.Metadata.URL = c.Metadata
	} else {
		p.Metadata.Text = append([]byte{}, files[c.Metadata]...)
	}
	if c.Signer != "" {
		if p.Metadata.Signer, err = saml.Certificate(files[c.Signer]); err != nil {
			return p, fmt.Errorf("%s: %w", c.Signer, err)
		}
	}
	for _, text := range c.Pins {
		pin, err := config.Pin(text)
		if err != nil {
			return p, err
		}
		p.Metadata.Pins = append(p.Metadata.Pins, pin)
	}
	return p, nil
}

// elsewhere is who verifies logins where sallyport does not run: nobody.
type elsewhere struct{}

// Verify implements identity.Verifier.
func (elsewhere) Verify(context.Context, string, string) (*identity.Token, error) {
	return nil, errors.New("a login by SAML is known to the running sallyport alone: ask with sallyport whoami, inside")
}

// Spend implements identity.Verifier.
func (elsewhere) Spend(*identity.Token) error { return nil }
