package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"sallyport.dev/sallyport/intercept"
)

// Address is what agents dial: an IP address, a prefix or a DNS name, each at
// one port or a range of them.
type Address struct {
	// Destination has no prefix where a name stands, only its ports.
	intercept.Destination
	Name string // lower case, without a dot at its end; "" for an address
}

// Endpoint is the address of one ip:port.
func Endpoint(a netip.AddrPort) Address { return Address{Destination: intercept.Endpoint(a)} }

// ParseAddress reads 192.0.2.7:5432, 10.0.0.0/24:5432-5440, [fd00::]/64:5432
// or db.example.com:5432.
func ParseAddress(s string) (a Address, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !isName(s[:i]) {
		a.Destination, err = intercept.ParseDestination(s)
		return a, err
	}
	if a.Name, err = parseName(s[:i]); err == nil {
		a.First, a.Last, err = intercept.ParsePorts(s[i+1:])
	}
	if err != nil {
		return Address{}, fmt.Errorf("destination %q: %w", s, err)
	}
	return a, nil
}

// isName tells names from what is, or is meant to be, an address: that is in
// brackets, has a length, or ends in a number.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	number := strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x")
	return !number && !strings.ContainsAny(host, "[]/:")
}

// parseName returns a DNS name in the form that Address keeps.
func parseName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if len(name) > 253 {
		return "", errors.New("a DNS name has at most 253 characters")
	}
	for l := range strings.SplitSeq(name, ".") {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("the DNS name has a part %q: each is of letters, digits, - and _, at most 63 (write others in their xn-- form)", l)
		}
	}
	return name, nil
}

// String writes a as ParseAddress reads it.
func (a Address) String() string {
	if a.Name == "" {
		return a.Destination.String()
	}
	if a.Last != a.First {
		return fmt.Sprintf("%s:%d-%d", a.Name, a.First, a.Last)
	}
	return fmt.Sprintf("%s:%d", a.Name, a.First)
}

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}

// single returns the first address that is one endpoint, zero if none is.
func (r *Resource) single() netip.AddrPort {
	for _, a := range r.Addresses {
		if e, ok := a.Single(); ok {
			return e
		}
	}
	return netip.AddrPort{}
}

// Names returns the DNS names among all addresses, each once, in the order of
// the file.
func (c *Config) Names() (names []string) {
	seen := map[string]bool{}
	for _, r := range c.Resources {
		for _, a := range r.Addresses {
			if a.Name != "" && !seen[a.Name] {
				seen[a.Name] = true
				names = append(names, a.Name)
			}
		}
	}
	return names
}
