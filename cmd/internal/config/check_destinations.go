package config

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/intercept"
)

// addresses checks those of the resources as the file spells them: the decoder
// does not tell the line of an address that it can't read.
func (c *checker) addresses() {
	if c.doc.Kind != yaml.DocumentNode {
		return
	}
	rs := child(c.doc.Content[0], "resources")
	for i := 0; rs != nil && child(rs, i) != nil; i++ {
		list := child(child(rs, i), "addresses")
		for k := 0; list != nil && child(list, k) != nil; k++ {
			a := child(list, k)
			if a.Kind != yaml.ScalarNode {
				continue
			}
			if _, err := ParseAddress(a.Value); err != nil {
				c.bad(fmt.Sprintf("address %q: must be like 192.0.2.7:5432, 10.0.0.0/24:5432-5440, [2001:db8::7]:5432 or db.example.com:5432: %v", a.Value, err), "resources", i, "addresses", k)
			}
		}
		cat := child(rs, i)
		if cat = child(cat, "catalog"); cat == nil {
			continue
		}
		if a := child(cat, "address"); a != nil && a.Kind == yaml.ScalarNode && a.Value != "" {
			if _, err := netip.ParseAddrPort(a.Value); err != nil {
				c.bad(fmt.Sprintf("address %q: must be an ip:port like 192.0.2.7:5432: what a name leads to is not given the password", a.Value), "resources", i, "catalog", "address")
			}
		}
	}
}

// place is where an address stands in the file.
type place struct{ resource, address int }

func (p place) keys() []any { return []any{"resources", p.resource, "addresses", p.address} }

// destinations checks that an endpoint belongs to one resource, and to one
// address of it, unless one is more specific.
func (c *checker) destinations(rs []Resource, passage uint16) {
	var all []intercept.Destination
	var places []place
	names := map[string]uint64{}
	for i, r := range rs {
		if len(r.Addresses) == 0 && len(r.Unix) == 0 {
			c.bad("no addresses: list what agents dial, like 192.0.2.7:5432", "resources", i, "addresses")
		}
		for k, a := range r.Addresses {
			d, p := a.Destination, place{i, k}
			if a.Name != "" {
				// A name is as good as an address that nobody else has.
				if names[a.Name] == 0 {
					names[a.Name] = uint64(len(names) + 1)
				}
				var b [16]byte // in 100::/64, which leads nowhere
				b[0] = 1
				binary.BigEndian.PutUint64(b[8:], names[a.Name])
				d.Prefix = netip.PrefixFrom(netip.AddrFrom16(b), 128)
			} else if err := d.Check(); err != nil {
				c.bad(fmt.Sprintf("address: %v", err), p.keys()...)
				continue
			} else if holdsPassage(d, passage) {
				c.bad(fmt.Sprintf("address %q: is the passage itself, or holds it: choose another interception.port", a), p.keys()...)
			}
			all, places = append(all, d), append(places, p)
		}
	}
	for _, o := range intercept.Overlaps(all) {
		one, two := places[o[0]], places[o[1]]
		c.bad(fmt.Sprintf("address %q: overlaps %q of resource %s (%s): an endpoint belongs to one resource, and only a longer prefix is more specific",
			rs[two.resource].Addresses[two.address], rs[one.resource].Addresses[one.address], rs[one.resource].Name, c.at(one.keys()...)), two.keys()...)
	}
}

var loopbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// holdsPassage reports whether the passage's port on loopback is one of d's.
func holdsPassage(d intercept.Destination, port uint16) bool {
	for _, l := range loopbacks {
		if d.Prefix.Overlaps(l) && d.First <= port && port <= d.Last {
			return true
		}
	}
	return false
}

// catalogAddress checks where a catalog is read.
func (c *checker) catalogAddress(i int, cat *Catalog) {
	a := cat.Address
	ip := a.Addr().Unmap()
	switch {
	case a == netip.AddrPort{}:
		c.bad("address: name the ip:port of the server whose catalog is read: none of the resource's addresses is a single one", "resources", i, "catalog")
	case a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "":
		c.bad(fmt.Sprintf("address %q: must be a concrete ip:port", a), "resources", i, "catalog", "address")
	}
}

// maxUnix is what sockaddr_un holds, without the byte that ends it.
const maxUnix = 107

// sockets checks the paths of unix sockets.
func (c *checker) sockets(rs []Resource) {
	seen := map[string]place{}
	for i, r := range rs {
		for k, p := range r.Unix {
			at := []any{"resources", i, "unix", k}
			switch first, twice := seen[p]; {
			case !abstract(p) && (!path.IsAbs(p) || path.Clean(p) != p || len(p) > maxUnix || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f })):
				c.bad(fmt.Sprintf("unix %q: must be an absolute path of at most %d bytes, without .., . or a second slash; or @ and an abstract name", p, maxUnix), at...)
			case twice:
				c.bad(fmt.Sprintf("unix %q: stands at %s already", p, c.at("resources", first.resource, "unix", first.address)), at...)
			default:
				seen[p] = place{i, k}
			}
		}
	}
}

// abstract: a name that no file has, written with @ before it.
func abstract(name string) bool {
	return len(name) > 1 && len(name) <= maxUnix && name[0] == '@' && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// allowed checks the list of unix sockets that may be connected to.
func (c *checker) allowed(in *Interception) {
	for k, name := range in.Unix {
		p := strings.TrimSuffix(name, "/**")
		if !abstract(name) && (!path.IsAbs(p) || path.Clean(p) != p || p == "/" || len(name) > maxUnix) {
			c.bad(fmt.Sprintf("unix socket %q: must be a clean absolute path, one that ends in /** for all below, or @ and an abstract name", name), "interception", "unix_allow", k)
		}
	}
}
