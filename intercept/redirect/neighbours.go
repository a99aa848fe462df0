package redirect

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Neighbour is another BPF program at a hook that decides where connections
// go: a socket load balancer, or somebody who should not be there.
type Neighbour struct {
	Cgroup  string `json:"cgroup"` // below the cgroup2 root
	Hook    string `json:"hook"`   // "connect4", ...
	Program uint32 `json:"program"`
	Name    string `json:"name"`
}

// neighbourHooks are where another program's order matters.
var neighbourHooks = map[string]ebpf.AttachType{
	"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
}

// neighbours finds the programs of others in the whole cgroup tree.
func neighbours(dir, root string) ([]Neighbour, error) {
	var own []ebpf.ProgramID
	for _, h := range hooks {
		if l, err := link.LoadPinnedLink(h.pin(dir), nil); err == nil {
			if info, err := l.Info(); err == nil {
				own = append(own, info.Program)
			}
			l.Close()
		}
	}
	var found []Neighbour
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // gone meanwhile
		}
		f, err := os.Open(p)
		if err != nil {
			return nil
		}
		defer f.Close()
		for name, attach := range neighbourHooks {
			live, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: attach})
			if err != nil {
				continue
			}
			for _, prog := range live.Programs {
				if !slices.Contains(own, prog.ID) {
					found = append(found, Neighbour{
						Cgroup: "/" + strings.TrimPrefix(strings.TrimPrefix(p, root), "/"), Hook: name,
						Program: uint32(prog.ID), Name: programName(prog.ID),
					})
				}
			}
		}
		return nil
	})
	return found, err
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}
