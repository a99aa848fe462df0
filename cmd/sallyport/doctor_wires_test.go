package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The doctor names the interfaces of covered namespaces whose frames nobody
// looks at, and is content with guarded wires.
func TestDoctorNamesWires(t *testing.T) {
	redirecttest.Lock(t)
	cgroup, pins, port := redirecttest.Cgroup(t), redirecttest.TempPins(t), redirecttest.Port(t)
	g, err := redirect.Up(redirect.Config{Mode: "cgroup", Port: port, Pins: pins, Covered: []string{cgroup}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	c := &config.Config{Interception: config.Interception{Mode: "cgroup", Cgroups: []string{cgroup}, Pins: pins}}
	pid := stay(t, cgroup, "unshare", "-n")
	name := fmt.Sprintf("spd%d", os.Getpid()%100000)
	ip := func(args ...string) {
		t.Helper()
		if b, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, b)
		}
	}
	wants := func(ok bool, want string) {
		t.Helper()
		if f := ask(t, c)["wires"]; (f.Remedy == "") != ok || !strings.Contains(f.Detail, want) {
			t.Errorf("%+v, want %q", f, want)
		}
	}
	wants(true, "0 ends")
	ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pid))
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() }) // gone with the namespace, most often
	wants(false, fmt.Sprintf("eth0 (veth) of process %d (", pid))
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	space, err := redirect.SpaceOf(ns)
	if err == nil {
		_, err = g.Wire(space)
	}
	if err != nil {
		t.Fatal(err)
	}
	wants(true, "1 ends")
	ip("link", "add", "link", name, "name", "eth1", "netns", fmt.Sprint(pid), "type", "macvlan")
	wants(false, fmt.Sprintf("eth1 (macvlan) of process %d (", pid))
}
