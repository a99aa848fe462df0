package privsep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/cgroup"
)

const (
	execPrefix = "exec-"
	// tokenAttr holds, on a cgroup, the path of its token file.
	tokenAttr = "trusted.sallyport.token"

	sweepEvery = 250 * time.Millisecond
)

var execName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)

// enter makes the cgroup, gives it its token, and moves the caller there.
func (c *Control) enter(e enter, who caller) (string, error) {
	if e.name == "" {
		e.name = strings.ToLower(rand.Text()[:12])
	}
	if !execName.MatchString(e.name) {
		return "", fmt.Errorf("name %q: use up to 63 letters, digits, - and _", e.name)
	}
	path := c.prover.guarded + "/" + execPrefix + e.name
	dir := c.prover.cgroupDir(path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("cgroup %s is in use: choose another --name", path)
	} else if err != nil {
		return "", fmt.Errorf("make cgroup %s: %w", path, err)
	}
	err := unix.Setxattr(dir, tokenAttr, []byte(e.tokenFile), unix.XATTR_CREATE)
	if err == nil && e.personFile != "" {
		err = unix.Setxattr(dir, personAttr, []byte(e.personFile), unix.XATTR_CREATE)
	}
	if err == nil {
		err = pidfdAlive(who.pidfd)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(int(who.pid))), 0)
	}
	if err == nil {
		// Alive still: then the number was the caller's all the time.
		err = pidfdAlive(who.pidfd)
	}
	if err != nil {
		_ = cgroup.Remove(dir, 0)
		return "", fmt.Errorf("enter cgroup %s: %w", path, err)
	}
	return path, nil
}

func (c *Control) sweepLoop(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		c.sweep()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sweep removes the cgroups of commands that have ended.
func (c *Control) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs, _ := filepath.Glob(c.prover.cgroupDir(c.prover.guarded) + "/" + execPrefix + "*")
	for _, dir := range dirs {
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.events")); err == nil && strings.Contains(string(b), "populated 0") {
			_ = cgroup.Remove(dir, 0) // populated again meanwhile: next time
		}
	}
}
