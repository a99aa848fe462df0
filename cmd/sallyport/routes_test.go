package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/names"
)

func routesOf(t *testing.T, resources string) *routes {
	t.Helper()
	cfg, err := config.Parse([]byte("host: h\nresources:\n"+resources+"identity: {issuers: [{url: \"https://i.example\", audience: a}]}\n"), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRoutes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func endpointOf(s string) (a netip.AddrPort) {
	if s != "" {
		a = netip.MustParseAddrPort(s)
	}
	return a
}

func TestRoutesOfFlows(t *testing.T) {
	r := routesOf(t, `  - {name: wide, protocol: postgres, addresses: ["10.0.0.0/8:5000-6000", "[fd00::]/64:5432"]}
  - {name: host, protocol: postgres, addresses: ["10.0.0.5:5432"], unix: [/run/pg/.s.PGSQL.5432]}
  - {name: named, protocol: postgres, addresses: ["db.x:5432-5433"]}
  - {name: other, protocol: postgres, addresses: ["db2.x:5432"]}
`)
	r.learn(names.Map{
		"db.x":  {Current: addrs("192.0.2.1", "192.0.2.2", "10.0.0.5", "10.0.0.6"), Old: addrs("192.0.2.9", "192.0.2.3")},
		"db2.x": {Current: addrs("192.0.2.2", "192.0.2.3")},
	})
	for _, c := range []struct{ asked, reached, path, want string }{
		{"10.0.0.4:5432", "", "", "wide tcp 10.0.0.4:5432"},
		{"[::ffff:10.0.0.4]:5432", "", "", "wide tcp 10.0.0.4:5432"},
		{"[fd00::9]:5432", "", "", "wide tcp [fd00::9]:5432"},
		{"10.0.0.4:6001", "", "", "no resource is configured"},
		// DNS can't take what the configuration has, nor lead to what it has not.
		{"10.0.0.5:5432", "", "", "host tcp 10.0.0.5:5432"},
		{"10.0.0.6:5432", "", "", "10.0.0.6:5432 belongs to resource wide and to named"},
		{"192.0.2.1:5432", "", "", "named tcp 192.0.2.1:5432"},
		{"192.0.2.1:5433", "", "", "named tcp 192.0.2.1:5433"},
		{"192.0.2.1:5434", "", "", "no resource is configured"},
		{"192.0.2.9:5432", "", "", "named tcp 192.0.2.9:5432"},
		{"192.0.2.2:5432", "", "", "belongs to resource named and to other"},
		{"192.0.2.2:5433", "", "", "named tcp 192.0.2.2:5433"},
		// An address that one name led to stays its own when another claims it.
		{"192.0.2.3:5432", "", "", "belongs to resource named and to other"},
		// What was asked for goes first, what it would have reached after it.
		{"10.0.0.5:5432", "192.0.2.1:5432", "", "host tcp 10.0.0.5:5432"},
		{"198.51.100.1:80", "10.0.0.5:5432", "", "host tcp 10.0.0.5:5432"},
		{"198.51.100.1:80", "198.51.100.2:80", "", "198.51.100.1:80 is guarded, but no resource"},
		{"192.0.2.2:5432", "10.0.0.5:5432", "", "belongs to resource named and to other"},
		{"", "", "/run/pg/.s.PGSQL.5432", "host unix /run/pg/.s.PGSQL.5432"},
		{"", "", "/run/pg/../pg/.s.PGSQL.5432", "no resource is configured"},
		{"", "", "", "no resource is configured"},
	} {
		f := intercept.Flow{Destination: endpointOf(c.asked), Reached: endpointOf(c.reached), Path: c.path}
		tg := r.find(&f)
		got := ""
		if err := tg.refusal(); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%s %s %s", tg.resource.Name, tg.network, tg.address)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
	r.learn(nil)
	if tg := r.find(&intercept.Flow{Destination: endpointOf("192.0.2.1:5432")}); tg.resource != nil {
		t.Error("what names lead to is not forgotten")
	}
}

// What the kernel protects and what the daemon knows are the same: whatever
// the names lead to, an endpoint of one is one of the other.
func TestGuardAndRoutesAgree(t *testing.T) {
	r := routesOf(t, `  - {name: wide, protocol: postgres, addresses: ["10.0.0.0/30:1-4", "10.0.0.0/28:3-9"]}
  - {name: a, protocol: postgres, addresses: ["a.x:2-6", "10.0.0.3:5"]}
  - {name: b, protocol: postgres, addresses: ["b.x:5-7", "a.x:8", "127.0.0.0/31:1-9"]}
`)
	rnd := rand.New(rand.NewPCG(1, 1))
	some := func() (all []netip.Addr) {
		for range rnd.IntN(6) {
			a := [4]byte{10, 0, 0, byte(rnd.IntN(32))}
			if rnd.IntN(4) == 0 {
				a = [4]byte{127, 0, 0, byte(rnd.IntN(4))}
			}
			all = append(all, netip.AddrFrom4(a))
		}
		return all
	}
	r.cfg.Interception.Port = 15432
	for range 300 {
		m := names.Map{"a.x": {Current: some(), Old: some()}, "b.x": {Current: some(), Old: some()}, "c.x": {Current: some()}}
		r.learn(m)
		protected := destinations(r.cfg, m)
		for range 200 {
			b := [4]byte{10, 0, 0, byte(rnd.IntN(34))}
			if rnd.IntN(4) == 0 {
				b = [4]byte{127, 0, 0, byte(rnd.IntN(5))}
			}
			a := netip.AddrPortFrom(netip.AddrFrom4(b), uint16(rnd.IntN(11)))
			in := false
			for _, d := range protected {
				in = in || d.Contains(a)
			}
			if tg := r.find(&intercept.Flow{Destination: a}); in != (tg.resource != nil) {
				t.Fatalf("%s: protected %t, resource %v, with %v", a, in, tg.resource, m)
			}
		}
	}
}

// The passage is never protected, whatever DNS says.
func TestNamesLeaveThePassageOut(t *testing.T) {
	for _, c := range []struct {
		addr, want  string
		first, last uint16
	}{
		{"127.0.0.1", "[127.0.0.1:1-15431 127.0.0.1:15433-65535]", 1, 65535},
		{"127.0.0.1", "[]", 15432, 15432},
		{"::1", "[[::1]:15433-15440]", 15432, 15440},
		{"127.0.0.1", "[127.0.0.1:5432]", 5432, 5432},
		{"10.0.0.1", "[10.0.0.1:15432]", 15432, 15432},
	} {
		if got := fmt.Sprint(named(netip.MustParseAddr(c.addr), c.first, c.last, 15432)); got != c.want {
			t.Errorf("%s:%d-%d: %s, want %s", c.addr, c.first, c.last, got, c.want)
		}
	}
}
