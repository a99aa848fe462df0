package main

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/discover"
)

// A forwarder that was told a protected service's name is a door like one that
// was seen at its address.
func TestDoctorKnowsNamesOfForwarders(t *testing.T) {
	addr, err := config.ParseAddress("db.example.com:5432-5433")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Resources: []config.Resource{{Name: "clinic", Addresses: []config.Address{addr}}}}
	for target, door := range map[string]bool{
		"db.example.com:5432": true, "DB.example.com.:5433": true, "db.example.com:5434": false, "db:5432": false, "x": false, "db.example.com:70000": false,
	} {
		ssh := discover.Forwarder{
			Process: discover.Process{Exe: "/usr/bin/ssh", Cgroup: "/user.slice"}, PID: 4, Known: true,
			Listens: []string{"127.0.0.1:15432"}, Reaches: []discover.Upstream{{Target: target}},
		}
		_, err := forwarders(cfg, &discover.Inventory{Forwarders: []discover.Forwarder{ssh}})
		if door != (err != nil && strings.Contains(err.Error(), "ssh (process 4, /user.slice) listens at 127.0.0.1:15432")) {
			t.Errorf("%s: %v", target, err)
		}
	}
}
