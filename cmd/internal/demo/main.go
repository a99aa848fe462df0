// Command demo shows a whole sallyport at work on this host, on real parts: an
// unmodified psql, PostgreSQL, an OpenID Connect provider, programs in the
// kernel, NATS and the recorder. `make demo` builds and runs it.
//
// It exits with 0 only if every step showed what it says, and leaves nothing
// behind, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/cmd/internal/stand"
)

var errInterrupted = errors.New("interrupted")

func main() {
	keep := flag.Bool("keep", false, "leave it running at the end, until Ctrl-C")
	bin := flag.String("bin", "bin", "folder with sallyport, sallyport-recorder and oidcop")
	mode := flag.String("mode", "cgroup", "who is guarded: cgroup (the demo's agents only) or host (everybody)")
	flag.Parse()
	ctx, cancel := context.WithCancelCause(context.Background())
	// A closed pipe must not end the demo before it has cleaned up either.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGQUIT)
	go func() {
		<-signals
		cancel(errInterrupted)
	}()
	if err := run(ctx, newScreen(os.Stdout), *bin, *mode, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", render.Text(err.Error()))
		os.Exit(1)
	}
}

func run(ctx context.Context, w *screen, bin, mode string, keep bool) (err error) {
	begin := time.Now()
	w.say("Starting PostgreSQL with a small clinic, an OpenID Connect provider, sallyport and its recorder.")
	s, err := stand.Start(ctx, stand.Options{Bin: bin, Mode: mode, Patients: patients, Prepare: prepare, Waiting: func() {
		w.say("Another demo or kernel test runs on this host: waiting for it to end.")
	}})
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	defer func() {
		if serr := s.Stop(); serr != nil {
			err = errors.Join(err, serr)
			return
		}
		w.say("Cleaned up: no process, program, cgroup, mount, port or file is left.")
	}()
	w.say("Ready after %v. Policy: %s/policy.yaml", time.Since(begin).Round(time.Millisecond), s.Dir)
	d := &demo{Stand: s, w: w}
	if err := d.tell(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	w.say("All %d steps showed what they say, in %v.", d.steps, time.Since(begin).Round(time.Millisecond))
	if !keep {
		return nil
	}
	d.handOver()
	<-ctx.Done()
	return nil
}
