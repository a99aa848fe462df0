package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/policy/approval/desk"
	"sallyport.dev/sallyport/policy/approval/page"
)

func approvalsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "approvals",
		Short:   "Serve the page on which people decide requests for approval",
		Example: `  sallyport-recorder approvals run --config /etc/sallyport/approvals.yaml`,
	}
	cmd.AddCommand(approvalsRun(), approvalsCheck())
	return cmd
}

type approvalsOptions struct{ fileOptions }

func (o *approvalsOptions) flags(cmd *cobra.Command) {
	o.fileOptions.flags(cmd, "file of the page (YAML)")
}

func (o *approvalsOptions) load() (*page.Settings, *slog.Logger, error) {
	return loadFile(&o.fileOptions, page.Load)
}

func approvalsRun() *cobra.Command {
	var o approvalsOptions
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Serve the page until stopped",
		Long: `Serve the page on which people see the requests for approval that they may decide,
on all hosts of the configuration, and decide them. They log in at their issuer, and
again to sign each decision: the host verifies that itself. The page keeps nothing; what
is not decided waits on at the host, while this is away too.

It needs no store, and of NATS the role "approvals" only: run it as an account of its
own (docs/approvals.md).

Exit codes: 0 stopped by a signal, 1 failed, 2 bad usage or configuration.`,
		Example: `  sallyport-recorder approvals run --config /etc/sallyport/approvals.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			return runApprovals(cmd.Context(), s, log, func(a net.Addr) {
				log.Info("serving approvals", "listen", a.String(), "base_url", s.BaseURL, "hosts", len(s.Hosts))
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func approvalsCheck() *cobra.Command {
	var o approvalsOptions
	cmd := &cobra.Command{
		Use:     "check --config FILE",
		Short:   "Check the page's configuration, without serving anything",
		Example: `  sallyport-recorder approvals check --config /etc/sallyport/approvals.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			if _, err := page.New(s, nil, log); err != nil {
				return usageError{err}
			}
			if _, err := certificate(s.TLS); err != nil {
				return usageError{err}
			}
			if key := s.PublicKey(); key != "" {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "signs by %s: have it in approvals.recorder_keys of the hosts\n", key); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d hosts, nothing wrong\n", len(s.Hosts))
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

// certificate is what the page proves itself with, nil where a proxy does.
func certificate(t *page.TLS) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}, nil
}

// runApprovals serves until stop ends; ready is told where.
func runApprovals(stop context.Context, s *page.Settings, log *slog.Logger, ready func(net.Addr)) error {
	ctx, cancel := context.WithCancelCause(stop)
	defer cancel(nil)
	own, err := certificate(s.TLS)
	if err != nil {
		return usageError{err}
	}
	nc, err := jetstream.Connect(s.NATS, s.NKey, s.NATSTLS.Option(), nats.IgnoreDiscoveredServers(), nats.RetryOnFailedConnect(true), nats.ClosedHandler(func(nc *nats.Conn) {
		if err := nc.LastError(); err != nil {
			cancel(fmt.Errorf("NATS closed the connection: %w", err))
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := page.New(s, &desk.Client{Conn: nc}, log)
	if err != nil {
		return usageError{err}
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if own != nil {
		l = tls.NewListener(l, own)
	}
	srv := &http.Server{
		Handler: p, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 90 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	ready(l.Addr())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		end, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		err = srv.Shutdown(end) // a decision that is being brought is answered
		_ = srv.Close()
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if stop.Err() == nil {
		return context.Cause(ctx)
	}
	log.Info("stopped")
	return nil
}
