package workload_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/workload"
)

const (
	podUID   = "0f8e3c1a-9f5d-4d0e-8a51-6a4f3f1f7a11"
	podUnder = "0f8e3c1a_9f5d_4d0e_8a51_6a4f3f1f7a11"
	bundles  = "run/containerd/io.containerd.runtime.v2.task/"
	storage  = "var/lib/containers/storage/overlay-containers/"
	pods     = "var/lib/kubelet/pods/"
)

var (
	ctrID     = strings.Repeat("0123456789abcdef", 4)
	sandboxID = strings.Repeat("fedcba9876543210", 4)
)

// state is files below a root, by name.
type state map[string]string

func (s state) under(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	s.below(t, root)
	return root
}

func (s state) below(t *testing.T, root string) {
	t.Helper()
	for name, text := range s {
		name = filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(text), 0o600))
	}
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// oci is a container's OCI config: where its cgroup is, and its annotations.
func oci(cgroupsPath string, annotations map[string]string) string {
	return jsonOf(map[string]any{
		"ociVersion": "1.2.0", "process": map[string]any{"args": []string{"/agent"}}, "annotations": annotations,
		"linux": map[string]any{"cgroupsPath": cgroupsPath, "namespaces": []map[string]string{{"type": "network"}}},
	})
}

func dockerState(id, name, image string, labels map[string]string) string {
	return jsonOf(map[string]any{
		"State": map[string]any{"Running": true, "Pid": 4711}, "ID": id, "Name": "/" + name, "Image": "sha256:77",
		"Config": map[string]any{"Hostname": id[:12], "Image": image, "Labels": labels},
	})
}

func token(ns, pod, uid, account string) string {
	payload := jsonOf(map[string]any{"aud": []string{"sallyport"}, "kubernetes.io": map[string]any{
		"namespace": ns, "pod": map[string]string{"name": pod, "uid": uid}, "serviceaccount": map[string]string{"name": account, "uid": "x"},
	}})
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature"))
}

// Kubernetes through CRI of containerd.
var criAnnotations = map[string]string{
	"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": sandboxID,
	"io.kubernetes.cri.sandbox-namespace": "agents", "io.kubernetes.cri.sandbox-name": "runner-1", "io.kubernetes.cri.sandbox-uid": podUID,
	"io.kubernetes.cri.container-name": "agent", "io.kubernetes.cri.image-name": "registry.example/agents/runner:4",
}

// crio is the OCI config of a container that CRI-O made.
func crio(cgroupsPath, kind string, labels map[string]string) string {
	return oci(cgroupsPath, map[string]string{
		"io.container.manager": "cri-o", "io.kubernetes.cri-o.ContainerType": kind, "io.kubernetes.cri-o.SandboxID": sandboxID,
		"io.kubernetes.cri-o.ImageName": "registry.example/agents/runner:4", "io.kubernetes.cri-o.Labels": jsonOf(labels),
		// What a pod's own annotation could have set.
		"io.kubernetes.cri-o.Namespace": "kube-system", "io.kubernetes.cri-o.KubeName": "etcd",
	})
}

func kubeLabels(more map[string]string) map[string]string {
	l := map[string]string{"io.kubernetes.pod.name": "runner-1", "io.kubernetes.pod.namespace": "agents", "io.kubernetes.pod.uid": podUID}
	for k, v := range more {
		l[k] = v
	}
	return l
}

func TestDescribe(t *testing.T) {
	web := dockerState(ctrID, "web", "nginx:1.29", map[string]string{"team": "clinic"})
	webIs := workload.ContainerState{Runtime: "docker", ID: ctrID, Name: "web", Image: "nginx:1.29", Labels: map[string]string{"team": "clinic"}}
	criIs := workload.ContainerState{Runtime: "containerd", ID: ctrID, Name: "agent", Image: "registry.example/agents/runner:4"}
	pod := workload.PodState{UID: podUID, Name: "runner-1", Namespace: "agents", ServiceAccount: "runner"}
	sa := pods + podUID + "/volumes/kubernetes.io~projected/kube-api-access-x7/token"
	tok := token("agents", "runner-1", podUID, "runner")
	kubeSlices := []string{"kubepods.slice", "kubepods-burstable.slice", "kubepods-burstable-pod" + podUnder + ".slice"}
	kubeSystemd := "/" + strings.Join(kubeSlices, "/")
	podman := map[string]string{"io.container.manager": "libpod", "io.podman.annotations.autoremove": "FALSE", "role": "agent"}
	podmanIndex := jsonOf([]map[string]any{
		{"id": sandboxID, "names": []string{"other"}, "metadata": `{"image-name":"other","name":"other"}`},
		{"id": ctrID, "names": []string{"web1"}, "image": "47d8", "metadata": `{"image-name":"registry.example/agents/sleeper:1","image-id":"47d8","name":"web1","created-at":1795737397}`},
	})
	podmanIs := workload.ContainerState{Runtime: "podman", ID: ctrID, Name: "web1", Image: "registry.example/agents/sleeper:1", Labels: podman}

	for name, c := range map[string]struct {
		path  string
		state state
		want  workload.Description // without its path
	}{
		"root":  {path: "/"},
		"plain": {path: "/jobs/7"},
		"unit":  {path: "/agents.slice/agents-batch.slice/agent@1.service/inner", want: workload.Description{Slices: []string{"agents.slice", "agents-batch.slice"}, Unit: "agent@1.service"}},
		"slices below a unit are the unit's own": {
			path: "/system.slice/ci.service/agents.slice/agent@1.service",
			want: workload.Description{Slices: []string{"system.slice"}, Unit: "ci.service"},
		},
		"escaped": {path: "/system.slice/_cgroup.service", want: workload.Description{Slices: []string{"system.slice"}, Unit: "cgroup.service"}},
		"user's unit": {
			path: "/user.slice/user-1201.slice/user@1201.service/app.slice/agent.service/x",
			want: workload.Description{
				Slices: []string{"user.slice", "user-1201.slice"}, Unit: "user@1201.service", UserSlices: []string{"app.slice"}, UserUnit: "agent.service",
			},
		},
		"docker, cgroupfs": {
			path:  "/docker/" + ctrID,
			state: state{bundles + "moby/" + ctrID + "/config.json": oci("/docker/"+ctrID, nil), "var/lib/docker/containers/" + ctrID + "/config.v2.json": web},
			want:  workload.Description{Container: webIs},
		},
		"docker, systemd, below it": {
			path:  "/system.slice/docker-" + ctrID + ".scope/init.scope",
			state: state{bundles + "moby/" + ctrID + "/config.json": oci("system.slice:docker:"+ctrID, nil), "var/lib/docker/containers/" + ctrID + "/config.v2.json": web},
			want:  workload.Description{Slices: []string{"system.slice"}, Unit: "docker-" + ctrID + ".scope", Container: webIs},
		},
		"docker, its own containerd and data-root": {
			path: "/agents.slice/agents-web.slice/docker-" + ctrID + ".scope",
			state: state{
				"run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/" + ctrID + "/config.json": oci("agents-web.slice:docker:"+ctrID, nil),
				"srv/docker/containers/" + ctrID + "/config.v2.json":                                        web, "etc/docker/daemon.json": `{"data-root": "/srv/docker"}`,
			},
			want: workload.Description{Slices: []string{"agents.slice", "agents-web.slice"}, Unit: "docker-" + ctrID + ".scope", Container: webIs},
		},
		"docker of Kubernetes": {
			path: "/kubepods/burstable/pod" + podUID + "/" + ctrID,
			state: state{
				bundles + "moby/" + ctrID + "/config.json": oci("/kubepods/burstable/pod"+podUID+"/"+ctrID, nil),
				"var/lib/docker/containers/" + ctrID + "/config.v2.json": dockerState(ctrID, "k8s_agent_runner-1", "runner@sha256:1",
					kubeLabels(map[string]string{"io.kubernetes.container.name": "agent", "io.kubernetes.sandbox.id": sandboxID})),
				"var/lib/docker/containers/" + sandboxID + "/config.v2.json": dockerState(sandboxID, "k8s_POD", "pause", kubeLabels(map[string]string{"app": "runner"})),
				sa: tok,
			},
			want: workload.Description{
				Container: workload.ContainerState{
					Runtime: "docker", ID: ctrID, Name: "agent", Image: "runner@sha256:1",
					Labels: kubeLabels(map[string]string{"io.kubernetes.container.name": "agent", "io.kubernetes.sandbox.id": sandboxID}),
				},
				Pod: workload.PodState{UID: podUID, Name: "runner-1", Namespace: "agents", ServiceAccount: "runner", Labels: map[string]string{"app": "runner"}},
			},
		},
		"labels of Kubernetes outside of a pod's cgroup are labels": {
			path: "/docker/" + ctrID,
			state: state{
				bundles + "moby/" + ctrID + "/config.json":               oci("/docker/"+ctrID, nil),
				"var/lib/docker/containers/" + ctrID + "/config.v2.json": dockerState(ctrID, "web", "nginx:1.29", kubeLabels(nil)),
			},
			want: workload.Description{Container: workload.ContainerState{Runtime: "docker", ID: ctrID, Name: "web", Image: "nginx:1.29", Labels: kubeLabels(nil)}},
		},
		"containerd of Kubernetes, systemd": {
			path:  kubeSystemd + "/cri-containerd-" + ctrID + ".scope",
			state: state{bundles + "k8s.io/" + ctrID + "/config.json": oci(kubeSlices[2]+":cri-containerd:"+ctrID, criAnnotations), sa: tok},
			want:  workload.Description{Slices: kubeSlices, Unit: "cri-containerd-" + ctrID + ".scope", Container: criIs, Pod: pod},
		},
		"containerd of Kubernetes, cgroupfs, guaranteed, k3s": {
			path: "/kubepods/pod" + podUID + "/" + ctrID,
			state: state{
				"run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" + ctrID + "/config.json": oci("/kubepods/pod"+podUID+"/"+ctrID, criAnnotations), sa: tok,
			},
			want: workload.Description{Container: criIs, Pod: pod},
		},
		"tokens that disagree name nobody": {
			path: "/kubepods/pod" + podUID + "/" + ctrID,
			state: state{
				bundles + "k8s.io/" + ctrID + "/config.json": oci("/kubepods/pod"+podUID+"/"+ctrID, criAnnotations), sa: tok,
				pods + podUID + "/volumes/kubernetes.io~projected/b/token": token("agents", "runner-1", podUID, "admin"),
			},
			want: workload.Description{Container: criIs, Pod: workload.PodState{UID: podUID, Name: "runner-1", Namespace: "agents"}},
		},
		"tokens of others are none": {
			path: "/kubepods/pod" + podUID + "/" + ctrID,
			state: state{
				bundles + "k8s.io/" + ctrID + "/config.json":                oci("/kubepods/pod"+podUID+"/"+ctrID, criAnnotations),
				pods + podUID + "/volumes/kubernetes.io~projected/a/token":  token("agents", "runner-1", "another", "admin"),
				pods + podUID + "/volumes/kubernetes.io~projected/b/token":  token("other", "runner-1", podUID, "admin"),
				pods + podUID + "/volumes/kubernetes.io~projected/c/token":  "not a token",
				pods + podUID + "/volumes/kubernetes.io~projected/d/secret": tok,
			},
			want: workload.Description{Container: criIs, Pod: workload.PodState{UID: podUID, Name: "runner-1", Namespace: "agents"}},
		},
		"nerdctl": {
			path: "/system.slice/nerdctl-" + ctrID + ".scope",
			state: state{bundles + "default/" + ctrID + "/config.json": oci("system.slice:nerdctl:"+ctrID, map[string]string{
				"nerdctl/name": "web", "nerdctl/namespace": "default", "team": "clinic",
			})},
			want: workload.Description{
				Slices: []string{"system.slice"}, Unit: "nerdctl-" + ctrID + ".scope",
				Container: workload.ContainerState{
					Runtime: "containerd", ID: ctrID, Name: "web",
					Labels: map[string]string{"nerdctl/name": "web", "nerdctl/namespace": "default", "team": "clinic"},
				},
			},
		},
		"podman, systemd": {
			path:  "/machine.slice/libpod-" + ctrID + ".scope/container",
			state: state{storage + ctrID + "/userdata/config.json": oci("machine.slice:libpod:"+ctrID, podman), storage + "containers.json": podmanIndex},
			want:  workload.Description{Slices: []string{"machine.slice"}, Unit: "libpod-" + ctrID + ".scope", Container: podmanIs},
		},
		"podman, cgroupfs, in a pod of its own, run with --rm": {
			path: "/libpod_parent/" + sandboxID + "/libpod-" + ctrID,
			state: state{
				storage + ctrID + "/userdata/config.json": oci("/libpod_parent/"+sandboxID+"/libpod-"+ctrID, podman),
				storage + "containers.json":               `[]`, storage + "volatile-containers.json": podmanIndex,
			},
			want: workload.Description{Container: podmanIs},
		},
		"podman, split": {
			path:  "/system.slice/web.service/libpod-payload-" + ctrID,
			state: state{storage + ctrID + "/userdata/config.json": oci("/system.slice/web.service/libpod-payload-"+ctrID, podman), storage + "containers.json": podmanIndex},
			want:  workload.Description{Slices: []string{"system.slice"}, Unit: "web.service", Container: podmanIs},
		},
		"CRI-O": {
			path: kubeSystemd + "/crio-" + ctrID + ".scope",
			state: state{
				storage + ctrID + "/userdata/config.json":     crio(kubeSlices[2]+":crio:"+ctrID, "container", kubeLabels(map[string]string{"io.kubernetes.container.name": "agent"})),
				storage + sandboxID + "/userdata/config.json": crio(kubeSlices[2]+":crio:"+sandboxID, "sandbox", kubeLabels(map[string]string{"app": "runner"})),
				sa: tok,
			},
			want: workload.Description{
				Slices: kubeSlices, Unit: "crio-" + ctrID + ".scope",
				Container: workload.ContainerState{Runtime: "cri-o", ID: ctrID, Name: "agent", Image: "registry.example/agents/runner:4", Labels: map[string]string{}},
				Pod:       workload.PodState{UID: podUID, Name: "runner-1", Namespace: "agents", ServiceAccount: "runner", Labels: map[string]string{"app": "runner"}},
			},
		},
		"a container in a container belongs to the outer one": {
			path: "/docker/" + ctrID + "/kubepods/pod" + podUID + "/" + sandboxID,
			state: state{
				bundles + "moby/" + ctrID + "/config.json": oci("/docker/"+ctrID, nil), "var/lib/docker/containers/" + ctrID + "/config.v2.json": web,
				// Even where the host's own state would say so.
				bundles + "k8s.io/" + sandboxID + "/config.json": oci("/docker/"+ctrID+"/kubepods/pod"+podUID+"/"+sandboxID, criAnnotations),
			},
			want: workload.Description{Container: webIs},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := workload.Host{Root: c.state.under(t)}
			c.want.Path = c.path
			got, err := h.Describe(c.path)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v\n got %+v\nwant %+v", err, got, c.want)
			}
		})
	}
}

// The kubelet's volumes lead to their files by links, twice.
func TestServiceAccountThroughLinks(t *testing.T) {
	path := "/kubepods/pod" + podUID + "/" + ctrID
	root := state{bundles + "k8s.io/" + ctrID + "/config.json": oci(path, criAnnotations)}.under(t)
	volume := filepath.Join(root, pods+podUID+"/volumes/kubernetes.io~projected/kube-api-access-x7")
	if err := os.MkdirAll(volume+"/..2026_11", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("..2026_11", volume+"/..data"), os.Symlink("..data/token", volume+"/token"),
		os.WriteFile(volume+"/..2026_11/token", []byte(token("agents", "runner-1", podUID, "runner")), 0o640)); err != nil {
		t.Fatal(err)
	}
	h := workload.Host{Root: root}
	d, err := h.Describe(path)
	if err != nil || d.Pod.ServiceAccount != "runner" {
		t.Fatalf("%+v %v", d, err)
	}
	// Out of the volume no link is followed.
	outside := filepath.Join(root, "outside")
	if err := errors.Join(os.WriteFile(outside, []byte(token("agents", "runner-1", podUID, "admin")), 0o600), os.Remove(volume+"/token"),
		os.Symlink("../../../../../../../../outside", volume+"/token")); err != nil {
		t.Fatal(err)
	}
	if d, err = h.Describe(path); err != nil || d.Pod.ServiceAccount != "" {
		t.Fatalf("%+v %v", d, err)
	}
}

// Who may make cgroups, or write to some files, makes himself nobody else.
func TestForgery(t *testing.T) {
	cfg := bundles + "moby/" + ctrID + "/config.json"
	meta := "var/lib/docker/containers/" + ctrID + "/config.v2.json"
	good := func() state {
		return state{cfg: oci("system.slice:docker:"+ctrID, nil), meta: dockerState(ctrID, "web", "nginx", nil)}
	}
	real := "/system.slice/docker-" + ctrID + ".scope"
	for name, c := range map[string]struct {
		path string
		do   func(t *testing.T, s state) (root string)
		want string // of the error
	}{
		"in a user's cgroup":         {"/user.slice/user-1201.slice/user@1201.service/docker-" + ctrID + ".scope", nil, "another cgroup"},
		"in a unit's":                {"/system.slice/ci.service/system.slice/docker-" + ctrID + ".scope", nil, "another cgroup"},
		"with another driver's name": {"/docker/" + ctrID, nil, "another cgroup"},
		"another runtime's name":     {"/system.slice/libpod-" + ctrID + ".scope", nil, "no state of it with podman"},
		"no state":                   {real, func(t *testing.T, s state) string { return t.TempDir() }, "no state of it with docker"},
		"rootless":                   {"/user.slice/user-1201.slice/user@1201.service/user.slice/libpod-" + ctrID + ".scope", nil, "no state of it with podman"},
		"a relative cgroup": {real, func(t *testing.T, s state) string {
			s[cfg] = oci("docker-"+ctrID+".scope", nil)
			return s.under(t)
		}, "another cgroup"},
		"a slice that is none": {real, func(t *testing.T, s state) string {
			s[cfg] = oci("system.slice/..:docker:"+ctrID, nil)
			return s.under(t)
		}, "another cgroup"},
		"state that is not JSON": {real, func(t *testing.T, s state) string {
			s[cfg] = "{"
			return s.under(t)
		}, "config.json"},
		"another container's state": {real, func(t *testing.T, s state) string {
			s[meta] = dockerState(sandboxID, "web", "nginx", nil)
			return s.under(t)
		}, "of another container"},
		"state of a user's": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Chown(filepath.Join(root, cfg), 1201, 1201))
			return root
		}, "only root may"},
		"state that others may write": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Chmod(filepath.Join(root, meta), 0o666))
			return root
		}, "only root may"},
		"a folder that others may write to": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Chmod(filepath.Dir(filepath.Join(root, cfg)), 0o777))
			return root
		}, "only root may"},
		"state by a link": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Rename(filepath.Join(root, cfg), filepath.Join(root, "elsewhere")))
			must(t, os.Symlink("../../../../../elsewhere", filepath.Join(root, cfg)))
			return root
		}, "too many levels of symbolic links"},
		"state that is a pipe's": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Remove(filepath.Join(root, cfg)))
			must(t, unix.Mkfifo(filepath.Join(root, cfg), 0o600))
			return root
		}, "not a regular file"},
		"huge state": {real, func(t *testing.T, s state) string {
			root := s.under(t)
			must(t, os.Truncate(filepath.Join(root, cfg), 5<<20))
			return root
		}, "more than the limit"},
		"a pod that its cgroup is not of": {"/kubepods/pod" + podUID + "/" + ctrID, func(t *testing.T, s state) string {
			other := map[string]string{}
			for k, v := range criAnnotations {
				other[k] = v
			}
			other["io.kubernetes.cri.sandbox-uid"] = "11111111-9f5d-4d0e-8a51-6a4f3f1f7a11"
			return state{bundles + "k8s.io/" + ctrID + "/config.json": oci("/kubepods/pod"+podUID+"/"+ctrID, other)}.under(t)
		}, "names pod"},
		"podman's state under CRI-O's name": {"/kubepods/pod" + podUID + "/crio-" + ctrID, func(t *testing.T, s state) string {
			return state{storage + ctrID + "/userdata/config.json": oci("/kubepods/pod"+podUID+"/crio-"+ctrID, map[string]string{"io.container.manager": "libpod"})}.under(t)
		}, "manager"},
	} {
		t.Run(name, func(t *testing.T) {
			root := ""
			if c.do != nil {
				root = c.do(t, good())
			} else {
				root = good().under(t)
			}
			d, err := workload.Host{Root: root}.Describe(c.path)
			if !errors.Is(err, workload.ErrNotDescribed) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			if d.Container.Runtime != "" || d.Container.Name != "" || d.Pod.Name != "" || d.Path != c.path {
				t.Errorf("%+v", d)
			}
		})
	}
	// The same state, in its own cgroup, is believed.
	if d, err := (workload.Host{Root: good().under(t)}).Describe(real); err != nil || d.Container.Name != "web" {
		t.Errorf("%+v %v", d, err)
	}
	for _, path := range []string{"", "a", "/a/", "/a/../b", "/a\x00b"} {
		if d, err := (workload.Host{}).Describe(path); err == nil {
			t.Errorf("%q was described: %+v", path, d)
		}
	}
}

// A data folder on another disk is often a link; the root is not left by it.
func TestStateFolderMayBeALink(t *testing.T) {
	path := "/docker/" + ctrID
	s := state{bundles + "moby/" + ctrID + "/config.json": oci(path, nil), "srv/docker/containers/" + ctrID + "/config.v2.json": dockerState(ctrID, "web", "nginx", nil)}
	root := s.under(t)
	must(t, os.MkdirAll(filepath.Join(root, "var/lib"), 0o755))
	must(t, os.Symlink("/srv/docker", filepath.Join(root, "var/lib/docker")))
	if d, err := (workload.Host{Root: root}).Describe(path); err != nil || d.Container.Name != "web" {
		t.Errorf("%+v %v", d, err)
	}
}

func FuzzDescribe(f *testing.F) {
	for _, p := range []string{"/", "/docker/" + ctrID, "/system.slice/docker-" + ctrID + ".scope/x", "/user.slice/user@1.service/a.slice/b.service"} {
		f.Add(p)
	}
	h := workload.Host{Root: f.TempDir()}
	f.Fuzz(func(t *testing.T, path string) {
		d, err := h.Describe(path)
		if d.Container.Runtime != "" || d.Pod.Name != "" {
			t.Fatalf("%q: a container without any state: %+v", path, d)
		}
		if err == nil && d.Path != path {
			t.Fatalf("%q is %q", path, d.Path)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
