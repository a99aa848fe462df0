package discover

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// forwarders are the processes that listen and are known to carry others'
// connections, or listen and reach a database without being one. Workers that
// share their parent's sockets are one.
func (c *collector) forwarders() []Forwarder {
	by := map[uint32]*Forwarder{}
	for i := range c.listeners {
		l := &c.listeners[i]
		for _, pid := range l.holders {
			f := by[pid]
			if f == nil {
				who, alive := l.Process, true
				if pid != l.PID {
					if who, alive = look(pid); !alive {
						continue
					}
				}
				_, known := forwarders[path.Base(who.Exe)]
				f = &Forwarder{Process: who, PID: pid, Known: known}
				by[pid] = f
			}
			f.Listens = append(f.Listens, l.Target())
		}
	}
	var all []*Forwarder
	like := map[string]*Forwarder{} // workers by what they are
	for _, pid := range slices.Sorted(maps.Keys(by)) {
		f := by[pid]
		f.Reaches = c.upstreams(pid, f)
		slices.Sort(f.Listens)
		key := strings.Join(append([]string{f.Exe, f.Cgroup}, f.Listens...), "\x00")
		have := like[key]
		if have == nil {
			like[key] = f
			all = append(all, f)
			continue
		}
		for _, u := range f.Reaches {
			if !slices.Contains(have.Reaches, u) {
				have.Reaches = append(have.Reaches, u)
			}
		}
		slices.SortFunc(have.Reaches, byTarget)
	}
	out := []Forwarder{}
	for _, f := range all {
		database := slices.ContainsFunc(f.Reaches, func(u Upstream) bool { return u.Database() })
		if f.Known || database && servers[path.Base(f.Exe)] == "" {
			out = append(out, *f)
		}
	}
	return out
}

func byTarget(a, b Upstream) int { return cmp.Compare(a.Target, b.Target) }

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
	slices.SortFunc(out, byTarget)
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
		return forwards(args())
	}
	return targets
}

// sshValues are the options of ssh(1) that have a value.
const sshValues = "BbcDEeFIiJLlmOoPpQRSWw"

// forwards returns where ssh was told to forward to: by -L, alone or behind
// other letters (-fNL), and by -o LocalForward.
func forwards(args []string) (targets []string) {
	names := 0 // the host, then the command
	for i := 1; i < len(args) && names < 2; i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			names++
			continue
		}
		for j := 1; j < len(arg); j++ {
			if !strings.Contains(sshValues, arg[j:j+1]) {
				continue
			}
			value := arg[j+1:]
			if i++; value != "" {
				i--
			} else if i < len(args) {
				value = args[i]
			}
			target, ok := "", false
			switch arg[j] {
			case 'L':
				target, ok = forwarded(value)
			case 'o':
				words := strings.FieldsFunc(value, func(r rune) bool { return r == '=' || r == ' ' || r == '\t' })
				if len(words) == 3 && strings.EqualFold(words[0], "LocalForward") {
					target, ok = forwarded(words[1] + ":" + words[2])
				}
			}
			if ok {
				targets = append(targets, target)
			}
			break
		}
	}
	return targets
}

// forwarded takes the target from [bind:]port:host:hostport; what else may stand
// there is a path on the other host.
func forwarded(spec string) (target string, ok bool) {
	end := strings.LastIndexByte(spec, ':')
	if end < 0 || strings.ContainsRune(spec[end:], '/') {
		return "", false
	}
	rest, port := spec[:end], spec[end+1:]
	begin := strings.LastIndexByte(rest, ':')
	if strings.HasSuffix(rest, "]") { // an IPv6 address
		begin = strings.LastIndexByte(rest, '[') - 1
	}
	if begin < 1 || rest[begin] != ':' {
		return "", false
	}
	return net.JoinHostPort(strings.Trim(rest[begin+1:], "[]"), port), true
}
