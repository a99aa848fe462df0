package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// nameServer is where the test's DNS server listens, on port 53.
const nameServer = "127.0.0.153"

// zone is a DNS server of one name, db.test, with addresses that live for no
// time at all.
type zone struct {
	mu    sync.Mutex
	addrs []string
	stop  func()
}

func startZone(t *testing.T, addrs ...string) *zone {
	t.Helper()
	z := &zone{addrs: addrs}
	pc, err := net.ListenPacket("udp", nameServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: pc, Handler: z, NotifyStartedFunc: func() { close(up) }}
	go func() { _ = srv.ActivateAndServe(); close(done) }()
	<-up
	z.stop = sync.OnceFunc(func() { _ = srv.Shutdown(); <-done })
	t.Cleanup(z.stop)
	return z
}

func (z *zone) lead(addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs = addrs
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	if q.Question[0].Name != "db.test." {
		m.Rcode = dns.RcodeNameError
	}
	if q.Question[0].Qtype == dns.TypeA {
		for _, a := range z.addrs {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "db.test.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(a)})
		}
	}
	_ = w.WriteMsg(m)
}

// resolves gives the loader a resolv.conf and hosts of its own, in a mount
// namespace.
func (h *host) resolves(hosts string) {
	h.t.Helper()
	for name, text := range map[string]string{"resolv.conf": "nameserver " + nameServer + "\noptions timeout:1 attempts:1\n", "hosts": hosts} {
		path := filepath.Join(h.dir, name)
		h.write(path, text)
		if err := os.Chmod(path, 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	h.wrap = []string{
		"unshare", "-m", "sh", "-c",
		fmt.Sprintf(`mount --bind %s/resolv.conf /etc/resolv.conf && mount --bind %[1]s/hosts /etc/hosts && exec "$@"`, h.dir), "sh",
	}
}

// protected reports whether the kernel protects endpoints.
func (h *host) protected(list ...string) bool {
	h.t.Helper()
	s, err := redirect.GetStatus(h.pins)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range list {
		if !slices.Contains(s.Destinations, intercept.Endpoint(netip.MustParseAddrPort(e))) {
			return false
		}
	}
	return true
}

// The resource moves: the name's new address is protected as soon as it is
// known, with connections that are older; the old one stays it; and with DNS
// away all stays as it was, over a restart too.
func TestNamesAreFollowed(t *testing.T) {
	cgroup := redirecttest.Cgroup(t)
	server, _ := startPostgresWith(t, "-c listen_addresses=127.0.0.1,127.0.0.2")
	one, two := server, "127.0.0.2:"+port(server)
	z := startZone(t, "127.0.0.1")
	h := newHost(t, "db.test:"+port(server))
	h.covered = ", " + cgroup
	h.configure()
	h.resolves("")
	older := inside(t, cgroup, "bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(two, ":", "/", 1)+"; read <&3")
	if err := stand.Launch(older); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = older.Process.Kill(); _ = older.Wait() }()
	h.serve()
	if !h.protected(one) || h.protected(two) {
		t.Fatal("what the name leads to is not what is protected")
	}
	token := h.token("agent-a")
	through := func(addr, want string) {
		t.Helper()
		h.server = addr
		if out, err := h.psqlWith(token, "-c", "select 6*7"); err != nil || out != "42\n" {
			t.Errorf("%s: %q, %v", addr, out, err)
		}
		if n := h.metric(`sallyport_flows_total{resource="clinic"}`); n != want {
			t.Errorf("%s: %s connections came through the passage, want %s", addr, n, want)
		}
	}
	through(one, "1")
	s := h.shell(token)
	if out, errs := s.run("select 1"); out != "1\n" {
		t.Fatal(out, errs)
	}

	z.lead("127.0.0.2")
	within(t, "the new address is protected", func() bool { return h.protected(two) })
	within(t, "the older connection to it ends", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", older.Process.Pid))
		return strings.Contains(string(b), ") Z ")
	})
	within(t, "that is told", func() bool { return h.metric("sallyport_bypasses_total") >= "1" })
	if !h.protected(one) {
		t.Error("the old address is not protected any more")
	}
	through(two, "3")
	through(one, "4")
	if out, errs := s.run("select 2"); out != "2\n" {
		t.Errorf("the session to the old address: %q, %s", out, errs)
	}
	fi, err := os.Stat(filepath.Join(h.dir, "state.guard", "names", "addresses"))
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("what is remembered: %v, %v", fi, err)
	}

	z.stop()
	h.stop()
	s.in.Close()
	_ = s.cmd.Wait() // its cgroup must be empty
	if err := redirect.Down(h.pins); err != nil {
		t.Fatal(err)
	}
	h.serve()
	if !h.protected(one, two) {
		t.Error("what was remembered is not protected")
	}
	through(two, "1")
	through(one, "2")
	h.stop()
	for _, v := range h.record() {
		if v.Kind == "login" && v.Resource != "clinic" {
			t.Errorf("%+v", v)
		}
	}
}

// hosts(5) is followed too, and a reload brings a name in or takes it out.
func TestNamesOfHostsAndReload(t *testing.T) {
	h := newHost(t, "192.0.2.7:5432")
	h.resolves("192.0.2.8 db.hosts\n")
	h.serve()
	h.server = "db.hosts:5432"
	h.configure()
	h.reload("msg=reloaded process=loader")
	within(t, "the name's address is protected", func() bool { return h.protected("192.0.2.8:5432") })
	if h.protected("192.0.2.7:5432") {
		t.Error("what is not configured any more is protected")
	}
	h.write(filepath.Join(h.dir, "hosts"), "192.0.2.8 db.hosts\n192.0.2.9 db.hosts\n")
	within(t, "the new address of hosts is protected", func() bool { return h.protected("192.0.2.8:5432", "192.0.2.9:5432") })
	h.server = "192.0.2.7:5432"
	h.configure()
	h.reload("msg=reloaded process=loader")
	if h.protected("192.0.2.8:5432") || !h.protected("192.0.2.7:5432") {
		t.Error("the name is gone, its address is protected")
	}
	h.stop()
}

// The process that speaks DNS has no privilege at all, and is started again
// when it dies.
func TestResolverIsConfined(t *testing.T) {
	startZone(t, "192.0.2.8")
	h := newHost(t, "db.test:5432")
	h.resolves("")
	h.serve()
	find := func() (pid string) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			b, _ := os.ReadFile(f)
			stat, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "stat"))
			if string(b) == "sallyport\x00resolver\x00" && strings.Contains(string(stat), fmt.Sprintf(") S %d ", h.loader.Process.Pid)) {
				return filepath.Base(filepath.Dir(f))
			}
		}
		return ""
	}
	pid := ""
	within(t, "it runs", func() bool { pid = find(); return pid != "" })
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("Uid:\t%d\t", daemonUID), "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Groups:\t \n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in %s", want, status)
		}
	}
	n := 0
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "it is missed", func() bool { return has(h.log.String(), "the resolver ended") })
	if !h.protected("192.0.2.8:5432") {
		t.Error("nothing is protected without it")
	}
	within(t, "another one runs", func() bool { p := find(); return p != "" && p != pid })
	h.stop()
}

// guard up fails where nothing is known of a name, and guards the rest.
func TestGuardUpWithNames(t *testing.T) {
	h := newHost(t, "db.test:5432")
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.Replace(string(text), `["db.test:5432"]`, `["db.test:5432", "192.0.2.7:5432"]`, 1))
	h.resolves("")
	up := func() (string, int) {
		t.Helper()
		cmd := h.command("guard", "up", "-c", h.config)
		cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := up(); code != 1 || !has(out, "the guard is up", "nothing is protected under db.test", "hint: ") || !h.protected("192.0.2.7:5432") {
		t.Errorf("DNS away, nothing known: %d, %s", code, out)
	}
	z := startZone(t, "192.0.2.8")
	if out, code := up(); code != 0 || !h.protected("192.0.2.7:5432", "192.0.2.8:5432") {
		t.Errorf("with DNS: %d, %s", code, out)
	}
	z.stop()
	if err := redirect.Down(h.pins); err != nil {
		t.Fatal(err)
	}
	if out, code := up(); code != 0 || !h.protected("192.0.2.7:5432", "192.0.2.8:5432") {
		t.Errorf("DNS away, remembered: %d, %s", code, out)
	}
	z = startZone(t, "192.0.2.9")
	if out, code := up(); code != 0 || !h.protected("192.0.2.7:5432", "192.0.2.8:5432", "192.0.2.9:5432") {
		t.Errorf("moved: %d, %s", code, out)
	}
	// What the kernel's table can't hold of a name is left out, and the rest
	// stands.
	var many []string
	for p := range 40 {
		many = append(many, fmt.Sprintf(`"db.test:%d"`, 1000+2*p))
	}
	h.write(h.config, strings.Replace(string(text), `["db.test:5432"]`, `["192.0.2.6:5432", `+strings.Join(many, ", ")+`]`, 1))
	if out, code := up(); code != 1 || !has(out, "db.test leads to addresses that can't be protected", "ranges of ports") || !h.protected("192.0.2.6:5432") {
		t.Errorf("too much: %d, %s", code, out)
	}
	z.stop()
}
