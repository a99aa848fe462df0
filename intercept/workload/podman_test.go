package workload_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/workload"
)

// engine is podman with a storage and a cgroup of the test's own.
type engine struct {
	t    *testing.T
	root string // of all its files
	top  string // its containers' parent cgroup
}

func (e engine) run(args ...string) string {
	e.t.Helper()
	// It looks for cgroups where a distribution mounts them, and leaves a cache
	// in /var/lib.
	args = append([]string{
		"-m", "--propagation", "private", "sh", "-c", `mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /var/lib && exec podman "$@"`, "podman",
		"--root", e.root + "/var/lib/containers/storage", "--runroot", e.root + "/run", "--tmpdir", e.root + "/run/libpod",
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc", "--log-level", "error",
	}, args...)
	cmd := exec.Command("unshare", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		e.t.Fatalf("podman %q: %v\n%s", args[len(args)-3:], err, &errs)
	}
	return strings.TrimSpace(out.String())
}

// start runs a container and returns its id.
func (e engine) start(name string, more ...string) string {
	e.t.Helper()
	args := append([]string{
		"run", "--detach", "--name", name, "--cgroup-parent", e.top, "--pids-limit", "0", "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512",
		"--label", "team=clinic", "--annotation", "role=agent",
	}, more...)
	id := e.run(append(args, "registry.example/agents/sleeper:1", "/sleep", "300")...)
	e.t.Cleanup(func() { e.run("rm", "--force", "--time", "0", "--ignore", name) })
	return id
}

// image is a tar with a static program that sleeps, and nothing else.
func image(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/sleep.go", []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(5 * time.Minute) }\n"), 0o600))
	build := exec.Command("go", "build", "-o", dir+"/sleep", dir+"/sleep.go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(dir + "/sleep")
	must(t, err)
	f, err := os.Create(dir + "/image.tar")
	must(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	must(t, w.WriteHeader(&tar.Header{Name: "sleep", Mode: 0o755, Size: int64(len(b))}))
	_, err = w.Write(b)
	must(t, err)
	must(t, w.Close())
	return dir + "/image.tar"
}

// A real podman's containers are found when they start, by their names, and so
// is the network namespace of each that has one of its own.
func TestPodman(t *testing.T) {
	if _, err := exec.LookPath("podman"); err != nil {
		t.Fatal("podman is missing: run `make deps`")
	}
	root, err := os.MkdirTemp("", "podman") // it takes no long names
	must(t, err)
	t.Cleanup(func() {
		for range 3000 { // its last process may still be writing
			if err = os.RemoveAll(root); err == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Error(err)
	})
	e := engine{t: t, root: root, top: top(t)}
	must(t, os.Symlink("/proc", e.root+"/proc"))
	e.run("import", image(t), "registry.example/agents/sleeper:1")
	f := follow(t, workload.Options{Host: workload.Host{Root: e.root}, Selectors: []selector{
		{Container: &container{Name: "agent-*", Image: "registry.example/agents/**", Labels: map[string]string{"role": "agent"}}},
	}})
	agent := e.start("agent-1", "--network", "none")
	want := e.top + "/libpod-" + agent
	m := until(f, "the agent's container", matched(want))
	if c := m.Description.Container; m.ID != id(t, want) || c.Runtime != "podman" || c.ID != agent || c.Name != "agent-1" || c.Image != "registry.example/agents/sleeper:1" {
		t.Errorf("%+v", m)
	}
	if v, ok := m.Description.Container.Labels["team"]; ok {
		t.Errorf("podman keeps labels where they can be read by now (team=%s): read them", v)
	}
	told(f, "its network namespace", func(n workload.NetnsAppeared) bool { return n.Path == want && !n.Own })

	other := e.start("other", "--network", "none", "--rm")
	d, err := workload.Host{Root: e.root}.Describe(e.top + "/libpod-" + other)
	if err != nil || d.Container.Name != "other" || d.Container.Image != "registry.example/agents/sleeper:1" {
		t.Errorf("run with --rm: %+v %v", d, err)
	}
	host := e.start("agent-2", "--network", "host")
	until(f, "the one in the host's network", matched(e.top+"/libpod-"+host))
	told(f, "the host's namespace", func(n workload.NetnsAppeared) bool { return n.Own })
	if has(f, matched(e.top+"/libpod-"+other)) {
		t.Error("the other container was told")
	}
	// A cgroup with the name of the agent's, in another place.
	forged := filepath.Join(e.top, "libpod-"+other, "libpod-"+agent)
	mkdir(t, forged)
	if d, err := (workload.Host{Root: e.root}).Describe(forged); err != nil || d.Container.Name != "other" {
		t.Errorf("forged: %+v %v", d, err)
	}
	must(t, os.Remove(cgroupRoot(t)+forged))
	e.run("stop", "--time", "0", "agent-1")
	until(f, "its end", goneID(m.ID))
}
