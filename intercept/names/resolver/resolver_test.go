package resolver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/names/resolver"
)

// dnsServer is a real one on loopback, by UDP and TCP.
type dnsServer struct {
	port string
	mu   sync.Mutex
	zone map[string][]string // records by name, or a name's handler by its rcode
	edit func(q, m *dns.Msg, tcp bool)
	n    int // questions
}

func startDNS(t *testing.T) *dnsServer {
	t.Helper()
	s := &dnsServer{zone: map[string][]string{}}
	pc, l := onePort(t)
	_, s.port, _ = net.SplitHostPort(pc.LocalAddr().String())
	for _, srv := range []*dns.Server{
		{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.answer(w, q, false) })},
		{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.answer(w, q, true) })},
	} {
		up, done := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		go func() { _ = srv.ActivateAndServe(); close(done) }()
		<-up
		t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	}
	return s
}

// onePort is a port of both kinds: one that is free for datagrams may be taken
// for streams.
func onePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l, err := net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

func (s *dnsServer) set(name string, records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[name] = records
}

func (s *dnsServer) answer(w dns.ResponseWriter, q *dns.Msg, tcp bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	m := new(dns.Msg).SetReply(q)
	records, ok := s.zone[strings.ToLower(q.Question[0].Name)]
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		if k := rr.Header().Rrtype; k == q.Question[0].Qtype || k == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if s.edit != nil {
		s.edit(q, m, tcp)
	}
	if !tcp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// running is a resolver under test.
type running struct {
	t     *testing.T
	in    *io.PipeWriter
	lines *bufio.Reader
	hosts string
}

func start(t *testing.T, port string, list ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, hosts: filepath.Join(dir, "hosts")}
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("# test\nsearch wrong.example\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	r.in, r.lines = inW, bufio.NewReader(outR)
	done := make(chan error, 1)
	go func() {
		err := resolver.Run(context.Background(), resolver.Options{ResolvConf: conf, Hosts: r.hosts, Port: port}, inR, outW)
		inR.Close()
		outW.Close()
		done <- err
	}()
	t.Cleanup(func() {
		inW.Close()
		outR.Close()
		if err := <-done; err != nil && !strings.Contains(err.Error(), "could not be told") {
			t.Error(err)
		}
	})
	r.ask(list...)
	return r
}

func (r *running) ask(list ...string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, strings.Join(append(list, "", ""), "\n")); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) next() string {
	r.t.Helper()
	line, err := r.lines.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	line = strings.TrimSuffix(line, "\n")
	if _, err := names.ParseAnswer(line); err != nil {
		r.t.Errorf("%q: %v", line, err)
	}
	return line
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	s := startDNS(t)
	for name, c := range map[string]struct {
		zone map[string][]string
		want string
	}{
		"both families": {map[string][]string{"db.": {"db. 40 A 10.0.0.2", "db. 30 A 10.0.0.1", "db. 50 AAAA 2001:db8::1"}}, "db ok 30 10.0.0.1 10.0.0.2 2001:db8::1"},
		"one family":    {map[string][]string{"db.": {"db. 40 A 10.0.0.1"}}, "db ok 40 10.0.0.1"},
		"floor":         {map[string][]string{"db.": {"db. 0 A 10.0.0.1"}}, "db ok 5 10.0.0.1"},
		"ceiling":       {map[string][]string{"db.": {"db. 999999 A 10.0.0.1"}}, "db ok 3600 10.0.0.1"},
		"mapped":        {map[string][]string{"db.": {"db. 60 AAAA ::ffff:10.0.0.1"}}, "db ok 60 10.0.0.1"},
		"loopback":      {map[string][]string{"db.": {"db. 60 A 127.0.0.1"}}, "db ok 60 127.0.0.1"},
		"nowhere":       {map[string][]string{"db.": {"db. 60 A 0.0.0.0", "db. 60 A 224.0.0.1"}}, "db no-address 5"},
		"nothing":       {map[string][]string{"db.": nil}, "db no-address 5"},
		"no name":       {nil, "db no-name 5"},
		"aliases":       {map[string][]string{"db.": {"db. 60 CNAME a.", "a. 20 CNAME B.", "b. 90 A 10.0.0.1"}}, "db ok 20 10.0.0.1"},
		"alias elsewhere": {
			map[string][]string{"db.": {"db. 15 CNAME a."}, "a.": {"a. 60 A 10.0.0.1"}}, "db ok 15 10.0.0.1",
		},
		"a circle":              {map[string][]string{"db.": {"db. 15 CNAME a."}, "a.": {"a. 15 CNAME db."}}, "db malformed 5"},
		"somebody else's":       {map[string][]string{"db.": {"db. 60 A 10.0.0.1", "other. 60 A 10.0.0.9"}}, "db ok 60 10.0.0.1"},
		"only somebody else's":  {map[string][]string{"db.": {"other. 60 A 10.0.0.9"}}, "db no-address 5"},
		"the search list's own": {map[string][]string{"db.wrong.example.": {"db.wrong.example. 60 A 10.0.0.9"}}, "db no-name 5"},
	} {
		t.Run(name, func(t *testing.T) {
			s.mu.Lock()
			s.zone = map[string][]string{}
			for n, r := range c.zone {
				s.zone[n] = r
			}
			s.mu.Unlock()
			if got := start(t, s.port, "db").next(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Many addresses come by TCP; more than are kept are cut, and that is told.
func TestManyAddresses(t *testing.T) {
	s := startDNS(t)
	var records []string
	for i := range 256 {
		records = append(records, fmt.Sprintf("db. 60 A 10.0.0.%d", i))
	}
	s.set("db.", records...)
	r := start(t, s.port, "db")
	if a, err := names.ParseAnswer(r.next()); err != nil || a.Status != names.OK || len(a.Addrs) != 256 {
		t.Errorf("%v, %v", a, err)
	}
	s.set("db.", append(records, "db. 60 A 10.0.1.0")...)
	r = start(t, s.port, "db")
	if a, err := names.ParseAnswer(r.next()); err != nil || a.Status != names.Cut || len(a.Addrs) != 256 {
		t.Errorf("%v, %v", a, err)
	}
}

func TestBadServers(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(q, m *dns.Msg, tcp bool)
		want string
	}{
		"fails":          {func(_, m *dns.Msg, _ bool) { m.Rcode, m.Answer = dns.RcodeServerFailure, nil }, "db refused 5"},
		"another answer": {func(_, m *dns.Msg, _ bool) { m.Question[0].Name = "other." }, "db malformed 5"},
		"a question":     {func(_, m *dns.Msg, _ bool) { m.Response = false }, "db malformed 5"},
		"too long, ever": {func(_, m *dns.Msg, _ bool) { m.Truncated = true }, "db ok 60 10.0.0.1"},
		"no EDNS": {func(q, m *dns.Msg, _ bool) {
			if q.IsEdns0() != nil {
				m.Rcode, m.Answer = dns.RcodeFormatError, nil
			}
		}, "db ok 60 10.0.0.1"},
		"half of it": {func(q, m *dns.Msg, _ bool) {
			if q.Question[0].Qtype == dns.TypeAAAA {
				m.Rcode = dns.RcodeServerFailure
			}
		}, "db partial 30 10.0.0.1"},
		"half, not there": {func(q, m *dns.Msg, _ bool) {
			if q.Question[0].Qtype == dns.TypeAAAA {
				m.Rcode = dns.RcodeNameError
			}
		}, "db ok 60 10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startDNS(t)
			s.set("db.", "db. 60 A 10.0.0.1")
			s.mu.Lock()
			s.edit = c.edit
			s.mu.Unlock()
			if got := start(t, s.port, "db").next(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0") // hears, and says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
		if got := start(t, port, "db").next(); got != "db unreachable 5" {
			t.Error(got)
		}
	})
	t.Run("noise", func(t *testing.T) {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 2000)
			for {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				for i := 2; i < n; i++ {
					b[i] = 0xff
				}
				_, _ = pc.WriteTo(b[:n], from)
			}
		}()
		defer func() { pc.Close(); <-done }()
		_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
		if got := start(t, port, "db").next(); got != "db malformed 5" {
			t.Error(got)
		}
	})
}

// A name is asked again when its time is over, and at once when hosts changes;
// lists replace each other.
func TestAgain(t *testing.T) {
	s := startDNS(t)
	s.set("db.", "db. 1 A 10.0.0.1")
	r := start(t, s.port, "db")
	begin := time.Now()
	if got := r.next(); got != "db ok 5 10.0.0.1" {
		t.Fatal(got)
	}
	s.set("db.", "db. 3000 A 10.0.0.2")
	if got := r.next(); got != "db ok 3000 10.0.0.2" {
		t.Fatal(got)
	}
	if d := time.Since(begin); d < names.MinTTL-time.Second/2 {
		t.Errorf("asked again after %s", d)
	}
	if err := os.WriteFile(r.hosts, []byte("# comment\n10.0.0.9 other DB. # db2\nnonsense db\n127.0.0.1\n2001:db8::5 db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.next(); got != "db ok 3000 10.0.0.2 10.0.0.9 2001:db8::5" {
		t.Error(got)
	}
	s.mu.Lock()
	delete(s.zone, "db.")
	s.mu.Unlock()
	r.ask("other")
	if got := r.next(); got != "other ok 60 10.0.0.9" {
		t.Error(got)
	}
	if err := os.Remove(r.hosts); err != nil {
		t.Fatal(err)
	}
	if got := r.next(); got != "other no-name 5" {
		t.Errorf("%s: another answer, or that of a name that is not wanted any more", got)
	}
}
