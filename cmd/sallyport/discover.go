package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/workload"
)

func init() { commands = append(commands, discoverCmd) }

func discoverCmd() *cobra.Command {
	var duration time.Duration
	var asJSON bool
	var write string
	cmd := &cobra.Command{
		Use:   "discover",
		Short: "Take an inventory of who reaches what, and change nothing",
		Long: `Watch the host's TCP connections as they are made, look at those that exist, at
who listens, and at the unix sockets of databases, in every network namespace,
until Ctrl-C or for --duration. Nothing is turned, refused or held up, and
nothing stays behind, however it ends. Needs root; no configuration, no daemon.

Protocols are named by their usual port, or by the server's executable where it
listens on this host: the column says which. Nobody's bytes are read. To have
them read, and to see what a policy would do with them, run sallyport with the
starter configuration (--write): enforcement is observe in it.

Processes that carry the connections of others (poolers, ssh -L, docker-proxy)
are listed as forwarders: by their executable, or because they listen and reach a
database themselves.

Exit codes: 0 done, 1 failed, 2 bad usage.`,
		Example: `  sallyport discover --duration 10m
  sallyport discover --json --duration 1h | jq '.contacts[] | select(.protocol == "postgres")'
  sallyport discover --duration 24h --write /etc/sallyport`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if duration < 0 {
				return configError(errors.New("--duration cannot be negative"))
			}
			if write != "" {
				if err := vacant(write); err != nil {
					return configError(err)
				}
			}
			if os.Geteuid() != 0 {
				return &exitError{code: 1, err: errors.New("discover needs root: to see every process's connections"), hint: "run it with sudo"}
			}
			inv, err := takeInventory(cmd.ErrOrStderr(), duration)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), inv)
			} else {
				err = printInventory(cmd.OutOrStdout(), inv)
			}
			if err == nil && write != "" {
				err = writeStarter(cmd.ErrOrStderr(), write, inv)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&duration, "duration", 0, "how long to watch (default: until Ctrl-C)")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	fl.StringVar(&write, "write", "", "folder to write a starter sallyport.yaml and policy.yaml to; never over existing ones")
	_ = cmd.MarkFlagDirname("write")
	return cmd
}

// takeInventory watches until the time is over or somebody ends it, which is
// no failure.
func takeInventory(errs io.Writer, duration time.Duration) (*discover.Inventory, error) {
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	began := time.Now()
	o := discover.Options{CgroupRoot: root, Every: 5 * time.Second, Describe: workloadName}
	if terminal(errs) {
		if duration == 0 {
			fmt.Fprintln(errs, "watching; Ctrl-C ends it and prints what was seen")
		}
		o.Progress = func(contacts, forwarders int) {
			left := ""
			if duration > 0 {
				left = fmt.Sprintf(", %s left", (duration - time.Since(began)).Round(time.Second))
			}
			fmt.Fprintf(errs, "\r\x1b[K%d kinds of connections, %d forwarders%s", contacts, forwarders, left)
		}
		defer fmt.Fprint(errs, "\r\x1b[K")
	}
	return discover.Take(ctx, o)
}

// workloadName is what a container's runtime calls it, and a pod's the kubelet.
func workloadName(cgroup string) string {
	d, err := workload.Host{}.Describe(cgroup)
	switch {
	case err != nil:
		return ""
	case d.Pod.Name == "":
		return d.Container.Name
	}
	name := d.Pod.Namespace + "/" + d.Pod.Name + "/" + d.Container.Name
	if d.Pod.ServiceAccount != "" {
		name += " (" + d.Pod.ServiceAccount + ")"
	}
	return name
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
