package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, canaryCmd) }

const (
	// canaryCommand is what the loader starts in a guarded cgroup.
	canaryCommand = "canary"
	// canaryTime is what a connection has, on a busy host too.
	canaryTime = 10 * time.Second
	// canaryCgroup is made below a cgroup that can't hold processes itself.
	canaryCgroup = "sallyport.canary"
)

func canaryCmd() *cobra.Command {
	return &cobra.Command{
		Use:    canaryCommand,
		Short:  "Connect as a guarded process does, for the loader",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := privsep.Confine(); err != nil {
				return err
			}
			var errs []error
			for _, c := range redirect.Canaries {
				err := redirect.Canary(c, canaryTime)
				if c.Addr().Is6() && noIPv6(err) {
					continue
				}
				errs = append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				fmt.Fprint(cmd.OutOrStdout(), err)
			}
			return nil
		},
	}
}

// noIPv6: the host has none, or not on its loopback.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH)
}

// errNoCanary: a cgroup can't be tried, which says nothing about its cover.
var errNoCanary = errors.New("no process can be started in it")

// sendCanary starts a process in a cgroup, which connects to the canaries. It
// returns nil where the passage answered. With ctx it ends.
func sendCanary(ctx context.Context, root, path string, uid, gid uint32) error {
	dir := filepath.Join(root, path)
	err := sendCanaryFrom(ctx, dir, uid, gid)
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	// A cgroup that hands controllers to its children holds no processes.
	below := filepath.Join(dir, canaryCgroup)
	if err := os.Mkdir(below, 0o755); err != nil && !os.IsExist(err) {
		return fmt.Errorf("%w: %w", errNoCanary, err)
	}
	defer cgroup.Remove(below, leaveTime) // by the next canary, if not now
	return sendCanaryFrom(ctx, below, uid, gid)
}

func sendCanaryFrom(ctx context.Context, dir string, uid, gid uint32) error {
	folder, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCanary, err)
	}
	defer folder.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCanary, err)
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		null.Close()
		return fmt.Errorf("%w: %w", errNoCanary, err)
	}
	defer out.Close()
	var stderr bytes.Buffer
	child, err := privsep.StartHelper(privsep.Options{
		Path: "/proc/self/exe", Args: []string{"sallyport", canaryCommand}, Env: []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=64MiB"},
		UID: uid, GID: gid, Cgroup: folder, Stderr: &stderr,
	}, privsep.CanaryGroup, null, theirs)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoCanary, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*canaryTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = child.Signal(os.Kill) })()
	said, _ := io.ReadAll(io.LimitReader(out, 4096))
	if err := child.Wait(); err != nil {
		return fmt.Errorf("%w: it ended early: %w: %s", errNoCanary, err, strings.TrimSpace(stderr.String()))
	}
	if len(said) > 0 {
		return errors.New(render.Line(string(said)))
	}
	return nil
}
