package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// sessions counts who is inside, and lets all of them end.
type sessions struct {
	limits config.Limits
	slots  chan struct{}

	mu     sync.Mutex
	stop   end            // of all sessions
	of     map[string]int // by workload
	inside map[*member]struct{}
	n      int           // places taken
	empty  chan struct{} // closed when none is; nil while nobody waits for it
	shut   bool
}

// end is how sessions are asked to end.
type end struct {
	drain, cut     context.Context // ended: finish what is in flight; end at once, in order
	doDrain, doCut context.CancelFunc
}

func newEnd(drain, cut context.Context) (e end) {
	e.drain, e.doDrain = context.WithCancel(drain)
	e.cut, e.doCut = context.WithCancel(cut)
	return e
}

// member is a session that may be asked to end.
type member struct {
	end
	p       *passage             // nil: nobody was bound
	hangUp  func()               // ends it whatever it does
	resting func() time.Duration // how long nothing has been under way; nil: not known
}

func (s *sessions) begin(l config.Limits, log *slog.Logger) {
	var files unix.Rlimit
	// Two descriptors for a session, and some for the rest.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(2*l.Sessions+256) {
		log.Warn("there are fewer descriptors than limits.sessions may need: raise LimitNOFILE of the unit, or lower the limit",
			"descriptors", files.Cur, "sessions", l.Sessions)
	}
	s.limits = l
	s.stop = newEnd(context.Background(), context.Background())
	s.slots = make(chan struct{}, l.Sessions)
	s.of, s.inside = map[string]int{}, map[*member]struct{}{}
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
		s.n++
		return true
	default:
		return false
	}
}

func (s *sessions) leave() {
	<-s.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n--; s.n == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// gone is closed when nobody is inside.
func (s *sessions) gone() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.empty
	if c == nil {
		c = make(chan struct{})
		if s.n == 0 {
			close(c)
		} else {
			s.empty = c
		}
	}
	return c
}

// draining ends when all are asked to end.
func (s *sessions) draining() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop.drain
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

// register keeps what asks a session to end.
func (s *sessions) register(hangUp func()) (m *member, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = &member{end: newEnd(s.stop.drain, s.stop.cut), hangUp: hangUp}
	s.inside[m] = struct{}{}
	return m, func() {
		m.doDrain()
		m.doCut()
		s.mu.Lock()
		delete(s.inside, m)
		s.mu.Unlock()
	}
}

// watch says whose session a member is, and how it tells that it rests.
func (s *sessions) watch(m *member, p *passage, resting func() time.Duration) {
	s.mu.Lock()
	m.p, m.resting = p, resting
	s.mu.Unlock()
}

// byWorkload returns the sessions with an identity, by their workload and the
// process that they are of.
func (s *sessions) byWorkload() map[string]map[origin][]*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[origin][]*member{}
	for m := range s.inside {
		if m.p == nil {
			continue
		}
		w, o := m.p.identity.Workload, m.p.origin()
		if all[w] == nil {
			all[w] = map[origin][]*member{}
		}
		all[w][o] = append(all[w][o], m)
	}
	return all
}

// ofProcesses returns the sessions of some processes.
func (s *sessions) ofProcesses(which map[origin]bool) map[origin][]*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[origin][]*member{}
	for m := range s.inside {
		if m.p == nil {
			continue
		}
		if o := m.p.origin(); which[o] {
			all[o] = append(all[o], m)
		}
	}
	return all
}

// close lets nobody in and asks all to end; done is closed when they have.
func (s *sessions) close() (done <-chan struct{}) {
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	s.drainAll()
	return s.gone()
}

func (s *sessions) drainAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop.doDrain()
}

// drainResting asks those to end in which nothing has been under way for so long.
func (s *sessions) drainResting(least time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.inside {
		if m.resting != nil && m.resting() >= least {
			m.doDrain()
		}
	}
}

// cutAll ends all in order, without the statement in flight.
func (s *sessions) cutAll() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop.doDrain()
	s.stop.doCut()
	return len(s.inside)
}

// reopen lets sessions be again, after a drain that came to nothing.
func (s *sessions) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop.drain.Err() != nil {
		s.stop = newEnd(context.Background(), context.Background())
	}
}

// hangUp ends those that are left.
func (s *sessions) hangUp() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.inside {
		m.hangUp()
	}
	return len(s.inside)
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
