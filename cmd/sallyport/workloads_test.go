package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

// inCgroup runs a shell's script in a cgroup.
func inCgroup(t *testing.T, dir, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-c", "echo $$ > "+dir+"/cgroup.procs; "+script).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

// A unit is covered by its name: when it starts, and when it starts again in a
// cgroup that is another one. Who is refused has a name on the record.
func TestWorkloadsAreCovered(t *testing.T) {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "")
	base := fmt.Sprintf("/sallyport.e2e-%d", os.Getpid())
	unit, other := base+"/agent@1.service", base+"/other.service"
	h.covered = fmt.Sprintf(`, "%s/agent@*.service"`, base)
	h.configure()
	if err := os.MkdirAll(root+other, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []string{unit, other, base} {
			_ = unix.Rmdir(root + c)
		}
		if _, err := os.Stat(root + base); err == nil {
			t.Errorf("cgroup %s is left behind", base)
		}
	})
	h.serve()
	datagram := ": > /dev/udp/127.0.0.1/" + port(h.server)
	for range 3 {
		if err := os.Mkdir(root+unit, 0o755); err != nil {
			t.Fatal(err)
		}
		within(t, "the unit is covered", func() bool { return strings.Contains(inCgroup(t, root+unit, datagram), "Operation not permitted") })
		within(t, "the unit's end", func() bool { return unix.Rmdir(root+unit) == nil })
	}
	if out := inCgroup(t, root+other, datagram+" && echo sent"); !strings.Contains(out, "sent") {
		t.Errorf("a unit that is not covered: %s", out)
	}
	// What is sent is told; the name is asked for while the sender is there.
	send := []string{"/usr/bin/python3", "-c", "import socket, sys, time\ntry: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', " +
		port(h.server) + "))\nexcept PermissionError: print('refused', flush=True)\ntime.sleep(.5)"}
	if out, err := h.agent(h.token("agent-a"), send...).CombinedOutput(); string(out) != "refused\n" {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(root+unit, 0o755); err != nil {
		t.Fatal(err)
	}
	within(t, "the unit is covered again", func() bool { return strings.Contains(inCgroup(t, root+unit, datagram), "Operation not permitted") })
	if out := inCgroup(t, root+unit, "exec "+send[0]+" -c \""+send[2]+"\""); out != "refused\n" {
		t.Fatal(out)
	}
	within(t, "both are told", func() bool { return h.metric("sallyport_bypasses_total") == "2" })
	h.stop()
	named, placed := 0, 0
	for _, v := range recorded(h.record(), events.Bypass) {
		switch {
		case v.Workload == "agent-a" && strings.HasPrefix(v.Process.Cgroup, "/sallyport.guarded/") && strings.Contains(v.Process.Exe, "/python3"):
			named++
		case v.Workload == "" && v.Process.Cgroup == unit:
			placed++
		}
	}
	if named != 1 || placed != 1 {
		t.Errorf("%d events name the workload and %d the unit's cgroup: %+v", named, placed, recorded(h.record(), events.Bypass))
	}
}
