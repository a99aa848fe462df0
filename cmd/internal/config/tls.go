package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// TLS says how a resource's doors are secured.
type TLS struct {
	// Server is VerifyFull or Off; "", the default, is VerifyFull but for
	// connections that do not leave this host, where nothing else below says
	// what a server must prove or is shown.
	Server      string `yaml:"server"`
	CA          string `yaml:"ca"`          // file: who may vouch for the server; "": the system's roots
	Name        string `yaml:"name"`        // in its certificate; default: the resource's one DNS name, else the address
	Certificate string `yaml:"certificate"` // file, of this client
	Key         string `yaml:"key"`         // file, of Certificate

	// Agent is what agents are offered by this host's authority: Offer, the
	// default where there is one, Require or Off.
	Agent string   `yaml:"agent"`
	Names []string `yaml:"names"` // by which agents dial, besides those of the addresses

	// ClientCertificates is what becomes of agents that show one: Refuse, the
	// default, or Ignore.
	ClientCertificates string `yaml:"client_certificates"`
	// Undecoded says when an agent's TLS is with the server itself, where a rule
	// lets it: Never, the default, Fallback or Always.
	Undecoded string `yaml:"undecoded"`
}

// Authority is this host's own: it says to agents that the passage is the
// server that they dialled.
type Authority struct {
	Enabled bool `yaml:"enabled"`
	// Permitted limits its certificate: names, all names below one (".example"),
	// addresses and prefixes. Default: those of the resources when it is made.
	Permitted []string `yaml:"permitted"`
}

// What TLS.Server may be.
const (
	VerifyFull = "verify-full"
	Off        = "off"
)

// What TLS.Agent may be, besides Off.
const (
	Offer   = "offer"
	Require = "require"
)

// What TLS.ClientCertificates may be.
const (
	Refuse = "refuse"
	Ignore = "ignore"
)

// What TLS.Undecoded may be.
const (
	Never    = "never"
	Fallback = "fallback" // for a while after TLS with the passage came to nothing
	Always   = "always"   // whenever the agent asks for TLS
)

// Passes reports whether there is a way for agents whose TLS is with the server
// itself.
func (t *TLS) Passes() bool { return t.Undecoded == Fallback || t.Undecoded == Always }

// files are the names of files in it.
func (t *TLS) files() []*string { return []*string{&t.CA, &t.Certificate, &t.Key} }

// Secured reports whether the server at an address of the resource ("host:port",
// or a path with network unix) must prove who it is. A unix socket's server
// proves it by its path.
func (r *Resource) Secured(network, address string) bool {
	if network == "unix" || r.TLS.Server == Off {
		return false
	}
	if t := r.TLS; t.Server == VerifyFull || t.CA != "" || t.Name != "" || t.Certificate != "" {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	a, aerr := netip.ParseAddr(host)
	return err != nil || aerr != nil || !a.IsLoopback()
}

// ServerName is the name that the server's certificate must have, "" for the
// address that is dialled.
func (r *Resource) ServerName() string {
	if r.TLS.Name != "" {
		return r.TLS.Name
	}
	name := ""
	for _, a := range r.Addresses {
		if name != "" && a.Name != "" && a.Name != name {
			return ""
		}
		if a.Name != "" {
			name = a.Name
		}
	}
	return name
}

// Answers reports whether agents dial the resource by a name, in lower case.
func (r *Resource) Answers(name string) bool {
	return slices.Contains(r.TLS.Names, name) || slices.ContainsFunc(r.Addresses, func(a Address) bool { return a.Name == name })
}

// Served are the names and addresses that agents dial, of all resources whose
// agents may have TLS.
func (c *Config) Served() (names []string, prefixes []netip.Prefix) {
	for _, r := range c.Resources {
		if r.TLS.Agent == Off {
			continue
		}
		names = append(names, r.TLS.Names...)
		for _, a := range r.Addresses {
			if a.Name != "" {
				names = append(names, a.Name)
			} else {
				prefixes = append(prefixes, a.Prefix)
			}
		}
	}
	return names, prefixes
}

// AuthorityLimits are what the authority's certificate permits.
func (c *Config) AuthorityLimits() (names []string, prefixes []netip.Prefix) {
	if len(c.Authority.Permitted) == 0 {
		return c.Served()
	}
	for _, s := range c.Authority.Permitted {
		if p, ok := parsePrefix(s); ok {
			prefixes = append(prefixes, p)
		} else {
			names = append(names, strings.ToLower(s))
		}
	}
	return names, prefixes
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

func (c *checker) authority(a *Authority, rs []Resource) {
	for i, s := range a.Permitted {
		if _, ok := parsePrefix(s); ok {
			continue
		}
		if _, err := parseName(strings.TrimPrefix(s, ".")); err != nil {
			c.bad(fmt.Sprintf("permitted %q: must be a name, .suffix, address or prefix: %v", s, err), "authority", "permitted", i)
		}
	}
	for i, r := range rs {
		if !a.Enabled && (r.TLS.Agent == Offer || r.TLS.Agent == Require) {
			c.bad(fmt.Sprintf("agent %s: there is no authority to sign for it: set authority.enabled", r.TLS.Agent), "resources", i, "tls", "agent")
		}
		c.undecoded(i, a, &r)
	}
}

// undecoded: what the passage can't read it can't log in to.
func (c *checker) undecoded(i int, a *Authority, r *Resource) {
	at := func(msg string) { c.bad(msg, "resources", i, "tls", "undecoded") }
	switch {
	case !r.TLS.Passes():
	case r.Login != LoginPass:
		at(fmt.Sprintf("undecoded %s: the passage logs in here in the agent's place (accounts), which it can't in TLS that is not its own: leave one of them out", r.TLS.Undecoded))
	case r.TLS.Undecoded == Fallback && (!a.Enabled || r.TLS.Agent == Off):
		at(fmt.Sprintf("undecoded %s: agents are offered no TLS here that could come to nothing: set authority.enabled, or undecoded: %s", Fallback, Always))
	}
}

func (c *checker) tls(i int, t *TLS) {
	at := func(msg, key string) { c.bad(msg, "resources", i, "tls", key) }
	if t.Server != "" && t.Server != VerifyFull && t.Server != Off {
		at(fmt.Sprintf("server %q: must be %s or %s", t.Server, VerifyFull, Off), "server")
	}
	if !slices.Contains([]string{"", Offer, Require, Off}, t.Agent) {
		at(fmt.Sprintf("agent %q: must be %s, %s or %s", t.Agent, Offer, Require, Off), "agent")
	}
	if !slices.Contains([]string{"", Refuse, Ignore}, t.ClientCertificates) {
		at(fmt.Sprintf("client_certificates %q: must be %s or %s", t.ClientCertificates, Refuse, Ignore), "client_certificates")
	}
	if !slices.Contains([]string{"", Never, Fallback, Always}, t.Undecoded) {
		at(fmt.Sprintf("undecoded %q: must be %s, %s or %s", t.Undecoded, Never, Fallback, Always), "undecoded")
	}
	for _, n := range t.Names {
		if p, err := parseName(n); err != nil || p != n {
			at(fmt.Sprintf("names: %q: write a DNS name in lower case, without a wildcard or a dot at its end", n), "names")
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		at("certificate and key: a client certificate needs both", "certificate")
	}
	if t.Server == Off && (t.CA != "" || t.Name != "" || t.Certificate != "") {
		at("server is off: ca, name, certificate and key would have no effect", "server")
	}
}
