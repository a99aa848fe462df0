package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Groups of helpers. No system hands these numbers out.
const (
	SignerGroup uint32 = 1<<31 - 16 + 2*iota
	ResolverGroup
	CanaryGroup
)

// apart returns a helper's group where the daemon's is another. The kernel lets
// processes of one user look into each other only where their groups are one
// too (ptrace(2)): so that whoever has taken the daemon over, and has a helper
// started anew, can't open its memory in the moments before it confines itself.
func apart(group, daemon uint32) uint32 {
	if group == daemon {
		group++
	}
	return group
}

// StartHelper runs a process that is as little privileged as the daemon, and
// as sure to end with the loader, but has no line to a prover: what it is told
// comes in by stdin, what it finds goes out by stdout, both ends of pipes of
// the caller's. Its first act should be Confine too. StartHelper closes its
// ends, and Files, in any case; Files are its descriptors from 3 on. Its group is
// the given one of those above, and never the daemon's, which is Options.GID.
func StartHelper(o Options, group uint32, stdin, stdout *os.File) (*Child, error) {
	defer func() {
		for _, f := range append([]*os.File{stdin, stdout}, o.Files...) {
			f.Close()
		}
	}()
	if o.UID == 0 || o.GID == 0 {
		return nil, errors.New("a helper must not run as root: name an unprivileged user in sallyport.yaml (user)")
	}
	o.GID = apart(group, o.GID)
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
