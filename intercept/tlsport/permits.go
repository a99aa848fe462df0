package tlsport

import (
	"crypto/x509"
	"net/netip"
	"strings"
)

// PermittedBy returns what an authority's certificate limits it to, without the
// stand-ins for nothing.
func PermittedBy(c *x509.Certificate) (p Permitted) {
	for _, n := range c.PermittedDNSDomains {
		if n != noName {
			p.Names = append(p.Names, n)
		}
	}
	for _, r := range c.PermittedIPRanges {
		a, ok := netip.AddrFromSlice(r.IP)
		bits, size := r.Mask.Size()
		if f := netip.PrefixFrom(a, bits); ok && size == a.BitLen() && f != noFour && f != noSix {
			p.Prefixes = append(p.Prefixes, f)
		}
	}
	return p
}

// Missing returns what of want is not permitted: names, and prefixes as
// netip.Prefix writes them.
func (p Permitted) Missing(want Permitted) (missing []string) {
	for _, n := range want.Names {
		if !p.name(n) {
			missing = append(missing, n)
		}
	}
	for _, f := range want.Prefixes {
		if !p.prefix(f) {
			missing = append(missing, f.String())
		}
	}
	return missing
}

// name compares as verifiers do (RFC 5280, 4.2.1.10): a name permits those below
// it too, one with a dot before it only those.
func (p Permitted) name(n string) bool {
	n = strings.ToLower(n)
	for _, c := range p.Names {
		c = strings.ToLower(c)
		if n == c || strings.HasSuffix(n, "."+strings.TrimPrefix(c, ".")) {
			return true
		}
	}
	return false
}

func (p Permitted) prefix(f netip.Prefix) bool {
	for _, c := range p.Prefixes {
		if c.Bits() <= f.Bits() && c.Contains(f.Addr()) {
			return true
		}
	}
	return false
}
