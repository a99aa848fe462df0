package workload_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/workload"
)

func matched(path string) func(workload.CgroupMatched) bool {
	return func(e workload.CgroupMatched) bool { return e.Path == path }
}

func goneID(id uint64) func(workload.CgroupGone) bool {
	return func(e workload.CgroupGone) bool { return e.ID == id }
}

// What was there before is told first; what appears is told at once; of nested
// ones only the outermost.
func TestOutermostMatch(t *testing.T) {
	base := top(t)
	mkdir(t, base+"/agents.slice/agent@1.service/inner")
	f := follow(t, workload.Options{Selectors: []workload.Selector{{Cgroup: "/nowhere"}, {Cgroup: base + "/**.service/**"}, {Cgroup: base + "/**.service"}}})
	if !has(f, matched(base+"/agents.slice/agent@1.service")) || has(f, matched(base+"/agents.slice/agent@1.service/inner")) {
		t.Fatalf("%#v", f.seen)
	}
	mkdir(t, base+"/agents.slice/agent@2.service/inner/deep.service")
	e := until(f, "the second service", matched(base+"/agents.slice/agent@2.service"))
	if e.ID != id(t, e.Path) || e.Selector != 2 {
		t.Fatalf("%+v", e)
	}
	mkdir(t, base+"/marker.service")
	until(f, "the marker", matched(base+"/marker.service"))
	for _, p := range []string{"/agents.slice/agent@2.service/inner", "/agents.slice/agent@2.service/inner/deep.service"} {
		if has(f, matched(base+p)) {
			t.Errorf("%s is below a match and was told", p)
		}
	}
}

// The cgroup of a service that restarts has the same name and another id.
func TestRemovedAndMadeAgain(t *testing.T) {
	base := top(t)
	path := base + "/agent.service"
	mkdir(t, path)
	f := follow(t, workload.Options{Selectors: []workload.Selector{{Cgroup: path}}})
	var slowest time.Duration
	for range 50 {
		old := id(t, path)
		if err := unix.Rmdir(cgroupRoot(t) + path); err != nil {
			t.Fatal(err)
		}
		mkdir(t, path)
		made := time.Now()
		now := id(t, path)
		e := until(f, "the new one", func(e workload.CgroupMatched) bool { return e.ID == now })
		slowest = max(slowest, time.Since(made))
		if e.Path != path || !has(f, goneID(old)) {
			t.Fatalf("%+v; told: %#v", e, f.seen)
		}
	}
	t.Logf("slowest of 50: %v", slowest)
}

// A storm of cgroups overflows the kernel's queue of notices and loses nobody.
func TestOverflow(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/fs/inotify/max_queued_events", []byte("16"), 0); err != nil {
		t.Fatal(err)
	}
	base := top(t)
	f := follow(t, workload.Options{Selectors: []workload.Selector{{Cgroup: base + "/*/x"}}})
	if err := os.WriteFile("/proc/sys/fs/inotify/max_queued_events", b, 0); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for i := range 300 {
		p := base + "/" + strconv.Itoa(i) + "/x"
		mkdir(t, p)
		want[p] = true
	}
	for len(want) > 0 {
		e := until(f, "all of them", func(e workload.CgroupMatched) bool { return true })
		delete(want, e.Path)
	}
}

func TestNetworkNamespaces(t *testing.T) {
	base := top(t)
	covered, other := base+"/covered", base+"/other"
	mkdir(t, covered+"/sub")
	mkdir(t, other)
	f := follow(t, workload.Options{Selectors: []workload.Selector{{Cgroup: covered}}})
	mine := sleeper(t, covered+"/sub", syscall.CLONE_NEWNET)
	theirs := sleeper(t, other, syscall.CLONE_NEWNET)
	ino := netns(t, mine)
	e := until(f, "its namespace", func(e workload.NetnsAppeared) bool { return e.Inode == ino })
	if e.PID != mine.Process.Pid || e.Own || e.Path != covered+"/sub" {
		t.Fatalf("%+v", e)
	}
	end(mine)
	until(f, "its end", func(e workload.NetnsGone) bool { return e.Inode == ino })
	stranger := netns(t, theirs)
	if has(f, func(e workload.NetnsAppeared) bool { return e.Inode == stranger }) {
		t.Error("the namespace of an uncovered process was told")
	}
	// Moved into the covered cgroup, by another process's write.
	if err := os.WriteFile(cgroupRoot(t)+covered+"/cgroup.procs", []byte(strconv.Itoa(theirs.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	until(f, "that of the one that moved", func(e workload.NetnsAppeared) bool { return e.Inode == stranger })
}

// The opened file leads into the namespace, with the process long gone.
func TestNamespaceFileOutlivesProcess(t *testing.T) {
	base := top(t)
	tr, err := workload.NewTracker(workload.Options{Host: workload.Host{Cgroups: cgroupRoot(t)}, Always: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- tr.Run(ctx) }()
	p := sleeper(t, base, syscall.CLONE_NEWNET)
	ino := netns(t, p)
	for e := range tr.Events() {
		n, ok := e.(workload.NetnsAppeared)
		if !ok || n.Inode != ino {
			continue
		}
		defer n.File.Close()
		end(p)
		var st unix.Stat_t
		if err := unix.Fstat(int(n.File.Fd()), &st); err != nil || st.Ino != ino {
			t.Fatal(st.Ino, err)
		}
		return
	}
}

func TestHostMode(t *testing.T) {
	base := top(t)
	mkdir(t, base+"/exempt")
	mkdir(t, base+"/agent")
	f := follow(t, workload.Options{HostMode: true, Selectors: []workload.Selector{{Cgroup: base + "/exempt"}}})
	if !has(f, func(e workload.NetnsAppeared) bool { return e.Own }) {
		t.Error("the host's own namespace was not told, where uncovered processes are")
	}
	out := sleeper(t, base+"/exempt", syscall.CLONE_NEWNET)
	in := sleeper(t, base+"/agent", syscall.CLONE_NEWNET)
	ino, not := netns(t, in), netns(t, out)
	until(f, "the agent's namespace", func(e workload.NetnsAppeared) bool { return e.Inode == ino })
	if has(f, func(e workload.NetnsAppeared) bool { return e.Inode == not }) {
		t.Error("the namespace of one that is exempt was told")
	}
}

func TestSelectors(t *testing.T) {
	base := top(t)
	mkdir(t, base+"/a/b")
	host := workload.Host{Cgroups: cgroupRoot(t)}
	if _, err := workload.NewTracker(workload.Options{Host: host, Selectors: []workload.Selector{{}}}); err == nil {
		t.Fatal("an empty selector was taken")
	}
	f := follow(t, workload.Options{Selectors: []workload.Selector{{Cgroup: base + "/a"}}, Always: []string{base + "/c"}})
	told(f, "the outer one", matched(base+"/a"))
	mkdir(t, base+"/c")
	if e := until(f, "the one without a selector", matched(base+"/c")); e.Selector != -1 {
		t.Errorf("%+v", e)
	}
	found, err := host.Find([]workload.Selector{{Cgroup: base + "/*"}, {Cgroup: base + "/a/b"}})
	if err != nil || len(found) != 2 {
		t.Errorf("%+v %v", found, err)
	}
}

// A container's state may come after its cgroup; until then what is in it is
// no container.
func TestStateComesLater(t *testing.T) {
	base := top(t)
	path := base + "/" + ctrID
	root := t.TempDir()
	must(t, os.Symlink("/proc", root+"/proc"))
	f := follow(t, workload.Options{Host: workload.Host{Root: root}, Selectors: []selector{{Container: &container{Name: "web"}}, {Cgroup: base + "/marker"}}})
	mkdir(t, path+"/inner") // which looks like a part of the container too
	time.Sleep(30 * time.Millisecond)
	later := state{bundles + "moby/" + ctrID + "/config.json": oci(path, nil), "var/lib/docker/containers/" + ctrID + "/config.v2.json": dockerState(ctrID, "web", "nginx", nil)}
	later.below(t, root)
	if e := until(f, "the container", matched(path)); e.ID != id(t, path) || e.Description.Container.Name != "web" {
		t.Errorf("%+v", e)
	}
	if has(f, func(e workload.Undescribed) bool { return true }) {
		t.Errorf("told as unknown: %#v", f.seen)
	}
	// Another one stays unknown, and that is told once.
	unknown := base + "/docker-" + sandboxID + ".scope"
	mkdir(t, unknown)
	e := until(f, "that it is unknown", func(e workload.Undescribed) bool { return true })
	if e.Path != unknown || e.ID != id(t, unknown) || e.Err == nil {
		t.Errorf("%+v", e)
	}
	p := sleeper(t, unknown, 0)
	time.Sleep(700 * time.Millisecond)
	end(p)
	f.seen = nil
	mkdir(t, base+"/marker")
	until(f, "the marker", matched(base+"/marker"))
	if has(f, func(e workload.Undescribed) bool { return true }) {
		t.Errorf("told again: %#v", f.seen)
	}
	if has(f, matched(path+"/inner")) && !has(f, goneID(id(t, path+"/inner"))) {
		t.Error("what is below the container stays a match of its own")
	}
}

// Notices about processes are many where somebody makes them: nobody else
// waits for that.
func TestStormOfMoves(t *testing.T) {
	base := top(t)
	mkdir(t, base+"/noisy/a")
	mkdir(t, base+"/noisy/b")
	f := follow(t, workload.Options{HostMode: true, Selectors: []selector{{Cgroup: base + "/new"}}})
	p := sleeper(t, base+"/noisy/a", 0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		pid := []byte(strconv.Itoa(p.Process.Pid))
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(cgroupRoot(t)+base+"/noisy/"+string(rune('a'+i%2))+"/cgroup.procs", pid, 0)
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	time.Sleep(200 * time.Millisecond)
	mkdir(t, base+"/new")
	until(f, "the quiet one", matched(base+"/new"))
}

// A thread may be in a namespace that its process is not in.
func TestNamespaceOfAThread(t *testing.T) {
	base := top(t)
	b, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	_, home, _ := strings.Cut(string(b), "0::")
	home, _, _ = strings.Cut(home, "\n")
	move := func(to string) { must(t, os.WriteFile(cgroupRoot(t)+to+"/cgroup.procs", []byte("0"), 0)) }
	move(base)
	t.Cleanup(func() { move(home) })
	inodes, done, ended := make(chan uint64), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			t.Error(err)
		}
		inodes <- st.Ino
		<-done
	}()
	ino := <-inodes
	f := follow(t, workload.Options{Always: []string{base}})
	f.Look(os.Getpid())
	until(f, "the thread's namespace", func(e workload.NetnsAppeared) bool { return e.Inode == ino })
	time.Sleep(3500 * time.Millisecond) // sweeps do not take it for gone
	close(done)
	<-ended
	f.seen = nil
	until(f, "its end", func(e workload.NetnsGone) bool { return e.Inode == ino })
	if has(f, func(e workload.NetnsAppeared) bool { return e.Inode == ino }) {
		t.Error("it was given up while the thread was in it")
	}
}

// Nobody can take all the room for namespaces, and who tries is told of.
func TestTooManyNamespaces(t *testing.T) {
	base := top(t)
	mkdir(t, base+"/a.slice/hoarder.service")
	f := follow(t, workload.Options{Always: []string{base}})
	for range 257 {
		sleeper(t, base+"/a.slice/hoarder.service", syscall.CLONE_NEWNET)
	}
	e := until(f, "that they are too many", func(e workload.Trouble) bool { return true })
	if !strings.Contains(e.Err.Error(), base) || !strings.Contains(e.Err.Error(), "256 of one") {
		t.Error(e.Err)
	}
	other := sleeper(t, base, syscall.CLONE_NEWNET)
	ino := netns(t, other)
	until(f, "another's", func(e workload.NetnsAppeared) bool { return e.Inode == ino })
	n := 0
	for _, e := range f.seen {
		if e, ok := e.(workload.NetnsAppeared); ok && !e.Own {
			n++
		}
	}
	if n != 257 {
		t.Errorf("%d namespaces were told", n)
	}
}
