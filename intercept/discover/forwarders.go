package discover

import (
	"cmp"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// forwarders are the processes that listen and are known to carry others'
// connections, or listen and reach a database without being one.
func (c *collector) forwarders() []Forwarder {
	by := map[uint32]*Forwarder{}
	var order []uint32
	for i := range c.listeners {
		l := &c.listeners[i]
		if l.PID == 0 {
			continue
		}
		f := by[l.PID]
		if f == nil {
			_, known := forwarders[path.Base(l.Exe)]
			f = &Forwarder{Process: l.Process, PID: l.PID, Known: known}
			by[l.PID] = f
			order = append(order, l.PID)
		}
		f.Listens = append(f.Listens, l.Target())
	}
	out := []Forwarder{}
	for _, pid := range order {
		f := by[pid]
		f.Reaches = c.upstreams(pid, f)
		database := slices.ContainsFunc(f.Reaches, func(u Upstream) bool { return u.Database() })
		if f.Known || database && servers[path.Base(f.Exe)] == "" {
			slices.Sort(f.Listens)
			out = append(out, *f)
		}
	}
	return out
}

// upstreams are what a process was seen to reach, and what a known forwarder
// was told to reach.
func (c *collector) upstreams(pid uint32, f *Forwarder) []Upstream {
	all := map[string]Service{}
	for target, s := range c.reaches[pid] {
		if a, err := netip.ParseAddrPort(target); err == nil {
			s = c.service(f.NetNS, a) // who listens there is known by now
		}
		all[target] = s
	}
	for _, target := range told(path.Base(f.Exe), func() []string { return commandLine(pid) }) {
		if _, seen := all[target]; !seen {
			_, port, _ := net.SplitHostPort(target)
			n, _ := net.LookupPort("tcp", port)
			all[target] = byPort(uint16(n))
		}
	}
	out := []Upstream{}
	for target, s := range all {
		out = append(out, Upstream{Service: s, Target: target})
	}
	slices.SortFunc(out, func(a, b Upstream) int { return cmp.Compare(a.Target, b.Target) })
	return out
}

// told returns the addresses that docker-proxy and ssh -L were given: they may
// have no connection at the moment.
func told(name string, args func() []string) (targets []string) {
	switch name {
	case "docker-proxy":
		var ip, port string
		a := args()
		for i := 0; i+1 < len(a); i++ {
			switch a[i] {
			case "-container-ip":
				ip = a[i+1]
			case "-container-port":
				port = a[i+1]
			}
		}
		if ip != "" && port != "" {
			return []string{net.JoinHostPort(ip, port)}
		}
	case "ssh":
		a := args()
		for i, arg := range a {
			spec, joined := strings.CutPrefix(arg, "-L")
			if !joined {
				continue
			}
			if spec == "" && i+1 < len(a) {
				spec = a[i+1]
			}
			// [bind:]port:host:hostport; what else -L may name is a path.
			parts := strings.Split(spec, ":")
			if n := len(parts); n == 3 || n == 4 {
				targets = append(targets, net.JoinHostPort(parts[n-2], parts[n-1]))
			}
		}
	}
	return targets
}
