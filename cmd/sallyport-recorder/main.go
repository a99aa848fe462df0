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
	root := &cobra.Command{
		Use:           "sallyport-recorder",
		Short:         "Keep the evidence of sallyport hosts",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCmd(), keyCmd())
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sallyport-recorder:", err)
	if errors.As(err, &usageError{}) {
		return 2
	}
	return 1
}
