package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/render"
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
	var force bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Guard the configured services, before and without a daemon",
		Long: `Loads the configuration, attaches and pins the programs, and ends connections
to protected services that are older than the guard. Until a daemon runs, every
covered connection to them is refused. A guard that is up already is brought to
this configuration without a gap. Run it at boot, before any agent.

In mode cgroup that holds of paths and slices without wildcards, made and covered
before anybody is in them, and of what other selectors match now. What comes to
match them later is covered while sallyport runs: it is said where that matters.

A note about it is left for the next daemon to record, beside the state in a
folder of root's. Where it can't be written, the guard is up all the same, and
the exit code is 1.`,
		Example:           `  sallyport guard up --config /etc/sallyport/sallyport.yaml`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			known, nameErr := newNames(cfg)
			g, err := known.bringNames(cfg)
			if err != nil {
				return err
			}
			defer g.Close()
			out := cmd.OutOrStdout()
			swept, err := g.Swept()
			printSwept(out, swept)
			fmt.Fprintf(out, "the guard is up: %s mode, %d resources\n", cfg.Interception.Mode, len(cfg.Resources))
			if loose := errLoose(cfg); loose != nil {
				fmt.Fprintf(out, "note: %s\n", render.Line(loose.Error()))
			}
			n := noteBySelf(guardUp)
			n.Ended = len(swept)
			if err != nil {
				n.Error = err.Error()
			}
			nerr := n.leave(cfg.State)
			if nerr != nil && force {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", nerr)
				nerr = nil
			}
			return errors.Join(err, nerr, nameErr, known.resolveNow(out, cfg, g))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "exit code 0 even if that can't be recorded")
	return cmd
}

func guardStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the kernel whether the guard is up, and what it counted",
		Long: `Asks the kernel, not a memory of it: whether each program is attached to the
live cgroup2 root and in its place there, what is protected, who is covered,
whether a daemon is there, and which programs of others may rewrite connections.
A running sallyport's own findings are added: its last look, and what came of
its canaries. Exit code 1 unless the guard is up and whole, and the running
sallyport, if there is one, looks at it and finds it so.`,
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
			// What a loader found out is of interest as long as it is there.
			var found *health
			if h, err := readHealth(cfg); err == nil && s.Daemon {
				found = &h
			}
			if asJSON {
				all := struct {
					redirect.Status
					Health *health `json:"health,omitempty"`
				}{s, found}
				if err := printJSON(out, all); err != nil {
					return err
				}
			} else if err == nil {
				printGuard(out, &s)
				printHealth(out, &s, found)
				if s.Observes || cfg.Observes() {
					fmt.Fprintf(out, "ALARM     %v\n", errObserves)
				}
			}
			switch {
			case err != nil:
			case !s.Up:
				err = errors.New("the guard is broken: run `sallyport guard up`")
			case found != nil:
				err = found.problem()
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
	for _, end := range s.Wires {
		if end.Attached {
			fmt.Fprintf(w, "wire      %s, to network namespace %d\n", render.Line(end.Name), end.Netns)
		} else {
			fmt.Fprintf(w, "MISSING   program of wire %s: %s\n", render.Line(end.Name), render.Line(end.Problem))
		}
	}
	for _, p := range s.UnixPaths {
		fmt.Fprintf(w, "protects  %s\n", render.Line(p))
	}
	c := s.Counters
	fmt.Fprintf(w, "counted   %d turned, %d handed over, %d calls refused, %d packets dropped, %d reports not kept\n",
		c.Turned, c.Handed, c.Refused, c.Dropped, c.Suppressed+c.Lost)
}

// printHealth prints what a running loader found out, and who else is there.
func printHealth(w io.Writer, s *redirect.Status, h *health) {
	fmt.Fprintf(w, "listens   in %d network namespaces\n", s.Listening)
	for _, n := range s.Neighbours {
		fmt.Fprintf(w, "beside    %s (program %d) at %s of cgroup %s\n", render.Line(n.Name), n.Program, n.Hook, render.Line(n.Cgroup))
	}
	if h == nil {
		return
	}
	fmt.Fprintf(w, "looked    %s ago\n", time.Since(h.Time).Round(time.Second))
	if err := h.problem(); err != nil {
		fmt.Fprintf(w, "ALARM     %s\n", render.Line(err.Error()))
	}
	for _, c := range h.Canaries {
		mark, detail := "turned", ""
		switch {
		case !c.Tried:
			mark, detail = "not sent", ": "+c.Detail
		case !c.OK:
			mark, detail = "LOST", ": "+c.Detail
		}
		fmt.Fprintf(w, "canary    %s %s%s\n", render.Line(c.Scope), mark, render.Line(detail))
	}
	for _, n := range h.NoPassage {
		fmt.Fprintf(w, "ALARM     no passage in network namespace %s\n", render.Line(n))
	}
}

// problem is what a loader's findings say against its guard, and its silence.
func (h *health) problem() error {
	var lost []string
	for _, c := range h.Canaries {
		if c.Tried && !c.OK {
			lost = append(lost, c.Scope)
		}
	}
	switch age := time.Since(h.Time); {
	case age > staleHealth:
		return fmt.Errorf("the running sallyport looked at its guard %s ago: it hangs", age.Round(time.Second))
	case !h.Whole:
		return fmt.Errorf("the running sallyport found its guard not whole: %s", h.Problem)
	case lost != nil:
		return fmt.Errorf("connections from guarded cgroups do not get into the passage: %s", strings.Join(lost, ", "))
	}
	return nil
}
