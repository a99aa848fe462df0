package discover_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// lookFor returns the forwarder whose executable it is, of this moment.
func lookFor(t *testing.T, exe string) discover.Forwarder {
	t.Helper()
	inv, err := discover.Look()
	if err != nil {
		t.Fatal(err)
	}
	var found []discover.Forwarder
	for _, f := range inv.Forwarders {
		if f.Exe == exe {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s is %d forwarders: %+v", exe, len(found), found)
	}
	return found[0]
}

// A parent that listens and workers that reach the database are one forwarder.
func TestWorkersOfAForwarder(t *testing.T) {
	addr := as(t, "postgres", "serve", "tcp", "127.0.0.1:0").start(t)
	balancer := as(t, "balancer", "prefork", addr)
	at := balancer.start(t)
	f := lookFor(t, balancer.exe)
	if f.PID != uint32(balancer.cmd.Process.Pid) || !slices.Equal(f.Listens, []string{at}) || len(f.Reaches) != 1 || f.Reaches[0].Target != addr {
		t.Errorf("%+v", f)
	}
}

// Where ssh was told to forward to is known without a connection.
func TestWhereSSHForwards(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-L", "5433:db:5432", "bastion"}, []string{"db:5432"}},
		{[]string{"-L5433:db:5432", "bastion"}, []string{"db:5432"}},
		{[]string{"-fNL", "5433:192.0.2.7:5432", "bastion"}, []string{"192.0.2.7:5432"}},
		{[]string{"-NL127.0.0.1:5433:192.0.2.7:5432", "bastion"}, []string{"192.0.2.7:5432"}},
		{[]string{"-N", "-L", "5433:[2001:db8::7]:5432", "bastion"}, []string{"[2001:db8::7]:5432"}},
		{[]string{"-L", "[::1]:5433:[2001:db8::7]:5432", "bastion"}, []string{"[2001:db8::7]:5432"}},
		{[]string{"bastion", "-L", "5433:db:5432"}, []string{"db:5432"}},
		{[]string{"-o", "LocalForward=5433 db:5432", "bastion"}, []string{"db:5432"}},
		{[]string{"-p", "22", "-iL", "-L", "a:1:b:2", "-L", "3:c:4", "bastion"}, []string{"b:2", "c:4"}},
		{[]string{"-L", "5433:/run/db.sock", "bastion"}, nil},
		{[]string{"bastion", "psql", "-L", "1:not:2"}, nil},
		{[]string{"-L"}, nil},
		{[]string{"-L", "x", "-L", "]:1", "-L", ":", "bastion"}, nil},
	} {
		t.Run(fmt.Sprint(c.args), func(t *testing.T) {
			ssh := as(t, "ssh", "tunnel", c.args...)
			ssh.start(t)
			var got []string
			for _, u := range lookFor(t, ssh.exe).Reaches {
				got = append(got, u.Target)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// On a guarded host what was asked for is seen, and not the passage; and the
// guard's programs stand where they must.
func TestTakeOnAGuardedHost(t *testing.T) {
	redirecttest.Lock(t)
	dst := "192.0.2.7:5432"
	cfg := redirect.Config{
		Mode: "cgroup", Port: redirecttest.Port(t), Pins: redirecttest.TempPins(t), Covered: []string{redirecttest.Cgroup(t)},
		Destinations: []intercept.Destination{intercept.Endpoint(netip.MustParseAddrPort(dst))},
	}
	g, err := redirect.Up(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	passage, err := g.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer passage.Close()
	caller := as(t, "caller", "call", dst)
	dir, err := os.Open(cgroupRoot(t) + cfg.Covered[0])
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	caller.cmd.SysProcAttr.UseCgroupFD, caller.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	inv := takeWhile(t, func() {
		if err := caller.cmd.Run(); err != nil {
			t.Error(err)
		}
		if s, err := redirect.GetStatus(cfg.Pins); err != nil || !s.Up {
			t.Errorf("the guard: %v, %+v", err, s.Programs)
		}
	}, nil)
	var to []string
	for _, c := range inv.Contacts {
		if c.Cgroup == cfg.Covered[0] {
			to = append(to, c.Destination.String())
		}
	}
	if !slices.Equal(to, []string{dst}) {
		t.Errorf("it was seen to reach %v, not %s", to, dst)
	}
}

// takeWhile takes an inventory of the time in which do runs.
func takeWhile(t *testing.T, do func(), describe func(string) string) *discover.Inventory {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks := 0
	inv, err := discover.Take(ctx, discover.Options{CgroupRoot: cgroupRoot(t), Every: 50 * time.Millisecond, Describe: describe, Progress: func(int, int) {
		if looks++; looks == 1 {
			do()
		} else {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}
