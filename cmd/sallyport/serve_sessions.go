package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// sessions counts who is inside, and lets all of them end.
type sessions struct {
	limits config.Limits
	ctx    context.Context // ended: finish the statement in flight
	drain  context.CancelFunc
	slots  chan struct{}

	mu    sync.Mutex
	of    map[string]int // by workload
	doors map[*func()]struct{}
	shut  bool
	wg    sync.WaitGroup
}

func (s *sessions) begin(l config.Limits, log *slog.Logger) {
	var files unix.Rlimit
	// Two descriptors for a session, and some for the rest.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(2*l.Sessions+256) {
		log.Warn("there are fewer descriptors than limits.sessions may need: raise LimitNOFILE of the unit, or lower the limit",
			"descriptors", files.Cur, "sessions", l.Sessions)
	}
	s.limits = l
	s.ctx, s.drain = context.WithCancel(context.Background())
	s.slots = make(chan struct{}, l.Sessions)
	s.of, s.doors = map[string]int{}, map[*func()]struct{}{}
}

// enter takes one of all places, and never waits.
func (s *sessions) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		s.wg.Add(1)
		return true
	default:
		return false
	}
}

func (s *sessions) leave() {
	<-s.slots
	s.wg.Done()
}

// admit takes one of a workload's places.
func (s *sessions) admit(workload string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[workload] >= s.limits.PerWorkload {
		return nil, refusal("limit", "session", fmt.Sprintf("workload %s has %d sessions open, its limit (limits.sessions_per_workload)", workload, s.of[workload]),
			"close sessions that are not used, or have the limit raised")
	}
	s.of[workload]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[workload]--; s.of[workload] == 0 {
			delete(s.of, workload)
		}
	}, nil
}

// register keeps what ends a session that does not end by itself.
func (s *sessions) register(hangUp func()) (done func()) {
	s.mu.Lock()
	s.doors[&hangUp] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.doors, &hangUp)
		s.mu.Unlock()
	}
}

// close lets nobody in and asks all to end; done is closed when they have.
func (s *sessions) close() (done <-chan struct{}) {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	s.drain()
	c := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(c)
	}()
	return c
}

// hangUp ends those that are left.
func (s *sessions) hangUp() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.doors {
		(*f)()
	}
	return len(s.doors)
}

// doors are the connections of one session.
type doors struct {
	client net.Conn

	mu      sync.Mutex
	servers []net.Conn
	slammed bool
}

// add takes note of a server's door.
func (d *doors) add(c net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slammed {
		c.Close()
		return net.ErrClosed
	}
	d.servers = append(d.servers, c)
	return nil
}

// slam shuts them all.
func (d *doors) slam() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slammed = true
	d.client.Close()
	for _, c := range d.servers {
		c.Close()
	}
}
