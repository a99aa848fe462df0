package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// openSocket serves a unix socket that is open to all, in a folder of its own
// below one that lets nobody through.
func openSocket(t *testing.T) (folder, path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	folder = filepath.Join(dir, "run")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(folder, "db.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return folder, path
}

// What keeps a process from a socket at its usual path keeps nobody from it
// where the folder, or the socket, is mounted at another one.
func TestDoctorFindsASocketMountedElsewhere(t *testing.T) {
	folder, path := openSocket(t) // MkdirTemp's folder is root's alone
	elsewhere := t.TempDir()
	for dir := elsewhere; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(elsewhere, "of it alone")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(elsewhere, "sockets")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	cgroup := redirecttest.Cgroup(t)
	c := &config.Config{
		Interception: config.Interception{Mode: "cgroup", Cgroups: []string{cgroup}},
		Resources:    []config.Resource{{Name: "clinic", Unix: []string{path}}},
	}
	found := func() finding { return ask(t, c)["unix socket "+path] }
	stay(t, cgroup, asAgent...)
	if f := found(); !f.OK {
		t.Fatalf("below a folder of root's: %+v", f)
	}
	for _, m := range []struct{ from, to, at string }{
		{folder, inner, filepath.Join(inner, "db.sock")}, {path, file, file},
	} {
		pid := stay(t, cgroup, append([]string{"unshare", "-m", "sh", "-c", `mount --bind "$0" "$1" && shift && exec "$@"`, m.from, m.to}, asAgent...)...)
		if f := found(); f.OK || !strings.Contains(f.Detail, m.at) {
			t.Errorf("mounted at %s: %+v", m.at, f)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		within(t, "it has ended", func() bool { return found().OK })
	}
}

// A process may become each of its users, not the effective one alone.
func TestDoctorTakesEachUserOfAProcess(t *testing.T) {
	p := process{pid: 0, ids: []uint32{1000, 1000, 26, 1000}, gids: []uint32{1000}}
	who := map[uint32]bool{}
	for _, a := range accounts(&config.Config{}, &cover{}, []process{p}) {
		who[a.uid] = true
	}
	if len(who) != 2 || !who[26] || !who[1000] {
		t.Errorf("%v", who)
	}
}

// A capability of one thread is the process's.
func TestDoctorLooksAtThreads(t *testing.T) {
	// Of two threads one is not the process's first. They end with the test.
	ready, done := make(chan struct{}), make(chan struct{})
	defer close(done)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() != os.Getpid() {
				if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 4711, 4711, 4711); errno != 0 {
					t.Error(errno)
				}
			}
			ready <- struct{}{}
			<-done
		}()
	}
	<-ready
	<-ready
	all, err := processes(redirect.Host{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.pid == os.Getpid() {
			if !strings.Contains(fmt.Sprint(p.ids), "4711") {
				t.Errorf("users %v lack the thread's", p.ids)
			}
			return
		}
	}
	t.Error("this process is not among them")
}

// Who owns cgroup.procs can give himself what its mode lacks.
func TestDoctorNamesCgroupsOfAnOwner(t *testing.T) {
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
	procs := root + parent + "/cgroup.procs"
	if err := os.Chown(procs, agentUID, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(procs, 0o444); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Interception: config.Interception{Mode: "cgroup", Cgroups: []string{inner}}}
	if f := ask(t, c)["cgroups"]; f.OK {
		t.Errorf("%+v", f)
	}
	dir, err := os.Open(root + inner)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(asAgent[0], append(asAgent[1:], "sh", "-c", "chmod 644 "+procs+" && echo $$ > "+procs)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the agent could not leave after all: %v: %s", err, out)
	}
}

func TestDoctorKnowsWhatModprobeFinds(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "6.1.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "alias net-pf-4 ipx\nalias net-pf-40 vsock\n"
	if err := os.WriteFile(filepath.Join(dir, "6.1.0", "modules.alias"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if !loads(dir, "6.1.0", vsockAlias) || loads(dir, "6.1.0", "net-pf-41") || loads(dir, "6.2.0", vsockAlias) || loads(dir, "", vsockAlias) {
		t.Error("it is taken for what it is not")
	}
}
