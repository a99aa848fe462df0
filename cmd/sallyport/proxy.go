package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
)

func init() { commands = append(commands, proxyCmd) }

// proxyNotice is what everybody who uses such a passage is told.
const proxyNotice = "sallyport proxy: for development and tests. Nothing leads here or is kept from going round, and no process is proved"

// proxyOptions are the command's flags.
type proxyOptions struct {
	listen, resource, workload, state, tokenFile string

	issue bool
}

func proxyCmd() *cobra.Command {
	var o proxyOptions
	cmd := &cobra.Command{
		Use:   "proxy [flags] [-- COMMAND [ARG...]]",
		Short: "Serve the policy at a port, without root, for development and CI",
		Long: `Proxy serves one resource at a TCP port of this host: with the policy, the
analysis, the masks and the record of "sallyport run", and without its guard. It
needs no root and no eBPF, and must not have any privilege.

It does NOT enforce placement. Whoever can reach the server goes round it, and
whoever can reach its port is taken for the workload if its token is a file. It
says so when it starts, to each client, in each event (unplaced), and in its
metrics. Use it to develop an agent, and to test it in CI; never in production.

Who connects is proved as ever, by the verifiers of the configuration: by the
token in the workload's token_file (or --token-file), or by the token that the
client sends as its password (in_band: password). With --issue the proxy stands
in for the configuration's one issuer, at its URL on loopback, and gives the
workload a token: STATE/token.

With a COMMAND it runs that with PGHOST and PGPORT set (and PGPASSWORD, where it
has issued a token that comes in band), and ends when it ends, with its exit code.
Otherwise it prints "ready ADDRESS" and serves until SIGTERM or SIGINT.

The record is a journal in STATE/journal: sallyport verify holds it against
itself.

Exit codes: 0 ended in order, 1 failed, 2 bad usage, configuration or policy; with
a COMMAND its own.`,
		Example: `  sallyport proxy --config ci.yaml --issue -- pytest
  sallyport proxy --config ci.yaml --listen 127.0.0.1:6432 --state ~/.local/state/passage`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return configError(fmt.Errorf("argument %q: a command stands behind --", args[0]))
			}
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			return o.run(cfg, args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:6432", "loopback address of the port; port 0 takes a free one")
	f.StringVar(&o.resource, "resource", "", "resource that it leads to; needed where there are several")
	f.StringVar(&o.workload, "workload", "", "workload that connects; needed where there are several")
	f.StringVar(&o.state, "state", ".sallyport", "folder of its record, made where there is none")
	f.StringVar(&o.tokenFile, "token-file", "", "token of the workload, in place of its token_file")
	f.BoolVar(&o.issue, "issue", false, "stand in for the issuer, and give the workload a token")
	cmd.MarkFlagsMutuallyExclusive("issue", "token-file")
	for _, name := range []string{"listen", "resource", "workload"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	_ = cmd.MarkFlagDirname("state")
	return cmd
}

func (o *proxyOptions) run(cfg *config.Config, command []string, out, diag io.Writer) error {
	if err := unprivileged(); err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	fmt.Fprintf(diag, "NOTE: %s.\n", proxyNotice)
	p, err := o.open(cfg, newLogger(cfg.Log, "proxy"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan struct{})
	go func() {
		defer close(served)
		p.daemon.accept(ctx, p.listener)
	}()
	go p.daemon.keepCounts(ctx)
	go p.daemon.recheck(ctx)
	go p.daemon.watchJournal(ctx)
	if len(command) > 0 {
		err = p.run(command, signals)
	} else {
		fmt.Fprintln(out, "ready", p.listener.Addr())
		<-signals
	}
	cancel()
	p.listener.Close()
	<-served
	return errors.Join(err, p.end(signals))
}

// run runs a command that connects here.
func (p *proxy) run(argv []string, signals <-chan os.Signal) error {
	host, port, err := net.SplitHostPort(p.listener.Addr().String())
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port)
	if p.issued != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+p.issued)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			var e *exec.ExitError
			if errors.As(err, &e) && e.ExitCode() > 0 {
				return &exitError{code: e.ExitCode(), err: fmt.Errorf("%s: %w", argv[0], err)}
			}
			return err
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		}
	}
}
