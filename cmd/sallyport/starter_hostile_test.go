package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/discover"
)

// Whoever runs on the host says what a starter is made of. It is valid whatever
// that is, and its policy names no resource that its configuration lacks.
func TestStarterOfHostileNames(t *testing.T) {
	pg := discover.Service{Protocol: "postgres", Basis: discover.ByServer}
	who := discover.Process{Exe: "/usr/lib/postgresql/15/bin/postgres", UID: 7, Cgroup: "/system.slice/x.service", Unit: "x.service"}
	client := discover.Process{Exe: "/usr/bin/psql", UID: 8, Cgroup: "/system.slice/y.service", Unit: "y.service"}
	for _, path := range []string{
		"/tmp/a/../.s.PGSQL.5432", "/tmp//.s.PGSQL.5432", "tmp/.s.PGSQL.5432", "./.s.PGSQL.5432",
		"@/tmp/.s.PGSQL.5432", "@\x01\xff.s.PGSQL.5432", "/tmp/\xff\n: {/.s.PGSQL.5432", "/tmp/\x00/.s.PGSQL.5432", "/tmp/\u2028\"/.s.PGSQL.5432",
	} {
		for _, listens := range []bool{true, false} {
			for _, tcp := range []bool{true, false} {
				inv := &discover.Inventory{Contacts: []discover.Contact{{Process: client, Service: pg, Path: path, Connections: 1}}}
				if listens {
					inv.Listeners = []discover.Listener{{Process: who, Service: pg, PID: 4, Path: path}}
				}
				if tcp {
					inv.Contacts = append(inv.Contacts, discover.Contact{Process: client, Service: pg, Destination: netip.MustParseAddrPort("192.0.2.7:5432"), Connections: 1})
				}
				dir := filepath.Join(t.TempDir(), "new")
				err := writeStarter(io.Discard, dir, inv)
				if !tcp && err != nil && strings.Contains(err.Error(), "nothing was seen that sallyport can protect") {
					continue
				}
				if err != nil {
					t.Errorf("%q, listens %t, tcp %t: %v", path, listens, tcp, err)
					continue
				}
				cfg, err := config.Load(filepath.Join(dir, "sallyport.yaml"))
				if err != nil {
					t.Errorf("%q: %v", path, err)
					continue
				}
				var names []string
				for _, r := range cfg.Resources {
					names = append(names, r.Name)
				}
				policy, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range regexp.MustCompile(`(?m)^    resource: "(.*)"$`).FindAllStringSubmatch(string(policy), -1) {
					if m[1] != "*" && !slices.Contains(names, m[1]) {
						t.Errorf("%q, listens %t, tcp %t: the policy names resource %q, there are %q", path, listens, tcp, m[1], names)
					}
				}
			}
		}
	}
}

// An abstract name is a resource's as a path is.
func TestStarterOfAnAbstractName(t *testing.T) {
	pg := discover.Service{Protocol: "postgres", Basis: discover.ByPort}
	client := discover.Process{Exe: "/usr/bin/psql", UID: 8, Cgroup: "/system.slice/y.service", Unit: "y.service"}
	dir := filepath.Join(t.TempDir(), "new")
	if err := writeStarter(io.Discard, dir, &discover.Inventory{Contacts: []discover.Contact{{Process: client, Service: pg, Path: "@/run/.s.PGSQL.6432", Connections: 1}}}); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Resources) != 1 || !slices.Equal(cfg.Resources[0].Unix, []string{"@/run/.s.PGSQL.6432"}) {
		t.Errorf("%+v", cfg.Resources)
	}
}
