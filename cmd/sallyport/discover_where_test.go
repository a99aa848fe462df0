package main

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/discover"
)

func TestDiscoverPrintsWorkloads(t *testing.T) {
	id := strings.Repeat("ab", 32)
	inv := &discover.Inventory{Contacts: []discover.Contact{
		{Process: discover.Process{Exe: "/app", Container: id, Cgroup: "/docker/" + id, Workload: "agents/billing-0/app (runner)"}},
		{Process: discover.Process{Exe: "/app", Container: id, Cgroup: "/docker/" + id}},
	}}
	var out strings.Builder
	if err := printInventory(&out, inv); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "container agents/billing-0/app (runner)") || !strings.Contains(s, "container "+id[:12]+" ") {
		t.Error(s)
	}
}
