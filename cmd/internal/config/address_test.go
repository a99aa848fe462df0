package config_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
)

func TestParseAddress(t *testing.T) {
	for in, out := range map[string]string{
		"10.0.0.5:5432":           "10.0.0.5:5432",
		"10.0.0.0/24:5432-5440":   "10.0.0.0/24:5432-5440",
		"[fd00::]/64:5432":        "[fd00::]/64:5432",
		"DB.Example.Internal:1":   "db.example.internal:1",
		"db.example.internal.:1":  "db.example.internal:1",
		"db:5432-5440":            "db:5432-5440",
		"_pg._tcp.example:5432":   "_pg._tcp.example:5432",
		"xn--bcher-kva.example:1": "xn--bcher-kva.example:1",
	} {
		a, err := config.ParseAddress(in)
		if err != nil || a.String() != out {
			t.Errorf("%s: %q, %v", in, a, err)
		}
		if back, err := config.ParseAddress(a.String()); err != nil || back != a {
			t.Errorf("%s does not come back: %+v, %v", in, back, err)
		}
	}
	for _, in := range []string{
		"", ":1", "db", "db:", "db:0", "db:9-8", "db:x", "db:70000", "d b:1", "db..x:1", ".:1", "-db:1", "db-.x:1", "db/24:1", "10.0.0.256:1",
		"010.0.0.1:1", "127.1:1", "0x7f000001:1", "127.0.0.0x1:1", "bücher.example:1", strings.Repeat("a", 64) + ":1", strings.Repeat("a.", 130) + "a:1", "[db]:1", "db.example\n:1",
	} {
		if a, err := config.ParseAddress(in); err == nil {
			t.Errorf("%q was read as %q", in, a)
		}
	}
}

// with is a configuration with these resources, from line 2 on.
func with(resources string) string {
	return "resources:\n" + resources + "identity: {issuers: [{url: \"https://i.example\", audience: a}]}\n"
}

func TestDestinations(t *testing.T) {
	c, err := config.Parse([]byte(with(`  - name: a
    protocol: postgres
    addresses: ["10.0.0.0/8:5432", "10.0.0.0/8:6000-6010", "db.example:5432", "[fd00::]/64:5432", "10.0.0.7:5432"]
    unix: [/run/a/.s.PGSQL.5432]
    catalog: {user: u}
  - {name: b, protocol: postgres, addresses: ["10.1.0.0/16:5432", "10.0.0.8:5432", "DB.example.:5433", "127.0.0.0/8:5432"], unix: [/run/b/.s.PGSQL.5432]}
  - {name: c, protocol: postgres, unix: [/run/c/.s.PGSQL.5432], catalog: {user: u, address: "[::1]:5"}}
`)), "s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Resources[0].Catalog.Address; a != netip.MustParseAddrPort("10.0.0.7:5432") {
		t.Errorf("the catalog is read at %s", a)
	}
	if got := fmt.Sprint(c.Names()); got != "[db.example]" {
		t.Error(got)
	}
}

func TestDestinationErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"same":              {"  - {name: a, protocol: postgres, addresses: [\"10.0.0.1:5\"]}\n  - name: b\n    protocol: postgres\n    addresses:\n      - \"10.0.0.1:5\"\n", `s.yaml:6: address "10.0.0.1:5": overlaps "10.0.0.1:5" of resource a (s.yaml:2)`},
		"same in a range":   {"  - {name: a, protocol: postgres, addresses: [\"10.0.0.0/8:1-9\"]}\n  - {name: b, protocol: postgres, addresses: [\"10.0.0.0/8:9\"]}\n", `s.yaml:3: address "10.0.0.0/8:9": overlaps "10.0.0.0/8:1-9" of resource a (s.yaml:2)`},
		"same name":         {"  - {name: a, protocol: postgres, addresses: [\"db.x:1-9\"]}\n  - {name: b, protocol: postgres, addresses: [\"DB.x.:9\"]}\n", `s.yaml:3: address "db.x:9": overlaps "db.x:1-9" of resource a (s.yaml:2)`},
		"passage":           {"  - {name: a, protocol: postgres, addresses: [\"0.0.0.0/0:15000-16000\"]}\n", `s.yaml:2: address "0.0.0.0/0:15000-16000": is the passage itself, or holds it`},
		"nothing":           {"  - {name: a, protocol: postgres, addresses: [~]}\n", `s.yaml:2: address "~": must be like`},
		"no catalog":        {"  - {name: a, protocol: postgres, addresses: [\"db.x:1\"], catalog: {user: u}}\n", `s.yaml:2: address: name the ip:port of the server whose catalog`},
		"catalog's name":    {"  - {name: a, protocol: postgres, addresses: [\"db.x:1\"], catalog: {user: u, address: \"db.x:1\"}}\n", `s.yaml:2: address "db.x:1": must be an ip:port`},
		"catalog nowhere":   {"  - {name: a, protocol: postgres, addresses: [\"db.x:1\"], catalog: {user: u, address: \"0.0.0.0:1\"}}\n", `s.yaml:2: address "0.0.0.0:1": must be a concrete`},
		"relative socket":   {"  - {name: a, protocol: postgres, unix: [run/x]}\n", `s.yaml:2: unix "run/x": must be an absolute path`},
		"unclean socket":    {"  - {name: a, protocol: postgres, unix: [/run//x]}\n", `s.yaml:2: unix "/run//x"`},
		"abstract socket":   {"  - {name: a, protocol: postgres, unix: [\"@\"]}\n", `s.yaml:2: unix "@"`},
		"abstract twice":    {"  - {name: a, protocol: postgres, unix: [\"@x\", \"@x\"]}\n", `s.yaml:2: unix "@x": stands at s.yaml:2 already`},
		"allowed nowhere":   {"  - {name: a, protocol: postgres, unix: [/x]}\ninterception: {unix_allow: [run/x]}\n", `s.yaml:3: unix socket "run/x"`},
		"allowed unclean":   {"  - {name: a, protocol: postgres, unix: [/x]}\ninterception: {unix_allow: [/run/../x/**]}\n", `s.yaml:3: unix socket "/run/../x/**"`},
		"long socket":       {"  - {name: a, protocol: postgres, unix: [/" + strings.Repeat("x", 107) + "]}\n", `at most 107 bytes`},
		"socket twice":      {"  - {name: a, protocol: postgres, unix: [/x]}\n  - {name: b, protocol: postgres, unix: [/x]}\n", `s.yaml:3: unix "/x": stands at s.yaml:2 already`},
		"nothing at all":    {"  - {name: a, protocol: postgres}\n", `s.yaml:2: no addresses`},
		"forgotten at once": {"  - {name: a, protocol: postgres, addresses: [\"db.x:1\"]}\ninterception: {old_addresses: 5s}\n", `s.yaml:3: old_addresses 5s: must be between`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := config.Parse([]byte(with(c.text)), "s.yaml"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nhas no %q", err, c.want)
			}
		})
	}
}

// A configuration of many addresses costs their number, not its square.
func BenchmarkParseMany(b *testing.B) {
	var t strings.Builder
	for i := range 50 {
		fmt.Fprintf(&t, "  - name: r%d\n    protocol: postgres\n    addresses:\n", i)
		for k := range 200 {
			fmt.Fprintf(&t, "      - \"10.%d.%d.0/24:5432\"\n", i, k)
		}
	}
	text := []byte(with(t.String()))
	for b.Loop() {
		if _, err := config.Parse(text, "s.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
