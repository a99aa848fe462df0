package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Find returns the cgroups that selectors match at this moment, the uppermost
// of each branch, as a Tracker would tell them. An error besides them names
// cgroups that look like containers and can't be described.
func (h Host) Find(ss []Selector) (found []CgroupMatched, err error) {
	set, err := Compile(ss)
	if err != nil || len(set.all) == 0 {
		return nil, err
	}
	if h.Cgroups == "" {
		return nil, errors.New("workload: Host.Cgroups: name the folder where cgroup2 is mounted")
	}
	if _, err := os.ReadDir(h.Cgroups); err != nil {
		return nil, fmt.Errorf("workload: %w", err)
	}
	var unsure []error
	err = filepath.WalkDir(h.Cgroups, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // gone meanwhile
		}
		path := "/" + strings.TrimPrefix(strings.TrimPrefix(p, h.Cgroups), "/")
		d, err := describePath(path)
		if err == nil && set.state {
			d, err = h.Describe(path)
		}
		index, ok := set.Match(&d)
		if !ok {
			if err != nil {
				unsure = append(unsure, err)
			}
			return nil
		}
		fi, err := os.Stat(p)
		if err != nil {
			return nil
		}
		found = append(found, CgroupMatched{Path: path, ID: fi.Sys().(*syscall.Stat_t).Ino, Selector: index, Description: d})
		return fs.SkipDir
	})
	return found, errors.Join(err, errors.Join(unsure...))
}
