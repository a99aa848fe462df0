package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// socket is one of the passage's on its way to the daemon: a listener by its
// name (redirect.Passage), or a connection that nobody serves yet (flowName).
type socket struct {
	name string
	fd   int
}

// names and descriptors of sockets, as a packet has them.
func parts(all []socket) (names []string, fds []int) {
	for _, s := range all {
		names, fds = append(names, s.name), append(fds, s.fd)
	}
	return names, fds
}

func closeSockets(all []socket) {
	for _, s := range all {
		unix.Close(s.fd)
	}
}

// keep holds a socket that another loader or the service manager had, after
// looking at it. On an error the descriptor is the caller's still.
func (l *loader) keep(name string, fd int) error {
	port := l.cfg.Interception.Port
	if name == flowName {
		if err := redirect.LookAtFlow(fd, port); err != nil {
			return err
		}
	} else {
		p, err := redirect.LookAtListener(fd, port)
		if err != nil {
			return err
		}
		name = p.String() // whatever it was called
	}
	l.held = append(l.held, socket{name, fd})
	return nil
}

// listeners registers the passage's listeners with the guard: those that were
// held and, where none is, new ones of this network namespace.
func (l *loader) listeners() error {
	cookie, err := redirect.ThisNetns()
	if err != nil {
		return err
	}
	var fds []int
	here := false
	for _, s := range l.held {
		if s.name != flowName {
			fds = append(fds, s.fd)
			here = here || s.name == redirect.Passage{Netns: cookie}.String()
		}
	}
	if err := l.guard.Adopt(fds); err != nil {
		return err
	}
	if here {
		return nil
	}
	lns, err := l.guard.Listen()
	if err != nil {
		return err
	}
	defer lns.Close()
	files, err := lns.Files()
	for _, f := range files {
		fd, derr := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		f.Close()
		if derr == nil {
			if derr = l.keep("", fd); derr != nil {
				unix.Close(fd)
			}
		}
		err = errors.Join(err, derr)
	}
	return err
}

// handListeners gives the daemon what is held. The loader keeps none: a
// listener that it had open would take connections that nobody answers when
// the daemon is dead.
func (l *loader) handListeners() error {
	held := l.held
	l.held = nil
	defer closeSockets(held)
	var lns, flows []socket
	for _, s := range held {
		if s.name == flowName {
			flows = append(flows, s)
		} else {
			lns = append(lns, s)
		}
	}
	for do, all := range map[string][]socket{doListen: lns, doAdopt: flows} {
		for len(all) > 0 {
			n := min(len(all), maxFDs)
			names, fds := parts(all[:n])
			if err := l.line.name(do, names, fds...); err != nil {
				return fmt.Errorf("hand the daemon the passage: %w", err)
			}
			all = all[n:]
		}
	}
	return nil
}
