package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// ask makes the doctor's checks of workloads.
func ask(t *testing.T, cfg *config.Config) map[string]finding {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	var l findings
	l.workloads(redirect.Host{}, cfg, root)
	all := map[string]finding{}
	for _, f := range l {
		if !f.OK && f.Remedy == "" {
			t.Errorf("no remedy: %+v", f)
		}
		all[f.Check] = f
	}
	return all
}

// stay runs a command in a cgroup until the test ends, and returns its process.
func stay(t *testing.T, cgroup string, args ...string) int {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root + cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(args[0], append(args[1:], "sh", "-c", "echo ready; read x")...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if b := make([]byte, 6); func() error { _, err := out.Read(b); return err }() != nil || string(b) != "ready\n" {
		t.Fatalf("%q does not run: %q", args, b)
	}
	return cmd.Process.Pid
}

var asAgent = []string{"setpriv", "--reuid", fmt.Sprint(agentUID), "--regid", fmt.Sprint(agentUID), "--clear-groups"}

func TestDoctorNamesPowerfulProcesses(t *testing.T) {
	cgroup := redirecttest.Cgroup(t)
	uid := uint32(agentUID)
	inCgroups := &config.Config{Interception: config.Interception{Mode: "cgroup", Cgroups: []string{cgroup}}}
	onHost := &config.Config{
		Interception: config.Interception{Mode: "host"},
		Identity:     config.Identity{Workloads: []config.Workload{{Name: "a", Match: config.Match{UID: &uid}}}},
	}
	exempt := &config.Config{Interception: config.Interception{Mode: "host", Exempt: config.ExemptPaths(cgroup)}, Identity: onHost.Identity}
	harmless := stay(t, cgroup, append(asAgent, "--bounding-set", "-all")...)
	namespaced := stay(t, cgroup, append(asAgent, "unshare", "-Ur")...)
	for _, c := range []*config.Config{inCgroups, onHost, exempt} {
		found := ask(t, c)
		for _, check := range []string{"agents", "raw packets"} {
			for _, pid := range []int{harmless, namespaced} {
				if f := found[check]; strings.Contains(f.Detail, fmt.Sprintf("%d (", pid)) {
					t.Errorf("%s: %+v", c.Interception.Mode, f)
				}
			}
		}
	}
	caps := map[string]string{"setuid": "agents", "dac_override": "agents", "sys_module": "agents", "sys_ptrace": "agents", "bpf": "agents", "net_raw": "raw packets"}
	for name, check := range caps {
		pid := stay(t, cgroup, append(asAgent, "--inh-caps", "+"+name, "--ambient-caps", "+"+name)...)
		want := fmt.Sprintf("%d (sh, user %d, %s) CAP_%s", pid, agentUID, cgroup, strings.ToUpper(name))
		for _, c := range []*config.Config{inCgroups, onHost} {
			if f := ask(t, c)[check]; f.OK || !strings.Contains(f.Detail, want) && !strings.Contains(f.Detail, "more") {
				t.Errorf("%s, %s: %+v", c.Interception.Mode, name, f)
			}
		}
		if f := ask(t, exempt)[check]; strings.Contains(f.Detail, want) {
			t.Errorf("exempt: %+v", f)
		}
	}
	// A service of the host that no workload is of is told, and no failure.
	other := stay(t, cgroup, "setpriv", "--reuid", "64199", "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw")
	if f := ask(t, onHost)["services"]; !f.OK || !strings.Contains(f.Detail, fmt.Sprintf("%d (", other)) {
		t.Errorf("%+v", f)
	}
}

// A process can leave where the doctor says so, and nowhere else.
func TestDoctorNamesOpenCgroups(t *testing.T) {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	parent := redirecttest.Cgroup(t)
	inner := parent + "/agents"
	if err := os.Mkdir(root+inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Rmdir(root + inner) })
	c := &config.Config{Interception: config.Interception{Mode: "cgroup", Cgroups: []string{inner}}}
	leave := func() error {
		dir, err := os.Open(root + inner)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd := exec.Command(asAgent[0], append(asAgent[1:], "sh", "-c", "echo $$ > "+root+parent+"/cgroup.procs")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		return cmd.Run()
	}
	procs := root + parent + "/cgroup.procs"
	for _, step := range []struct {
		what  string
		uid   int
		mode  os.FileMode
		leave bool
	}{
		{"root's", 0, 0o644, false},
		{"the agent's", agentUID, 0o644, true},
		{"everybody's", 0, 0o666, true},
		{"root's again", 0, 0o644, false},
	} {
		if err := os.Chown(procs, step.uid, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(procs, step.mode); err != nil {
			t.Fatal(err)
		}
		f := ask(t, c)["cgroups"]
		if f.OK == step.leave || step.leave && !strings.Contains(f.Detail, parent+" (") {
			t.Errorf("%s: %+v", step.what, f)
		}
		if err := leave(); (err == nil) != step.leave {
			t.Errorf("%s: leaving: %v", step.what, err)
		}
	}
}

// The test binary also plays who connects to a unix socket.
func init() {
	if path := os.Getenv("SALLYPORT_CONNECT"); path != "" {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// connectAs connects to a unix socket as a user.
func connectAs(uid uint32, path string) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"SALLYPORT_CONNECT=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.Run()
}

// setACL gives a file an access control list of more than its mode.
func setACL(t *testing.T, path string, more []aclEntry) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mode := uint16(fi.Mode().Perm())
	all := append([]aclEntry{{aclUserObj, mode >> 6, 0}, {aclGroupObj, mode >> 3 & 7, 0}, {aclOther, mode & 7, 0}}, more...)
	slices.SortStableFunc(all, func(a, b aclEntry) int { return int(a.tag) - int(b.tag) })
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range all {
		id := e.id
		if e.tag != aclUser && e.tag != aclGroup {
			id = ^uint32(0)
		}
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", b, 0); err != nil {
		t.Fatal(err)
	}
}

// What the doctor says of a unix socket is what happens to who tries.
func TestDoctorTriesUnixSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "sallyport-sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	folder := filepath.Join(dir, "run")
	path := filepath.Join(folder, ".s.PGSQL.5432")
	for _, f := range []func() error{
		func() error { return os.Chmod(dir, 0o755) }, func() error { return os.Mkdir(folder, 0o755) },
		func() error { return os.Symlink(folder, filepath.Join(dir, "link")) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	uid := uint32(agentUID)
	cgroup := redirecttest.Cgroup(t)
	c := &config.Config{
		Interception: config.Interception{Mode: "cgroup", Cgroups: []string{cgroup}},
		Resources:    []config.Resource{{Name: "clinic", Unix: []string{filepath.Join(dir, "link", ".s.PGSQL.5432")}}},
		Identity:     config.Identity{Workloads: []config.Workload{{Name: "a", Match: config.Match{UID: &uid}}}},
	}
	connects := func() bool { return connectAs(agentUID, path) == nil }
	for _, step := range []struct {
		what         string
		folder, sock os.FileMode
		list         string     // what has an access control list
		acl          []aclEntry // its entries besides the mode's
		reached      bool
	}{
		{"open to all", 0o755, 0o777, "", nil, true},
		{"a folder of its group", 0o750, 0o777, "", nil, false},
		{"a socket of its group", 0o755, 0o770, "", nil, false},
		{"a socket that may be read", 0o755, 0o774, "", nil, false},
		{"let in by a list", 0o750, 0o777, folder, []aclEntry{{aclUser, 1, agentUID}, {aclMask, 7, 0}}, true},
		{"kept out by a list", 0o755, 0o777, folder, []aclEntry{{aclUser, 0, agentUID}, {aclMask, 7, 0}}, false},
		{"a list without effect", 0o750, 0o777, folder, []aclEntry{{aclUser, 1, agentUID}, {aclMask, 4, 0}}, false},
		{"a list of others", 0o750, 0o777, folder, []aclEntry{{aclUser, 1, agentUID + 1}, {aclMask, 7, 0}}, false},
		{"a socket's list", 0o755, 0o770, path, []aclEntry{{aclGroup, 6, agentUID}, {aclMask, 7, 0}}, true},
		{"a group that is kept out", 0o755, 0o777, path, []aclEntry{{aclGroup, 4, agentUID}, {aclMask, 7, 0}}, false},
	} {
		for _, p := range []string{folder, path} {
			_ = unix.Removexattr(p, "system.posix_acl_access")
		}
		if err := os.Chmod(folder, step.folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, step.sock); err != nil {
			t.Fatal(err)
		}
		if step.acl != nil {
			setACL(t, step.list, step.acl)
		}
		// As a workload that does not run, and as a running process.
		running := *c
		running.Identity = config.Identity{}
		pid := stay(t, cgroup, asAgent...)
		both := []*config.Config{&running, c}
		if slices.ContainsFunc(step.acl, func(e aclEntry) bool { return e.tag == aclGroup }) {
			both = both[:1] // the account has no group that the system knows
		}
		for _, c := range both {
			f := ask(t, c)["unix socket "+c.Resources[0].Unix[0]]
			if f.OK == step.reached || step.reached && !(strings.Contains(f.Detail, path) && strings.Contains(f.Remedy, "unix_socket_permissions = 0770")) {
				t.Errorf("%s: %+v", step.what, f)
			}
		}
		if connects() != step.reached {
			t.Errorf("%s: the agent's connect disagrees", step.what)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// A second name of it.
	if err := os.Link(path, filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	if f := ask(t, c)["unix socket "+c.Resources[0].Unix[0]]; f.OK || !strings.Contains(f.Detail, "second name") {
		t.Errorf("%+v", f)
	}
}

// A mount namespace that lacks the socket keeps its processes from it.
func TestDoctorSeesMountNamespaces(t *testing.T) {
	dir, err := os.MkdirTemp("", "sallyport-sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "db.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	cgroup := redirecttest.Cgroup(t)
	c := &config.Config{
		Interception: config.Interception{Mode: "cgroup", Cgroups: []string{cgroup}},
		Resources:    []config.Resource{{Name: "clinic", Unix: []string{path}}},
	}
	hide := append([]string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, dir}, asAgent...)
	stay(t, cgroup, hide...)
	if f := ask(t, c)["unix socket "+path]; !f.OK {
		t.Errorf("hidden: %+v", f)
	}
	stay(t, cgroup, asAgent...)
	if f := ask(t, c)["unix socket "+path]; f.OK {
		t.Errorf("seen: %+v", f)
	}
}
