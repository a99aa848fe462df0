package redirect_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect"
)

const guarded = "/sallyport.guarded"

func TestTurned(t *testing.T) {
	v4 := server(t, "127.0.0.1:0")
	v6 := server(t, "[::1]:0")
	open(t, config(t, v4, v6))

	mapped := netip.AddrPortFrom(netip.AddrFrom16(v4.Addr().As16()), v4.Port())
	for _, c := range []struct{ name, kind, to, peer, dst string }{
		{"v4", "tcp", v4.String(), v4.String(), v4.String()},
		{"v6", "tcp6", v6.String(), v6.String(), v6.String()},
		{"mapped", "tcp6", mapped.String(), mapped.String(), v4.String()},
		{"any v4", "tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), v4.Port()).String(), v4.String(), v4.String()},
		{"any v6", "tcp6", netip.AddrPortFrom(netip.IPv6Unspecified(), v6.Port()).String(), v6.String(), v6.String()},
		{"any mapped", "tcp6", netip.AddrPortFrom(netip.MustParseAddr("::ffff:0.0.0.0"), v4.Port()).String(), mapped.String(), v4.String()},
		{"bound source", "bound", v4.String(), v4.String(), v4.String()},
		// An MPTCP socket's peer name is not hidden: the record is its subflow's.
		{"mptcp", "mptcp", v4.String(), "", v4.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := ask[dialled](t, guarded, "dial", c.kind, c.to)
			f, ok := d.facts()
			if !ok {
				t.Fatalf("not turned: %+v", d)
			}
			if c.peer != "" && d.Peername != c.peer {
				t.Errorf("getpeername %s, want %s", d.Peername, c.peer)
			}
			if f.Destination.String() != c.dst {
				t.Errorf("destination %s, want %s", f.Destination, c.dst)
			}
			proved(t, &d, &f)
		})
	}
}

// proved compares the kernel's facts with what the agent knows of itself.
func proved(t *testing.T, d *dialled, f *flow) {
	t.Helper()
	root, _ := redirect.Host{}.CgroupRoot()
	cgroup, exe := inode(t, filepath.Join(root, guarded)), inode(t, "/proc/self/exe")
	p := f.Peer
	if p.TGID != d.PID || p.PID != d.TID {
		t.Errorf("pid %d/%d, want %d/%d", p.TGID, p.PID, d.PID, d.TID)
	}
	if !redirect.SameStart(p.Start, d.Start) {
		t.Errorf("start %d, want %d", p.Start, d.Start)
	}
	if p.PidInode != d.PidInode || (d.PidInode == 0) != (release(t) < 609) {
		t.Errorf("pid inode %d, want the pidfd's %d", p.PidInode, d.PidInode)
	}
	if p.UID != nobody || p.GID != nobody {
		t.Errorf("uid %d gid %d, want %d", p.UID, p.GID, nobody)
	}
	if p.CgroupID != cgroup.Ino || p.SockCgroup != cgroup.Ino {
		t.Errorf("cgroup %d, socket's %d, want %d", p.CgroupID, p.SockCgroup, cgroup.Ino)
	}
	if p.ExeInode != exe.Ino || p.ExeDev != exe.Dev {
		t.Errorf("exe %d:%d, want %d:%d", p.ExeDev, p.ExeInode, exe.Dev, exe.Ino)
	}
	if ns := inode(t, "/proc/self/ns/pid"); uint64(p.PidNS) != ns.Ino {
		t.Errorf("pid namespace %d, want %d", p.PidNS, ns.Ino)
	}
	if p.NetnsCookie == 0 || p.Comm == "" {
		t.Errorf("netns cookie %d, comm %q", p.NetnsCookie, p.Comm)
	}
}

func inode(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t)
}
