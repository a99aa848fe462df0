package config_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
)

const forwarded = `host: h
interception:
  forwarders:
    - {name: pooler, cgroup: /system.slice/pgbouncer.service, do: exempt, listens: ["127.0.0.1:6432"]}
    - {name: tunnel, exe: /usr/bin/ssh, listens: ["127.0.0.1:7000"]}
resources:
  - {name: clinic, protocol: postgres, addresses: ["192.0.2.7:5432", "127.0.0.0/8:6000-7000"]}
identity:
  issuers: [{url: "https://issuer.example", audience: sallyport}]
`

func TestForwarders(t *testing.T) {
	c, err := config.Parse([]byte(forwarded), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if f := c.Interception.Forwarders; f[0].Do != config.ForwarderExempt || f[1].Do != config.ForwarderGuard {
		t.Errorf("%+v", f)
	}
	if got := c.Interception.ExemptPaths(); !slices.Equal(got, []string{"/system.slice/pgbouncer.service"}) {
		t.Errorf("exempt: %q", got)
	}
	for a, want := range map[string]bool{"192.0.2.7:5432": true, "127.9.9.9:6500": true, "127.0.0.1:7001": false, "192.0.2.7:5433": false} {
		if c.Protects(netip.MustParseAddrPort(a)) != want {
			t.Errorf("Protects(%s) is %v", a, !want)
		}
	}
	for old, c := range map[string]struct{ now, want string }{
		`["127.0.0.1:6432"]`:  {`["10.0.0.1:6432"]`, "s.yaml:4: listens 10.0.0.1:6432: agents would reach what is behind the forwarder without the passage"},
		"name: tunnel":        {"name: pooler", `s.yaml:5: forwarder "pooler": name: must be set and unique`},
		"do: exempt":          {"do: trust", `s.yaml:4: do "trust": must be one of [guard exempt]`},
		"exe: /usr/bin/ssh":   {"exe: ssh", `s.yaml:5: exe "ssh": must be an absolute path`},
		", exe: /usr/bin/ssh": {"", "s.yaml:5: forwarder tunnel: give its cgroup or its exe"},
		"cgroup: /system.slice/pgbouncer.service": {"exe: /usr/sbin/pgbouncer", "s.yaml:4: forwarder pooler: only a cgroup can be exempt"},
		"interception:\n":                         {"interception:\n  mode: cgroup\n  cgroups: [/a.slice]\n", "s.yaml:6: forwarder pooler: exempt means something in mode host only"},
	} {
		_, err := config.Parse([]byte(strings.Replace(forwarded, old, c.now, 1)), "s.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.now, err, c.want)
		}
	}
}

// Enforcing is what a file says that says nothing, and only what observes can
// do without issuers.
func TestEnforcement(t *testing.T) {
	for text, observes := range map[string]bool{"": false, "enforcement: enforce\n": false, "enforcement: observe\n": true} {
		c, err := config.Parse([]byte(forwarded+text), "s.yaml")
		if err != nil || c.Observes() != observes {
			t.Errorf("%q: %v", text, err)
		}
		nobody, _, _ := strings.Cut(forwarded, "identity:")
		if _, err := config.Parse([]byte(nobody+text), "s.yaml"); (err == nil) != observes {
			t.Errorf("%q without issuers: %v", text, err)
		}
	}
	if _, err := config.Parse([]byte(forwarded+"enforcement: off\n"), "s.yaml"); err == nil || !strings.Contains(err.Error(), "must be one of [enforce observe]") {
		t.Errorf("%v", err)
	}
	if (&config.Config{}).Observes() {
		t.Error("the zero configuration observes")
	}
}
