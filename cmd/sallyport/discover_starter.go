package main

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/discover"
)

// starter is what an inventory makes of a configuration.
type starter struct {
	inv       *discover.Inventory
	resources []*starterResource
	workloads []*starterWorkload
	own       []netip.Addr // addresses of this host, loopback among them
}

type starterResource struct {
	name, protocol string
	addresses      []netip.AddrPort
	paths          []string
}

type starterWorkload struct {
	name, cgroup, exe string
	uid               uint32
	resources         []string
	connections       uint64
	container         bool
}

func newStarter(inv *discover.Inventory) *starter {
	s := &starter{inv: inv, own: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}}
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			s.own = append(s.own, p.Addr().Unmap())
		}
	}
	for i := range inv.Listeners {
		l := &inv.Listeners[i]
		if s.serves(l.Service) && l.Basis == discover.ByServer && !s.forwards(l.PID) {
			s.resource(l.Protocol, l.Target(), l.Path)
		}
	}
	for i := range inv.Contacts {
		c := &inv.Contacts[i]
		if s.serves(c.Service) && !s.listenedByForwarder(c.Target()) {
			if r := s.resource(c.Protocol, c.Target(), c.Path); r != nil {
				s.workload(c, r)
			}
		}
	}
	s.behindForwarders()
	for i := range inv.Contacts {
		c := &inv.Contacts[i]
		if r := s.resourceOf(c.Target()); r != nil && s.listenedByForwarder(c.Target()) {
			s.workload(c, r)
		}
	}
	return s
}

// serves reports whether this sallyport speaks the protocol.
func (s *starter) serves(v discover.Service) bool {
	return v.Database() && slices.Contains(config.Protocols, v.Protocol)
}

func (s *starter) forwards(pid uint32) bool {
	return slices.ContainsFunc(s.inv.Forwarders, func(f discover.Forwarder) bool { return f.PID == pid })
}

func (s *starter) listenedByForwarder(target string) bool {
	return slices.ContainsFunc(s.inv.Forwarders, func(f discover.Forwarder) bool {
		return f.Known && slices.ContainsFunc(s.expand(f.Listens), func(a netip.AddrPort) bool { return a.String() == target })
	})
}

// expand puts what can be dialled in the place of what is listened at.
func (s *starter) expand(targets []string) (all []netip.AddrPort) {
	for _, t := range targets {
		a, err := netip.ParseAddrPort(t)
		if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
			continue
		}
		if !a.Addr().IsUnspecified() {
			all = append(all, a)
			continue
		}
		for _, own := range s.own {
			if own.Is4() || a.Addr().Is6() {
				all = append(all, netip.AddrPortFrom(own, a.Port()))
			}
		}
	}
	return all
}

// resource notes that a target is protected, and returns what it belongs to:
// one resource for all of this host's own addresses, one for each other address.
// nil where a configuration can't name the target.
func (s *starter) resource(protocol, target, unix string) *starterResource {
	all := s.expand([]string{target})
	if len(all) == 0 && !nameable(unix) {
		return nil
	}
	name := "local-" + protocol
	if len(all) == 1 && !slices.Contains(s.own, all[0].Addr()) && !all[0].Addr().IsLoopback() {
		name = protocol + "-" + strings.Trim(strings.NewReplacer(".", "-", ":", "-").Replace(all[0].Addr().String()), "-")
	}
	i := slices.IndexFunc(s.resources, func(r *starterResource) bool { return r.name == name })
	if i < 0 {
		s.resources = append(s.resources, &starterResource{name: name, protocol: protocol})
		i = len(s.resources) - 1
	}
	r := s.resources[i]
	for _, a := range all {
		if s.resourceOf(a.String()) == nil {
			r.addresses = append(r.addresses, a)
		}
	}
	if nameable(unix) && !slices.Contains(r.paths, unix) {
		r.paths = append(r.paths, unix)
	}
	return r
}

// nameable reports whether a configuration can have a unix socket's name: who
// bound it chose the name.
func nameable(unix string) bool {
	name, abstract := strings.CutPrefix(unix, "@")
	return name != "" && len(unix) <= 107 && utf8.ValidString(unix) && !strings.ContainsFunc(unix, unicode.IsControl) &&
		(abstract || path.IsAbs(unix) && path.Clean(unix) == unix)
}

func (s *starter) resourceOf(target string) *starterResource {
	for _, r := range s.resources {
		if slices.Contains(r.paths, target) || slices.ContainsFunc(r.addresses, func(a netip.AddrPort) bool { return a.String() == target }) {
			return r
		}
	}
	return nil
}

// behindForwarders gives what known forwarders listen at to the resource that
// they reach. One that reaches several, or none, is left to the reader.
func (s *starter) behindForwarders() {
	for i := range s.inv.Forwarders {
		if f := &s.inv.Forwarders[i]; f.Known {
			if r := s.behind(f); r != nil {
				for _, a := range s.expand(f.Listens) {
					if s.resourceOf(a.String()) == nil {
						r.addresses = append(r.addresses, a)
					}
				}
			}
		}
	}
}

func (s *starter) behind(f *discover.Forwarder) (r *starterResource) {
	for _, u := range f.Reaches {
		found := s.resourceOf(u.Target)
		if found == nil && s.serves(u.Service) {
			found = s.resource(u.Protocol, u.Target, u.Target)
		}
		switch {
		case found == nil:
		case r != nil && r != found:
			return nil
		default:
			r = found
		}
	}
	return r
}

// workload notes who reaches a resource. What ends with a login or a container
// is not what a workload can be known by.
func (s *starter) workload(c *discover.Contact, r *starterResource) {
	if c.Exe == "" || strings.HasSuffix(c.Exe, "/sallyport") {
		return
	}
	cgroup, exe := c.Cgroup, c.Exe
	switch {
	case c.Container != "":
		exe = "" // a path of the container's, not of the host's
	case strings.HasSuffix(c.Unit, ".scope") || cgroup == "/":
		cgroup = ""
	}
	i := slices.IndexFunc(s.workloads, func(w *starterWorkload) bool { return w.cgroup == cgroup && w.exe == exe && w.uid == c.UID })
	if i < 0 {
		base := path.Base(c.Exe)
		if unit, ok := strings.CutSuffix(c.Unit, ".service"); ok {
			base = unit
		}
		s.workloads = append(s.workloads, &starterWorkload{name: s.unused(base), cgroup: cgroup, exe: exe, uid: c.UID, container: c.Container != ""})
		i = len(s.workloads) - 1
	}
	w := s.workloads[i]
	w.connections += c.Connections
	if !slices.Contains(w.resources, r.name) {
		w.resources = append(w.resources, r.name)
	}
}

// unused makes a name of letters, digits and - that no workload has.
func (s *starter) unused(base string) string {
	base = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, base), "-.")
	base = cmp.Or(base, "workload")
	name := base
	for n := 2; slices.ContainsFunc(s.workloads, func(w *starterWorkload) bool { return w.name == name }); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// comment makes text safe for one line behind #.
func comment(s string) string { return render.Line(s) }
