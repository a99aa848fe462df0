package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/discover"
)

var errObserves = errors.New("NOTHING IS ENFORCED (enforcement: observe): connections are recorded, and relayed whoever they are from")

// enforces is the doctor's word on a host that only observes.
func enforces(cfg *config.Config) error {
	if cfg.Observes() {
		return errObserves
	}
	return nil
}

// forwarders looks for processes through which agents could reach a protected
// service without the passage: they listen at an address that is not protected
// and reach one that is. With a ruling (interception.forwarders) a process is
// known to the operator; what is a forwarder by its name needs more: that what
// it listens at is protected.
func forwarders(cfg *config.Config, inv *discover.Inventory) (string, error) {
	own := newStarter(&discover.Inventory{}).own
	var bad, fine []string
	for i := range inv.Forwarders {
		f := &inv.Forwarders[i]
		if strings.HasPrefix(f.Cgroup+"/", "/sallyport.daemon/") || !carries(cfg, f) {
			continue
		}
		open := unprotected(cfg, f, own)
		name := fmt.Sprintf("%s (process %d, %s)", cmp.Or(path.Base(f.Exe), f.Comm), f.PID, f.Cgroup)
		if len(open) == 0 || ruled(cfg, f) && !f.Known {
			fine = append(fine, name)
			continue
		}
		bad = append(bad, name+" listens at "+strings.Join(open, ", "))
	}
	if bad != nil {
		return "", fmt.Errorf("agents could reach protected services through: %s", strings.Join(bad, "; "))
	}
	if fine == nil {
		return "no local process is known to carry connections to a protected service", nil
	}
	return "carry connections to protected services: " + strings.Join(fine, "; "), nil
}

// carries reports whether a forwarder reaches something protected, turned into
// the passage or not, or is exempt and known to reach anything at all.
func carries(cfg *config.Config, f *discover.Forwarder) bool {
	for _, u := range f.Reaches {
		a, err := netip.ParseAddrPort(u.Target)
		switch {
		case err == nil && (cfg.Protects(a) || a.Addr().IsLoopback() && a.Port() == cfg.Interception.Port):
			return true
		case slices.ContainsFunc(cfg.Resources, func(r config.Resource) bool { return slices.Contains(r.Unix, u.Target) }):
			return true
		case err != nil && protectsName(cfg, u.Target):
			return true
		}
	}
	return f.Known && slices.ContainsFunc(cfg.Interception.ExemptPaths(), func(p string) bool { return below(f.Cgroup, p) })
}

// protectsName reports whether a target is the name of a protected service, as
// ssh -L and others are told it.
func protectsName(cfg *config.Config, target string) bool {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(cfg.Resources, func(r config.Resource) bool {
		return slices.ContainsFunc(r.Addresses, func(a config.Address) bool {
			return a.Name != "" && a.Name == host && a.First <= uint16(n) && uint16(n) <= a.Last
		})
	})
}

func below(cgroup, parent string) bool {
	return strings.HasPrefix(cgroup+"/", strings.TrimSuffix(parent, "/")+"/")
}

// unprotected are the addresses and paths of a forwarder that agents reach
// without the passage.
func unprotected(cfg *config.Config, f *discover.Forwarder, own []netip.Addr) (open []string) {
	for _, l := range f.Listens {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			if !slices.ContainsFunc(cfg.Resources, func(r config.Resource) bool { return slices.Contains(r.Unix, l) }) {
				open = append(open, l)
			}
			continue
		}
		dialled := []netip.AddrPort{a}
		if a.Addr().IsUnspecified() {
			dialled = nil
			for _, o := range own {
				if o.Is4() || a.Addr().Is6() {
					dialled = append(dialled, netip.AddrPortFrom(o, a.Port()))
				}
			}
		}
		if slices.ContainsFunc(dialled, func(a netip.AddrPort) bool { return !cfg.Protects(a) }) {
			open = append(open, l)
		}
	}
	return open
}

func ruled(cfg *config.Config, f *discover.Forwarder) bool {
	return slices.ContainsFunc(cfg.Interception.Forwarders, func(r config.Forwarder) bool {
		return (r.Cgroup == "" || below(f.Cgroup, r.Cgroup)) && (r.Exe == "" || r.Exe == f.Exe)
	})
}
