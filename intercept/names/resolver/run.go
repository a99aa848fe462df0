package resolver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept/names"
)

const (
	atOnce   = 16              // names that are asked at a time
	askTime  = 8 * time.Second // for all of a name's questions
	maxNames = 10_000          // of a list
	maxRetry = time.Minute     // between questions that find nothing
	hostsGap = names.MinTTL    // between two looks at hosts
	maxHosts = 4 << 20         // bytes of hosts that are read
)

// Options of Run. The zero Options are the host's own.
type Options struct {
	ResolvConf string // default /etc/resolv.conf
	Hosts      string // default /etc/hosts
	Port       string // of the servers; default 53
}

// Run reads lists of names, one name a line and an empty line after each
// list, and answers, again and again, for the names of the last list. It ends
// with nil when in does.
func Run(ctx context.Context, o Options, in io.Reader, out io.Writer) error {
	def(&o.ResolvConf, "/etc/resolv.conf")
	def(&o.Hosts, "/etc/hosts")
	def(&o.Port, "53")
	ctx, cancel := context.WithCancelCause(ctx)
	r := &run{o: o, out: out, slots: make(chan struct{}, atOnce), asking: map[string]context.CancelFunc{}}
	r.fail = cancel
	r.hosts.read(o.Hosts)
	r.wg.Go(func() { r.watchHosts(ctx) })
	lists := make(chan error, 1)
	go func() { lists <- r.lists(ctx, in) }() // a read of in can't be interrupted
	var err error
	select {
	case err = <-lists:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	cancel(nil)
	r.wg.Wait()
	return err
}

func def(s *string, v string) {
	if *s == "" {
		*s = v
	}
}

type run struct {
	o     Options
	fail  context.CancelCauseFunc
	slots chan struct{}
	hosts hosts
	wg    sync.WaitGroup

	mu  sync.Mutex
	out io.Writer

	asking map[string]context.CancelFunc // of lists alone
}

// lists takes one list after the other.
func (r *run) lists(ctx context.Context, in io.Reader) error {
	wanted := map[string]bool{}
	for s := bufio.NewScanner(in); ; {
		if !s.Scan() {
			return s.Err()
		}
		if name := s.Text(); name != "" {
			if wanted[name] = true; len(wanted) > maxNames {
				return fmt.Errorf("more than %d names", maxNames)
			}
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		for name, stop := range r.asking {
			if !wanted[name] {
				stop()
				delete(r.asking, name)
			}
		}
		for name := range wanted {
			if r.asking[name] == nil {
				ctx, stop := context.WithCancel(ctx)
				r.asking[name] = stop
				r.wg.Go(func() { r.ask(ctx, name) })
			}
		}
		clear(wanted)
	}
}

// ask answers for a name until ctx ends.
func (r *run) ask(ctx context.Context, name string) {
	for failed := 0; ctx.Err() == nil; {
		changed := r.hosts.changes()
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		a := r.look(ctx, name)
		<-r.slots
		if ctx.Err() != nil {
			return
		}
		if len(a.Addrs) > 0 {
			failed = 0
		} else {
			a.TTL = min(names.MinTTL<<failed, maxRetry)
			failed = min(failed+1, 4)
		}
		if err := r.tell(a); err != nil {
			r.fail(err)
			return
		}
		select {
		case <-time.After(a.TTL):
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (r *run) tell(a names.Answer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.out.Write(names.AppendAnswer(nil, a)); err != nil {
		return errors.Join(errors.New("an answer could not be told"), err)
	}
	return nil
}
