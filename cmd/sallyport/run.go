package main

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/protocols/all"
)

func init() {
	config.Protocols = all.Names()
	commands = append(commands, runCmd, daemonCmd)
}

func runCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Guard the configured services and serve the passage",
		Long: `Run brings the guard up, as "guard up" does, opens the passage, and starts the
daemon, which serves it without any privilege. It stays in the foreground, logs
to standard error, and needs root for the kernel's part.

SIGTERM and SIGINT end it in order: sessions may finish the statement in flight
(limits.drain), what is recorded is shipped, and the exit code is 0. A second one
does not wait for sessions. SIGHUP reads configuration, policy and secrets again;
what is wrong with them is logged with its line, and the old ones stay in force.

Over a running sallyport it takes over: it checks all that it was given, has the
old one accept no more connections, which wait in the kernel, and serves when
the old one has ended in order (limits.handover). What is wrong is said before
anything is touched, and the old one serves on.

When the daemon dies, run ends too, for its supervisor to start it again: until
then every covered connection is refused by the kernel.

Exit codes: 0 stopped by a signal, by its successor or by "guard down", 1 failed,
2 bad usage, configuration or policy.`,
		Example: `  sallyport run --config /etc/sallyport/sallyport.yaml
  systemctl reload sallyport`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return &exitError{
					code: 1, err: errors.New("run needs root: to guard connections and to prove whose they are"),
					hint: "start it as a system service (docs/operations.md), or with sudo; the daemon itself runs as " + cfg.User,
				}
			}
			if err := privsep.Shed(); err != nil {
				return err
			}
			return runLoader(cfg, newLogger(cfg.Log, "loader"))
		},
	}
}

// daemonCommand is what the loader starts.
const daemonCommand = "daemon"

func daemonCmd() *cobra.Command {
	return &cobra.Command{
		Use:    daemonCommand,
		Short:  "Serve the passage for the loader, without privileges",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return runDaemon() },
	}
}

// newLogger returns the log of a process; it never holds data values.
func newLogger(c config.Log, process string) *slog.Logger {
	return logger(os.Stderr, c).With("process", process)
}

func logger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
