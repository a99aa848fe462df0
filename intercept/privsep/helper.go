package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// StartHelper runs a process that is as little privileged as the daemon, and
// as sure to end with the loader, but has no line to a prover: what it is told
// comes in by stdin, what it finds goes out by stdout, both ends of pipes of
// the caller's. Its first act should be Confine too. StartHelper closes its
// ends, and Files, in any case; Files are its descriptors from 3 on.
func StartHelper(o Options, stdin, stdout *os.File) (*Child, error) {
	defer func() {
		for _, f := range append([]*os.File{stdin, stdout}, o.Files...) {
			f.Close()
		}
	}()
	if o.UID == 0 || o.GID == 0 {
		return nil, errors.New("a helper must not run as root: name an unprivileged user in sallyport.yaml (user)")
	}
	cmd := o.command(o.Files)
	cmd.Stdin, cmd.Stdout = stdin, stdout
	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	serve := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	go c.run(cmd, serve, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Args[0], err)
	}
	return c, nil
}
