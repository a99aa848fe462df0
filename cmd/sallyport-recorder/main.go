// Command sallyport-recorder keeps the evidence of all hosts: it consumes their
// chains from NATS, verifies them and stores them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/cli"
	"sallyport.dev/sallyport/cmd/internal/render"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// usageError is bad usage: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string) int {
	root := rootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sallyport-recorder:", render.Text(err.Error()))
	if errors.As(err, &usageError{}) {
		return 2
	}
	return 1
}

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "sallyport-recorder",
		Short:         "Keep the evidence of sallyport hosts",
		Example:       `  sallyport-recorder run --store /var/lib/sallyport-recorder --nkey recorder.nk`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCmd(), keyCmd(), exportCmd(), pruneCmd(), holdCmd(), sinkCmd(), approvalsCmd(), notifyCmd())
	cli.Strict(root, func(err error) error { return usageError{err} })
	return root
}
