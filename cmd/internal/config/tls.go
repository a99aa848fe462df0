package config

import (
	"fmt"
	"net"
	"net/netip"
)

// TLS says how a resource's doors are secured.
type TLS struct {
	// Server is VerifyFull or Off; "", the default, is VerifyFull but for
	// connections that do not leave this host.
	Server      string `yaml:"server"`
	CA          string `yaml:"ca"`          // file: who may vouch for the server; "": the system's roots
	Name        string `yaml:"name"`        // in its certificate; default: the resource's one DNS name, else the address
	Certificate string `yaml:"certificate"` // file, of this client
	Key         string `yaml:"key"`         // file, of Certificate
}

// What TLS.Server may be.
const (
	VerifyFull = "verify-full"
	Off        = "off"
)

// files are the names of files in it.
func (t *TLS) files() []*string { return []*string{&t.CA, &t.Certificate, &t.Key} }

// Secured reports whether the server at an address of the resource ("host:port",
// or a path with network unix) must prove who it is. A unix socket's server
// proves it by its path.
func (r *Resource) Secured(network, address string) bool {
	if network == "unix" || r.TLS.Server == Off {
		return false
	}
	if r.TLS.Server == VerifyFull {
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

func (c *checker) tls(i int, t *TLS) {
	at := func(msg, key string) { c.bad(msg, "resources", i, "tls", key) }
	if t.Server != "" && t.Server != VerifyFull && t.Server != Off {
		at(fmt.Sprintf("server %q: must be %s or %s", t.Server, VerifyFull, Off), "server")
	}
	if (t.Certificate == "") != (t.Key == "") {
		at("certificate and key: a client certificate needs both", "certificate")
	}
	if t.Server == Off && (t.CA != "" || t.Name != "" || t.Certificate != "") {
		at("server is off: ca, name, certificate and key would have no effect", "server")
	}
}
