package privsep_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/workload"
)

// container makes a cgroup named like a container of Docker's, a process in
// it, and, below root, the state that says so; lives is where it says that the
// container lives, "" for its cgroup.
func container(t *testing.T, root, id, lives string) (path string, a *actor) {
	t.Helper()
	path = testCgroup(t) + "/docker-" + id + ".scope"
	if err := os.Mkdir(cgroupRoot(t)+path, 0o755); err != nil {
		t.Fatal(err)
	}
	if lives == "" {
		lives = path
	}
	state := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, name, string(b), 0, 0o600)
	}
	state("run/containerd/io.containerd.runtime.v2.task/moby/"+id+"/config.json",
		map[string]any{"ociVersion": "1.2.0", "linux": map[string]any{"cgroupsPath": lives}})
	state("var/lib/docker/containers/"+id+"/config.v2.json",
		map[string]any{"ID": id, "Name": "/billing-1", "Config": map[string]any{"Image": "clinic/billing:3", "Labels": map[string]string{"team": "clinic"}}})
	a = agent(t, nobody)
	if err := os.WriteFile(cgroupRoot(t)+path+"/cgroup.procs", []byte(strconv.Itoa(a.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Process.Kill()
		_ = a.Wait()
		_ = os.Remove(cgroupRoot(t) + path) // else its parent stays, which fails the test
	})
	return path, a
}

func TestProveByContainer(t *testing.T) {
	root, id := t.TempDir(), strings.Repeat("ab", 32)
	path, a := container(t, root, id, "")
	peer := peerOf(t, a.Process.Pid)
	token := write(t, filepath.Join(root, "token"), "tok", 0, 0o600)
	w := func(name string, m privsep.Match) privsep.Workload {
		return privsep.Workload{Name: name, Match: m, TokenFile: token}
	}
	p := prover(t, "",
		w("billing", privsep.Match{Container: &workload.Container{Name: "billing-*", Labels: map[string]string{"team": "clinic"}}, UID: ptr(uint32(nobody))}),
		w("other", privsep.Match{Container: &workload.Container{Name: "other"}}),
		w("pod", privsep.Match{Kubernetes: &workload.Kubernetes{Namespace: "**"}}))
	p.ReadStateBelow(root)
	pr, err := p.Prove(context.Background(), &peer)
	if err != nil || pr.Workload != "billing" || pr.Cgroup != path {
		t.Fatalf("%+v %v", pr, err)
	}
	// By its cgroup all the same, and never both.
	if err := p.SetWorkloads([]privsep.Workload{
		w("image", privsep.Match{Container: &workload.Container{Image: "clinic/**"}}), w("any", privsep.Match{Cgroup: "/**"}),
	}); err != nil {
		t.Fatal(err)
	}
	_, err = p.Prove(context.Background(), &peer)
	refused(t, err, "both match")
	if err := p.SetWorkloads([]privsep.Workload{w("empty", privsep.Match{Kubernetes: &workload.Kubernetes{}})}); err == nil {
		t.Fatal("a selector that selects everything was taken")
	}
}

// The name of somebody else's container makes nobody that container.
func TestProveRefusesForgedContainer(t *testing.T) {
	root, id := t.TempDir(), strings.Repeat("cd", 32)
	_, a := container(t, root, id, "/system.slice/docker-"+id+".scope")
	peer := peerOf(t, a.Process.Pid)
	token := write(t, filepath.Join(root, "token"), "tok", 0, 0o600)
	p := prover(t, "",
		privsep.Workload{Name: "billing", Match: privsep.Match{Container: &workload.Container{Name: "billing-*"}}, TokenFile: token},
		privsep.Workload{Name: "all", Match: privsep.Match{Cgroup: "/**"}, TokenFile: token})
	p.ReadStateBelow(root)
	_, err := p.Prove(context.Background(), &peer)
	refused(t, err, "another cgroup")
	// Without any state it is what its path says.
	p.ReadStateBelow(t.TempDir())
	pr, err := p.Prove(context.Background(), &peer)
	if err != nil || pr.Workload != "all" {
		t.Fatalf("%+v %v", pr, err)
	}
}

// Whom the kernel refused has a name for the record, alive or not.
func TestName(t *testing.T) {
	root, id := t.TempDir(), strings.Repeat("ef", 32)
	path, a := container(t, root, id, "")
	peer := peerOf(t, a.Process.Pid)
	self, _ := os.Executable()
	p := prover(t, "", privsep.Workload{Name: "billing", Match: privsep.Match{
		Container: &workload.Container{Name: "billing-1"}, Exe: self, UID: ptr(uint32(nobody)),
	}})
	p.ReadStateBelow(root)
	want := intercept.Proof{Workload: "billing", Exe: self, Cgroup: path}
	name := func(peer *intercept.Peer, want intercept.Proof) {
		t.Helper()
		got, err := p.Name(context.Background(), peer)
		if err != nil || got.Workload != want.Workload || got.Exe != want.Exe || got.Cgroup != want.Cgroup || got.Token != nil {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
	}
	name(&peer, want)
	other := peer
	other.UID++
	name(&other, intercept.Proof{Exe: self, Cgroup: path})
	_ = a.Process.Kill()
	_ = a.Wait()
	want.Exe = ""
	name(&peer, want)
	name(&intercept.Peer{SockCgroup: peer.CgroupID, UID: nobody}, intercept.Proof{Cgroup: path}) // its executable is not known
	peer.CgroupID = 1 << 60
	name(&peer, intercept.Proof{})
	name(&intercept.Peer{}, intercept.Proof{})
}
