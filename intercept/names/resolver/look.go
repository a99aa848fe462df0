package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"sallyport.dev/sallyport/intercept/names"
)

// What resolv.conf(5) and glibc allow.
const (
	maxServers  = 3
	maxAttempts = 3
	maxTimeout  = 5 * time.Second
	udpSize     = 1232 // no fragments on any usual link
	maxChain    = 16   // CNAMEs on the way
)

// partialTTL is for how long an answer holds of which a part is missing.
const partialTTL = 30 * time.Second

// found is the answer to one question.
type found struct {
	status names.Status // OK, or why there are no addresses
	addrs  []netip.Addr
	ttl    time.Duration
}

// look asks all that there is about a name.
func (r *run) look(ctx context.Context, name string) names.Answer {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	four := make(chan found, 1)
	go func() { four <- r.query(ctx, name, dns.TypeA) }()
	six := r.query(ctx, name, dns.TypeAAAA)
	return join(name, r.hosts.of(name), <-four, six)
}

// join makes one answer of all.
func join(name string, hosts []netip.Addr, four, six found) names.Answer {
	a := names.Answer{Name: name, Status: names.OK, TTL: names.MaxTTL}
	for _, addr := range slices.Concat(hosts, four.addrs, six.addrs) {
		if addr = addr.Unmap(); names.Dialable(addr) {
			a.Addrs = append(a.Addrs, addr)
		}
	}
	slices.SortFunc(a.Addrs, netip.Addr.Compare)
	a.Addrs = slices.Compact(a.Addrs)
	none := names.NoAddress
	for _, f := range []found{four, six} {
		switch f.status {
		case names.OK:
			a.TTL = min(a.TTL, f.ttl)
		case names.NoAddress:
		case names.NoName:
			if none == names.NoAddress {
				none = names.NoName
			}
		default:
			a.Status, none = names.Partial, f.status
		}
	}
	switch {
	case len(a.Addrs) == 0:
		a.Status = none
	case len(a.Addrs) > names.MaxAddrs:
		a.Status, a.Addrs = names.Cut, a.Addrs[:names.MaxAddrs]
	case a.Status == names.OK && four.status != names.OK && six.status != names.OK:
		a.TTL = maxRetry // hosts alone knows it: DNS may yet
	case a.Status == names.Partial:
		a.TTL = min(a.TTL, partialTTL)
	}
	a.TTL = max(a.TTL, names.MinTTL).Truncate(time.Second)
	return a
}

// query asks the servers in turn until one of them knows.
func (r *run) query(ctx context.Context, name string, kind uint16) found {
	last := found{status: names.Unreachable}
	cfg, err := dns.ClientConfigFromFile(r.o.ResolvConf)
	if err != nil {
		return last
	}
	if len(cfg.Servers) == 0 {
		cfg.Servers = []string{"127.0.0.1"} // resolv.conf(5)
	}
	timeout := min(time.Duration(cfg.Timeout)*time.Second, maxTimeout)
	for range min(cfg.Attempts, maxAttempts) {
		for _, server := range cfg.Servers[:min(len(cfg.Servers), maxServers)] {
			f := chase(ctx, net.JoinHostPort(server, r.o.Port), name, kind, timeout)
			switch f.status {
			case names.OK, names.NoAddress, names.NoName:
				return f
			}
			last = f
			if ctx.Err() != nil {
				return last
			}
		}
	}
	return last
}

// chase asks one server, and again for the name to which its answer leads
// where that has no address in the same answer.
func chase(ctx context.Context, server, name string, kind uint16, timeout time.Duration) found {
	target, ttl := dns.Fqdn(name), names.MaxTTL
	for range maxChain {
		m, err := exchange(ctx, server, target, kind, timeout)
		switch {
		case errors.Is(err, errAnswer):
			return found{status: names.Malformed}
		case err != nil:
			return found{status: names.Unreachable}
		}
		f, next := read(m, target, kind)
		ttl = min(ttl, f.ttl)
		f.ttl = ttl
		if next == target || f.status != names.NoAddress || len(m.Ns) > 0 {
			return f
		}
		target = next
	}
	return found{status: names.Malformed}
}

var errAnswer = errors.New("what came is no answer to the question")

// exchange asks a server one question: by UDP, and by TCP where the answer is
// too long for it.
func exchange(ctx context.Context, server, target string, kind uint16, timeout time.Duration) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(target, kind)
	q.SetEdns0(udpSize, false)
	network := "udp"
	for range 3 {
		c := dns.Client{Net: network, Timeout: timeout}
		m, _, err := c.ExchangeContext(ctx, q, server)
		var ne net.Error
		var oe *net.OpError
		switch {
		case err != nil && (errors.As(err, &ne) || errors.As(err, &oe) || ctx.Err() != nil):
			return nil, err
		case err != nil:
			return nil, errors.Join(errAnswer, err)
		case !m.Response || len(m.Question) != 1 || m.Question[0].Qtype != kind || m.Question[0].Qclass != dns.ClassINET ||
			!strings.EqualFold(m.Question[0].Name, target):
			return nil, errAnswer
		case m.Truncated && network == "udp":
			network = "tcp"
		case m.Rcode == dns.RcodeFormatError && q.IsEdns0() != nil:
			q.Extra = nil // an old server
		default:
			return m, nil
		}
		q.Id = dns.Id()
	}
	return nil, errAnswer
}

// read takes from a message what leads from target to its addresses. next is
// the name at which it ends.
func read(m *dns.Msg, target string, kind uint16) (f found, next string) {
	f, next = found{status: names.NoAddress, ttl: names.MaxTTL}, target
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		f.status = names.NoName
		return f, next
	default:
		f.status = names.Refused
		return f, next
	}
	for range maxChain {
		alias := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, next) {
				continue
			}
			var b []byte
			switch rr := rr.(type) {
			case *dns.A:
				b = rr.A.To4()
			case *dns.AAAA:
				b = rr.AAAA
			case *dns.CNAME:
				alias = rr.Target
			}
			if addr, ok := netip.AddrFromSlice(b); ok && h.Rrtype == kind {
				f.addrs = append(f.addrs, addr)
			} else if h.Rrtype != dns.TypeCNAME {
				continue
			}
			f.ttl = min(f.ttl, time.Duration(h.Ttl)*time.Second)
		}
		if len(f.addrs) > 0 {
			f.status = names.OK
			return f, next
		}
		if alias == "" {
			return f, next
		}
		next = alias
	}
	f.status = names.Malformed
	return f, next
}
