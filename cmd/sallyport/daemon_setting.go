package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"reflect"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/saml"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval/desk"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/policy/rules"
)

// setting is what a reload replaces as a whole. Immutable, but for what DNS
// names lead to.
type setting struct {
	cfg       *config.Config
	engine    policy.Engine
	glass     []policy.BreakGlass
	policySum string // of the policy's text: which one was in force
	resources *routes
	verifier  identity.Verifier
	approvers *desk.LogIns
	recorders *desk.Recorders
	people    *saml.Verifier
	logins    *saml.Logins // one for all settings of a daemon
	saml      map[string][]byte
	binder    intercept.Binder
	speaker   *identity.Binder   // the same: proves what clients send in band
	passwords map[string]string  // by password_file, or secret_file
	secrets   map[string][]byte  // of accounts, until they are in force
	keys      *mask.Keys         // of keyed masks; nil: the policy has none
	subjects  *events.SubjectKey // that subjects are named by; nil: the policy has none

	vaultRoots *x509.CertPool       // nil: the system's
	upstreams  map[string]*upstream // by resource
}

// prepare makes a setting of a bundle, with who proves processes under its
// configuration; nil: nobody, it is only checked. Of old, nil at the start, it
// keeps the issuers' keys where the issuers are the same.
func prepare(b *bundle, proving func(*config.Config) (intercept.Prover, identity.Attester, error), old *setting) (*setting, error) {
	cfg, err := config.Parse(b.Config, b.Path)
	if err != nil {
		return nil, configError(err)
	}
	s := &setting{cfg: cfg, passwords: map[string]string{}, secrets: b.Secrets}
	pol, err := rules.Parse(b.Policy...)
	if err != nil {
		return nil, configError(err)
	}
	s.engine, s.glass = pol, pol.BreakGlass()
	if s.keys, err = maskingKeys(cfg, b.MaskingKey, pol); err != nil {
		return nil, configError(err)
	}
	if s.subjects, err = subjectKey(cfg, b.SubjectKey, pol); err != nil {
		return nil, configError(err)
	}
	s.policySum = sumOf(b.Policy)
	if s.resources, err = newRoutes(cfg); err != nil {
		return nil, configError(err)
	}
	var was map[string]*upstream
	if old != nil {
		was = old.upstreams
	}
	if s.upstreams, err = newUpstreams(cfg, b.TLS, was); err != nil {
		return nil, configError(err)
	}
	if s.vaultRoots, err = checkSecrets(cfg, b.Secrets); err != nil {
		return nil, configError(err)
	}
	for file, secret := range b.Passwords {
		s.passwords[file] = trimNewline(secret)
	}
	if old != nil && sameIssuers(old, s) {
		s.verifier = old.verifier
	} else if s.verifier, err = verifier(cfg, s.passwords); err != nil {
		return nil, configError(fmt.Errorf("%s: %w", cfg.At("identity", "issuers"), err))
	}
	if s.approvers, err = approvers(&cfg.Approvals); err != nil {
		return nil, configError(fmt.Errorf("%s: %w", cfg.At("approvals", "issuers"), err))
	}
	if err := s.believePeople(b.SAML, old); err != nil {
		return nil, configError(err)
	}
	if err := s.believeApprovers(b.SAML, old); err != nil {
		return nil, configError(err)
	}
	var p intercept.Prover
	var a identity.Attester
	if proving != nil {
		if p, a, err = proving(cfg); err != nil {
			return nil, err
		}
	}
	binder, err := identity.NewBinder(p, s.verifier, known(cfg), time.Now)
	if err != nil {
		return nil, configError(fmt.Errorf("%s: %w", cfg.At("identity", "workloads"), err))
	}
	binder.Attester, binder.Lives = a, privsep.Lives
	binder.BelieveLogins(s.people)
	s.binder, s.speaker = binder, binder
	return s, nil
}

// maskingKeys reads the key of keyed masks, which file holds. A policy that needs
// one is refused without it.
func maskingKeys(cfg *config.Config, file []byte, pol *rules.Policy) (*mask.Keys, error) {
	if cfg.MaskingKey() == nil {
		if err := pol.NeedsKey(); err != nil {
			return nil, err
		}
		return nil, nil
	}
	keys, err := mask.ParseKeys(bytes.Clone(file)) // the bundle goes on to the daemon
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.At("masking", "key_file"), err)
	}
	return keys, nil
}

// known are a configuration's workloads for a binder.
func known(cfg *config.Config) (ws []identity.Workload) {
	for _, w := range cfg.Identity.Workloads {
		ws = append(ws, identity.Workload{Name: w.Name, Issuer: w.Issuer, Subjects: w.Subjects, SPIFFE: w.SPIFFE, SpeaksFor: w.SpeaksFor, InBand: w.InBand != ""})
	}
	return ws
}

// sameIssuers reports that a setting's issuers are those of another, and the
// secrets for them too.
func sameIssuers(a, b *setting) bool {
	for _, i := range b.cfg.Identity.Issuers {
		if x := i.Exchange; x != nil && a.passwords[x.SecretFile] != b.passwords[x.SecretFile] {
			return false
		}
	}
	return reflect.DeepEqual(a.cfg.Identity.Issuers, b.cfg.Identity.Issuers)
}

// verifier verifies tokens of the configured issuers; secrets are by file.
func verifier(cfg *config.Config, secrets map[string]string) (identity.Verifier, error) {
	var is []oidc.Issuer
	for _, i := range cfg.Identity.Issuers {
		o := oidc.Issuer{
			URL: i.URL, Audience: i.Audience, Algorithms: i.Algorithms, Skew: i.Skew,
			Parties: i.Parties, MaxAge: i.MaxAge, Grace: i.OfflineGrace, OneTime: i.OneTime,
		}
		if x := i.Exchange; x != nil {
			o.Exchange = &oidc.Exchange{Client: x.Client, Secret: secrets[x.SecretFile], Audience: x.Audience, Scope: x.Scope}
		}
		is = append(is, o)
	}
	return oidc.New(is, time.Now)
}

// sumOf names a policy by its text: the beginning of a SHA-256.
func sumOf(files []rules.File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d ", len(f.Data))
		h.Write(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func trimNewline(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return string(b)
}
