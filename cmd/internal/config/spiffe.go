package config

import (
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// SPIFFE says where the host's SPIFFE agent is. Sockets are unix:///PATH.
type SPIFFE struct {
	Agent        string        `yaml:"agent"`         // of the Workload API
	Admin        string        `yaml:"admin"`         // of SPIRE's Delegated Identity API
	Broker       string        `yaml:"broker"`        // of the SPIFFE Broker API; asked first
	TrustDomains []string      `yaml:"trust_domains"` // of workloads; default: sallyport's own alone
	Offline      time.Duration `yaml:"offline"`       // that an identity outlives the agent's last word; 0: until the SVID expires
}

func (c *checker) spiffe(id *Identity) {
	s := id.SPIFFE
	for i, w := range id.Workloads {
		if w.SPIFFE == "" {
			continue
		}
		at := func(msg string) { c.bad(msg, "identity", "workloads", i, "spiffe") }
		if _, err := spiffeid.FromString(w.SPIFFE); err != nil {
			at(fmt.Sprintf("spiffe %q: write spiffe://TRUST.DOMAIN/PATH: %v", w.SPIFFE, err))
		}
		if s == nil {
			at("spiffe: there is no agent to ask: give identity.spiffe")
		}
	}
	if s == nil {
		return
	}
	at := func(msg, key string) { c.bad(msg, "identity", "spiffe", key) }
	for _, k := range [][2]string{{"agent", s.Agent}, {"admin", s.Admin}, {"broker", s.Broker}} {
		if k[1] != "" && !isUnixURL(k[1]) || k[0] == "agent" && k[1] == "" {
			at(fmt.Sprintf("%s %q: give the agent's socket as unix:///PATH", k[0], k[1]), k[0])
		}
	}
	if s.Admin == "" && s.Broker == "" {
		at("admin: required, or broker: by one of them the agent tells whose a process is", "admin")
	}
	for _, d := range s.TrustDomains {
		if td, err := spiffeid.TrustDomainFromString(d); err != nil || td.Name() != d {
			at(fmt.Sprintf("trust_domains: %q: write the domain's name alone, example.org", d), "trust_domains")
		}
	}
	if s.Offline < 0 {
		at(fmt.Sprintf("offline %s: must not be below zero", s.Offline), "offline")
	}
}

func isUnixURL(s string) bool {
	const scheme = "unix:///"
	return len(s) > len(scheme) && s[:len(scheme)] == scheme
}
