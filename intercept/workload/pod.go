package workload

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// podCgroup takes a pod's cgroup name apart: podUID with the cgroupfs driver,
// PARENT-podUID.slice with the systemd driver, where the UID's dashes are
// underscores. pkg/kubelet/cm of Kubernetes.
var podCgroup = regexp.MustCompile(`^(?:pod([0-9a-f-]{32,36})|[A-Za-z0-9_.-]*kubepods[A-Za-z-]*-pod([0-9a-f_]{32,36})\.slice)$`)

// podUID returns the pod that a container's cgroup belongs to, "" for none.
func podUID(container string) string {
	m := podCgroup.FindStringSubmatch(path.Base(path.Dir(container)))
	if m == nil {
		return ""
	}
	return m[1] + strings.ReplaceAll(m[2], "_", "-")
}

// podOfLabels reads the labels that the kubelet gives every container.
func podOfLabels(l map[string]string) PodState {
	return PodState{UID: l["io.kubernetes.pod.uid"], Name: l["io.kubernetes.pod.name"], Namespace: l["io.kubernetes.pod.namespace"]}
}

// userLabels leaves the kubelet's own labels out.
func userLabels(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if !strings.HasPrefix(k, "io.kubernetes.") && !strings.HasPrefix(k, "annotation.") {
			out[k] = v
		}
	}
	return out
}

// finishPod holds what the runtime says of a pod against the cgroup, and looks
// up the service account.
func (h Host) finishPod(d *Description, c candidate) (err error) {
	uid := podUID(c.path)
	if uid == "" {
		d.Pod = PodState{} // only the kubelet's pods are pods
		return nil
	}
	if d.Pod.UID != "" && d.Pod.UID != uid {
		return fmt.Errorf("its state names pod %.64q, its cgroup pod %s", d.Pod.UID, uid)
	}
	if d.Pod.Namespace == "" || d.Pod.Name == "" {
		return errors.New("it is in a pod's cgroup, and its state names no pod")
	}
	d.Pod.UID = uid
	d.Pod.ServiceAccount, err = h.serviceAccount(d.Pod)
	return err
}

// serviceAccount reads a pod's service account out of the tokens that the
// kubelet made for it. They are not verified: the folder is the kubelet's. ""
// where there is no token, or where two disagree.
func (h Host) serviceAccount(p PodState) (string, error) {
	base := "/var/lib/kubelet/pods/" + p.UID + "/volumes/kubernetes.io~projected"
	volumes, err := h.names(base)
	if err != nil {
		return "", err
	}
	found := ""
	for _, v := range volumes {
		name, err := h.tokenAccount(base+"/"+v, p)
		if err != nil || name == "" {
			continue // a volume without a token, or a "token" of the pod's own
		}
		if found != "" && found != name {
			return "", nil
		}
		found = name
	}
	return found, nil
}

func (h Host) tokenAccount(volume string, p PodState) (string, error) {
	dir, err := h.folder(volume)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	// token is a link to ..data/token, and ..data one to a folder of the
	// volume's: the kubelet swaps them at once.
	fd, err := openat2(dir, "token", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), "token")
	defer f.Close()
	b, err := readRegular(f, maxToken)
	if err != nil {
		return "", err
	}
	parts := bytes.Split(b, []byte("."))
	if len(parts) != 3 {
		return "", errors.New("is no token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(string(parts[1]))
	if err != nil {
		return "", err
	}
	var claims struct {
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Pod       struct {
				UID string `json:"uid"`
			} `json:"pod"`
			ServiceAccount struct {
				Name string `json:"name"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", err
	}
	k := claims.Kubernetes
	if k.Pod.UID != p.UID || k.Namespace != p.Namespace {
		return "", errors.New("is of another pod")
	}
	return k.ServiceAccount.Name, nil
}
