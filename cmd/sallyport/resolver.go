package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/names/resolver"
	"sallyport.dev/sallyport/intercept/privsep"
)

func init() { commands = append(commands, resolverCmd) }

// resolverCommand is what the loader starts to speak DNS.
const resolverCommand = "resolver"

func resolverCmd() *cobra.Command {
	return &cobra.Command{
		Use:    resolverCommand,
		Short:  "Resolve names for the loader, without privileges",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := privsep.Confine(); err != nil {
				return err
			}
			signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
			return resolver.Run(context.Background(), resolver.Options{}, os.Stdin, os.Stdout)
		},
	}
}

// resolving is the process that speaks DNS.
type resolving struct {
	child   *privsep.Child
	in      *os.File
	answers chan names.Answer // closed when it has ended
	stop    chan struct{}
	once    sync.Once
	err     error // why, once answers is closed
}

// startResolver starts it as the daemon's user.
func startResolver(cfg *config.Config) (*resolving, error) {
	uid, gid, err := daemonUser(cfg.User)
	if err != nil {
		return nil, err
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		theirIn.Close()
		in.Close()
		return nil, err
	}
	r := &resolving{in: in, answers: make(chan names.Answer), stop: make(chan struct{})}
	r.child, err = privsep.StartHelper(privsep.Options{
		Path: "/proc/self/exe", Args: []string{"sallyport", resolverCommand},
		Env: []string{"GOMAXPROCS=1", "GOMEMLIMIT=128MiB"}, UID: uid, GID: gid, Stderr: os.Stderr,
	}, privsep.ResolverGroup, theirIn, theirOut)
	if err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	go r.read(out)
	return r, nil
}

// read takes answers until the process ends, or says what is none.
func (r *resolving) read(out *os.File) {
	defer close(r.answers)
	defer out.Close()
	for b := bufio.NewReaderSize(out, names.MaxLine); ; {
		line, err := b.ReadSlice('\n')
		var a names.Answer
		if err == nil {
			a, err = names.ParseAnswer(strings.TrimSuffix(string(line), "\n"))
		}
		if err != nil {
			_ = r.child.Signal(os.Kill)
			werr := r.child.Wait()
			if r.err = err; errors.Is(err, io.EOF) && werr != nil {
				r.err = werr
			}
			return
		}
		select {
		case r.answers <- a:
		case <-r.stop:
			return
		}
	}
}

// ask says which names are asked for from now on.
func (r *resolving) ask(list []string) error {
	_ = r.in.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprint(r.in, strings.Join(append(list, "", ""), "\n")); err != nil {
		return fmt.Errorf("ask the resolver: %w", err)
	}
	return nil
}

func (r *resolving) close() {
	r.once.Do(func() {
		close(r.stop)
		_ = r.child.Signal(os.Kill)
		_ = r.child.Wait()
		r.in.Close()
	})
}
