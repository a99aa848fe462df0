package main

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// An inventory of a server, who asks it, and who carries others' connections to
// it; and the doctor's word on the latter.
func TestDiscover(t *testing.T) {
	h := newHost(t, startPostgres(t))
	// This very process is a forwarder: it listens, and is connected.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", h.server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for range 4 {
			time.Sleep(500 * time.Millisecond)
			if out, err := h.direct("psql", "-X", "-c", "select pg_sleep(0.2)"); err != nil {
				t.Error(out)
			}
		}
	}()
	dir := filepath.Join(h.dir, "etc")
	out, err := h.sallyport("discover", "--json", "--duration", "4s", "--write", dir)
	if err != nil {
		t.Fatal(out)
	}
	<-asked
	// What is written to standard error stands around it.
	var inv discover.Inventory
	out = out[strings.Index(out, "{\n"):]
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&inv); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	i := slices.IndexFunc(inv.Contacts, func(c discover.Contact) bool {
		return filepath.Base(c.Exe) == "psql" && c.Destination.String() == h.server
	})
	if i < 0 || inv.Contacts[i].Protocol != "postgres" || inv.Contacts[i].Basis != discover.ByServer || inv.Contacts[i].Connections < 2 {
		t.Errorf("psql: %d of %+v", i, inv.Contacts)
	}
	self, _ := os.Readlink("/proc/self/exe")
	if !slices.ContainsFunc(inv.Forwarders, func(f discover.Forwarder) bool { return f.Exe == self && slices.Contains(f.Listens, l.Addr().String()) }) {
		t.Errorf("forwarders: %+v", inv.Forwarders)
	}

	// What it wrote is taken, and never written over.
	cfg, err := config.Load(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Observes() || !cfg.Protects(netip.MustParseAddrPort(h.server)) {
		t.Errorf("%s", cfg.Text)
	}
	if out, err := h.sallyport("policy", "check", filepath.Join(dir, "policy.yaml")); err != nil {
		t.Errorf("policy check: %s", out)
	}
	if out, err := h.sallyport("discover", "--duration", "1s", "--write", dir); err == nil || !has(out, "is there already and is not overwritten") {
		t.Errorf("%q, %v", out, err)
	}

	if out, _ := h.sallyport("doctor", "-c", h.config); !has(out, "FAIL  forwarders: agents could reach protected services through: ", l.Addr().String()) {
		t.Errorf("doctor: %s", out)
	}
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.Replace(string(b), "interception: {", "interception: {forwarders: [{name: test, exe: "+self+"}], ", 1))
	if out, _ := h.sallyport("doctor", "-c", h.config); !has(out, "pass  forwarders: ") {
		t.Errorf("doctor, with a ruling: %s", out)
	}
}

func TestDiscoverUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--duration -1s": "cannot be negative", "--duration soon": "invalid argument", "--frob": "unknown flag", "extra": "unknown command",
	} {
		h := &host{t: t}
		if out, err := h.sallyport(append([]string{"discover"}, strings.Fields(args)...)...); err == nil || !has(out, want) {
			t.Errorf("%s: %q, %v", args, out, err)
		}
	}
}

// A starter is valid whatever was seen, and rules on forwarders that it knows.
func TestStarter(t *testing.T) {
	redirecttest.Lock(t) // ports of this host are looked at
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	pg := discover.Service{Protocol: "postgres", Basis: discover.ByServer}
	odd := discover.Process{Exe: "/opt/a \"b\"\n: {x}/agent\u2028", UID: 7, Cgroup: "/system.slice/odd\\x2dname.service", Unit: "odd\\x2dname.service"}
	pooler := discover.Process{Exe: "/usr/sbin/pgbouncer", UID: 70, Cgroup: "/system.slice/pgbouncer.service", Unit: "pgbouncer.service"}
	inv := &discover.Inventory{
		Contacts: []discover.Contact{
			{Process: odd, Service: pg, Destination: at("127.0.0.1:6432"), Connections: 3},
			{Process: odd, Service: pg, Destination: at("192.0.2.7:5432"), Connections: 3},
			{Process: odd, Service: discover.Service{Protocol: "mssql", Basis: discover.ByPort}, Destination: at("192.0.2.9:1433"), Connections: 3},
			{Process: pooler, Service: pg, Destination: at("[2001:db8::7]:5432"), Connections: 1},
			{Process: discover.Process{Comm: "gone"}, Service: pg, Destination: at("192.0.2.8:5432"), Connections: 1},
			{Process: discover.Process{Exe: "/app", Container: strings.Repeat("ab", 32), Cgroup: "/docker/" + strings.Repeat("ab", 32)}, Service: pg, Path: "/run/postgresql/.s.PGSQL.5432", Connections: 1},
		},
		Forwarders: []discover.Forwarder{
			{Process: pooler, PID: 4, Known: true, Listens: []string{"0.0.0.0:6432", "/tmp/.s.PGSQL.6432"}, Reaches: []discover.Upstream{{Service: pg, Target: "[2001:db8::7]:5432"}}},
			{Process: odd, PID: 5, Listens: []string{"127.0.0.1:8080"}, Reaches: []discover.Upstream{{Service: pg, Target: "192.0.2.7:5432"}}},
		},
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := writeStarter(io.Discard, dir, inv); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"127.0.0.1:6432", "192.0.2.7:5432", "192.0.2.8:5432", "[2001:db8::7]:5432"} {
		if !cfg.Protects(at(a)) {
			t.Errorf("%s is not protected", a)
		}
	}
	for _, r := range cfg.Resources {
		var all []string
		for _, a := range r.Addresses {
			all = append(all, a.String())
		}
		if behind := slices.Contains(all, "[2001:db8::7]:5432"); behind != slices.Contains(all, "127.0.0.1:6432") {
			t.Errorf("the pooler's address is not one of the resource behind it: %v", all)
		}
	}
	f := cfg.Interception.Forwarders
	if len(f) != 1 || f[0].Exe != pooler.Exe || f[0].Do != config.ForwarderGuard || !slices.Contains(f[0].Listens, at("127.0.0.1:6432")) {
		t.Errorf("forwarders: %+v", f)
	}
	ws := cfg.Identity.Workloads
	if i := slices.IndexFunc(ws, func(w config.Workload) bool {
		return w.Match.Exe == odd.Exe && w.Match.Cgroup == odd.Cgroup && *w.Match.UID == 7
	}); i < 0 {
		t.Errorf("workloads: %+v", ws)
	}
	if !strings.Contains(string(cfg.Text), "mssql at 192.0.2.9:1433") {
		t.Error("what can't be protected is not named")
	}
	if err := writeStarter(io.Discard, filepath.Join(dir, "2"), &discover.Inventory{}); err == nil {
		t.Error("a starter of nothing")
	}
}
