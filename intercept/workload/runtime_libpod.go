package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// storage is where podman and CRI-O keep containers: a folder of each driver
// with ID/userdata/config.json for each, and an index.
const storage = "/var/lib/containers/storage/"

var storageFolders = []string{storage + "overlay-containers", storage + "vfs-containers", storage + "btrfs-containers", storage + "zfs-containers"}

// libpodConfig finds a container's OCI config; cgroup "" takes any.
func (h Host) libpodConfig(id, cgroup, manager string) (cfg *ociConfig, folder string, err error) {
	for _, folder := range storageFolders {
		cfg, err := h.readConfig(folder, id+"/userdata/config.json", cgroup)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && cfg.Annotations["io.container.manager"] != manager {
			err = fmt.Errorf("its manager is %.64q, not %s", cfg.Annotations["io.container.manager"], manager)
		}
		return cfg, folder, err
	}
	return nil, "", fmt.Errorf("%s*-containers/%s: %w", storage, id, fs.ErrNotExist)
}

// podman describes podman's containers. Their labels stand only in its
// database, which is not read; annotations (podman run --annotation) stand in
// the OCI config and are taken in their place.
func (h Host) podman(d *Description, c candidate) error {
	cfg, folder, err := h.libpodConfig(c.id, c.path, "libpod")
	if err != nil {
		return err
	}
	d.Container = ContainerState{Runtime: podman, Labels: cfg.Annotations}
	d.Container.Name, d.Container.Image, err = h.storageNames(folder, c.id)
	return err
}

// storageNames finds a container's name and image in the storage's index.
// container.go of containers/storage; libpod/storage.go of podman.
func (h Host) storageNames(folder, id string) (name, image string, err error) {
	for _, index := range []struct{ folder, name string }{
		{folder, "containers.json"}, {folder, "volatile-containers.json"}, // those that are run with --rm
	} {
		b, err := h.read(index.folder, index.name, maxIndex)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		var all []struct {
			ID       string   `json:"id"`
			Names    []string `json:"names"`
			Metadata string   `json:"metadata"`
		}
		if err := json.Unmarshal(b, &all); err != nil {
			return "", "", fmt.Errorf("%s/%s: %w", index.folder, index.name, err)
		}
		for _, e := range all {
			if e.ID != id {
				continue
			}
			var m struct {
				Name  string `json:"name"`
				Image string `json:"image-name"`
			}
			if err := json.Unmarshal([]byte(e.Metadata), &m); err != nil {
				return "", "", fmt.Errorf("%s/%s: metadata of %.12s: %w", index.folder, index.name, id, err)
			}
			if m.Name == "" && len(e.Names) > 0 {
				m.Name = e.Names[0]
			}
			return m.Name, m.Image, nil
		}
	}
	return "", "", nil // of --rootfs: it has a name in the database only
}

// crio describes CRI-O's containers. What Kubernetes calls them is taken from
// the labels that the kubelet gave: CRI-O adds the pod's own annotations to the
// config before it, so that a pod could have set some of the others.
// internal/factory/container of CRI-O.
func (h Host) crio(d *Description, c candidate) error {
	cfg, _, err := h.libpodConfig(c.id, c.path, "cri-o")
	if err != nil {
		return err
	}
	labels, err := crioLabels(cfg)
	if err != nil {
		return err
	}
	const key = "io.kubernetes.cri-o."
	d.Container = ContainerState{
		Runtime: crio, Name: labels["io.kubernetes.container.name"],
		Image: cfg.Annotations[key+"ImageName"], Labels: userLabels(labels),
	}
	d.Pod = podOfLabels(labels)
	if sandbox := cfg.Annotations[key+"SandboxID"]; cgroupName.MatchString(sandbox) && sandbox != c.id {
		cfg, _, err := h.libpodConfig(sandbox, "", "cri-o")
		if err != nil {
			return fmt.Errorf("pod's sandbox: %w", err)
		}
		if labels, err = crioLabels(cfg); err != nil {
			return fmt.Errorf("pod's sandbox: %w", err)
		}
		if labels["io.kubernetes.pod.uid"] != d.Pod.UID {
			return errors.New("pod's sandbox: is of another pod")
		}
	}
	d.Pod.Labels = userLabels(labels)
	return nil
}

func crioLabels(cfg *ociConfig) (labels map[string]string, err error) {
	if err = json.Unmarshal([]byte(cfg.Annotations["io.kubernetes.cri-o.Labels"]), &labels); err != nil {
		err = fmt.Errorf("annotation io.kubernetes.cri-o.Labels: %w", err)
	}
	return labels, err
}
