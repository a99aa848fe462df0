package main

import (
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

// maxSockets are those of a passage at most: three listeners in each network
// namespace that the kernel's table has room for, and connections.
const maxSockets = 1 << 14

// examine says which of the passage's sockets a daemon hands over, whatever it
// calls it: a listener in a network namespace where the loader has opened one,
// or a connection with the kernel's record.
func (l *loader) examine(s socket) (socket, error) {
	port := l.cfg.Interception.Port
	if s.name == flowName {
		err := redirect.LookAtFlow(s.fd, port)
		if err == nil {
			_, err = l.records.of(s.fd)
		}
		return s, err
	}
	p, err := redirect.LookAtListener(s.fd, port)
	if err != nil {
		return s, err
	}
	if !l.listening[p.Netns] {
		return s, fmt.Errorf("a listener in network namespace %d, where the passage is not", p.Netns)
	}
	return socket{p.String(), s.fd}, nil
}

// keep holds a socket that another loader or the service manager had, after
// looking at it. On an error the descriptor is the caller's still.
func (l *loader) keep(name string, fd int) error {
	if len(l.held) >= maxSockets {
		return fmt.Errorf("passage: more than %d sockets", maxSockets)
	}
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
		if l.listening == nil {
			l.listening = map[uint64]bool{}
		}
		l.listening[p.Netns] = true
	}
	l.held = append(l.held, socket{name, fd})
	return nil
}

// listeners registers the passage's listeners with the guard: those that are
// held, and new ones of this network namespace where one is missing.
func (l *loader) listeners() error {
	var fds []int
	for _, s := range l.held {
		if s.name != flowName {
			fds = append(fds, s.fd)
		}
	}
	lns, err := l.guard.Adopt(fds)
	if err != nil || lns == nil {
		return err
	}
	defer lns.Close()
	return l.holdListeners(lns)
}

// holdListeners holds those of one network namespace; the caller closes its own
// copies.
func (l *loader) holdListeners(lns *redirect.Listeners) error {
	var all []any
	for _, ln := range lns.TCP {
		all = append(all, ln)
	}
	if lns.Unix != nil {
		all = append(all, lns.Unix)
	}
	for _, ln := range all {
		fd, err := duplicate(ln)
		if err != nil {
			return fmt.Errorf("passage: %w", err)
		}
		if err := l.keep("", fd); err != nil {
			unix.Close(fd)
			return err
		}
	}
	return nil
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
