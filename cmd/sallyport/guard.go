package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, guardCmd) }

func guardCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "Put the kernel's guard in place, look at it, or take it away",
		Long: `The guard is a set of eBPF programs at the cgroup2 root that turn covered
connections to protected services into the passage, and refuse them while no
daemon is there. It is pinned: it outlives the daemon and every other process,
and only "guard down" takes it away.`,
		Example: `  sallyport guard up
  sallyport guard status
  sallyport guard down`,
	}
	cmd.AddCommand(guardUpCmd(), guardDownCmd(), guardStatusCmd())
	return cmd
}

// guardConfig is the kernel's part of a configuration.
func guardConfig(cfg *config.Config) redirect.Config {
	rc := redirect.Config{
		Mode: cfg.Interception.Mode, Port: cfg.Interception.Port, Pins: cfg.Interception.Pins,
		Covered: cfg.Interception.CoveredPaths(), Exempt: cfg.Interception.ExemptPaths(),
	}
	for _, r := range cfg.Resources {
		for _, a := range r.Addresses {
			if a.Name == "" {
				protect(&rc.Destinations, a.Destination)
			}
		}
	}
	return rc
}

// protect adds a destination in the guard's own form.
func protect[T any](to *[]T, d intercept.Destination) {
	switch to := any(to).(type) {
	case *[]intercept.Destination:
		*to = append(*to, d)
	case *[]netip.AddrPort:
		e, ok := d.Single()
		if !ok {
			panic("the guard takes single endpoints only")
		}
		*to = append(*to, e)
	}
}

func commandConfig(cmd *cobra.Command) (*config.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, badConfig(err)
	}
	return cfg, nil
}

func guardUpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Guard the configured services, before and without a daemon",
		Long: `Loads the configuration, attaches and pins the programs, and ends connections
to protected services that are older than the guard. Until a daemon runs, every
covered connection to them is refused. A guard that is up already is brought to
this configuration without a gap. Run it at boot, before any agent.`,
		Example:           `  sallyport guard up --config /etc/sallyport/sallyport.yaml`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			g, err := redirect.Up(guardConfig(cfg))
			if err != nil {
				return err
			}
			defer g.Close()
			out := cmd.OutOrStdout()
			swept, err := g.Swept()
			for _, b := range swept {
				fmt.Fprintf(out, "ended a connection older than the guard: %s -> %s (uid %d)\n", b.Source, b.Destination, b.Peer.UID)
			}
			fmt.Fprintf(out, "the guard is up: %s mode, %d resources\n", cfg.Interception.Mode, len(cfg.Resources))
			return err
		},
	}
}

func guardDownCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take the guard away: agents reach the services directly again",
		Long: `Detaches and unpins the programs and removes the cgroups that the guard made.
From then on nothing is turned, refused or recorded.`,
		Example:           `  sallyport guard down`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if err := redirect.Down(cfg.Interception.Pins); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the guard is down")
			return nil
		},
	}
}

func guardStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the kernel whether the guard is up, and what it counted",
		Long: `Asks the kernel, not a memory of it: whether each program is attached to the
live cgroup2 root, what is protected, who is covered, whether a daemon is
there. Exit code 1 unless the guard is up and whole.`,
		Example: `  sallyport guard status
  sallyport guard status --json | jq .counters`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			s, err := redirect.GetStatus(cfg.Interception.Pins)
			if err != nil && !errors.Is(err, redirect.ErrNotUp) {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				if err := printJSON(out, s); err != nil {
					return err
				}
			} else if err == nil {
				printGuard(out, &s)
			}
			if err == nil && !s.Up {
				err = errors.New("the guard is broken: run `sallyport guard up`")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printGuard(w io.Writer, s *redirect.Status) {
	state := "up"
	if !s.Up {
		state = "BROKEN"
	}
	daemon := "none: covered connections are refused"
	if s.Daemon {
		daemon = fmt.Sprintf("process %d", s.DaemonPID)
	}
	fmt.Fprintf(w, "guard     %s, %s mode, at %s, passage on port %d\n", state, s.Mode, render.Line(s.Root), s.Port)
	fmt.Fprintf(w, "daemon    %s\n", daemon)
	for _, d := range s.Destinations {
		fmt.Fprintf(w, "protects  %s\n", d)
	}
	fmt.Fprintf(w, "covers    %s\n", render.Line(strings.Join(s.Covered, " ")))
	if len(s.Exempt) > 0 {
		fmt.Fprintf(w, "exempts   %s\n", render.Line(strings.Join(s.Exempt, " ")))
	}
	for _, p := range s.Programs {
		if !p.Attached {
			fmt.Fprintf(w, "MISSING   %s: %s\n", p.Name, render.Line(p.Problem))
		}
	}
	c := s.Counters
	fmt.Fprintf(w, "counted   %d turned, %d handed over, %d calls refused, %d packets dropped, %d reports not kept\n",
		c.Turned, c.Handed, c.Refused, c.Dropped, c.Suppressed+c.Lost)
}
