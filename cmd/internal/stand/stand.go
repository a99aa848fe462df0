// Package stand is a whole sallyport on one host, real and throwaway: a
// PostgreSQL server with a small clinic, an OpenID Connect provider, the loader
// and the daemon with their guard in the kernel, and the recorder. The demo,
// the end-to-end tests and the benchmarks run on it.
//
// It needs root. Nothing of it outlives Stop; what a stand that was killed
// has left is removed by the next one.
package stand

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// Options of a Stand. The zero value is the demo's, but for Bin.
type Options struct {
	Bin            string   // folder with sallyport, sallyport-recorder and oidcop; see Build
	Mode           string   // "cgroup" (default: DemoCgroup and guarded commands) or "host"
	Policy         []byte   // the policy file; default: the clinic's, see Policy
	Patients       int      // default 200
	MaxConnections int      // of PostgreSQL; default 100
	ServerLog      bool     // PostgreSQL writes all into log/server.csv of its folder
	Listen         []string // further loopback addresses of PostgreSQL
	HBA            []string // lines of pg_hba.conf that come first
	NoRecorder     bool     // StartRecorder starts it later

	// Configure, when not nil, changes the configuration before it is written.
	Configure func(*config.Config)
	// Prepare, when not nil, runs when the servers around sallyport run and
	// before it does.
	Prepare func(context.Context, *Stand) error
	// Waiting, when not nil, is called when another stand or kernel test runs
	// on this host and must end first.
	Waiting func()
}

// Stand is a running stand. Its methods may be called from one goroutine at a
// time, those that make commands from many.
type Stand struct {
	Dir    string // all files
	Bin    string // programs, first in the PATH of what it starts
	Config string // sallyport.yaml
	Store  string // the recorder's
	Cfg    *config.Config
	PG     *Postgres
	OIDC   *Provider
	Agents map[string]Agent // by name; see startAgents

	o        Options
	pgBin    string
	users    accounts
	unlock   func()
	exempt   *os.File // cgroup of unguarded commands, in host mode
	notices  *notices
	loader   *process
	recorder *process
	stopped  sync.Once
	stopErr  error
}

// accounts are who runs what. None is root, and none is another.
type accounts struct{ daemon, recorder, provider User }

// Start brings a stand up. On an error nothing is left of it. A stand is for
// one at a time on a host: Start waits until the one before has ended.
func Start(ctx context.Context, o Options) (_ *Stand, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the stand needs root: it puts programs into the kernel and runs servers as other users (use sudo)")
	}
	s := &Stand{o: o}
	if s.pgBin, err = findPostgres(); err != nil {
		return nil, err
	}
	if s.Bin, err = filepath.Abs(o.Bin); err != nil {
		return nil, err
	}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(s.Bin, name.name)); err != nil {
			return nil, fmt.Errorf("%w (build it: make build)", err)
		}
	}
	if s.unlock, err = Lock(ctx, o.Waiting); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if err := sweep(); err != nil {
		return nil, err
	}
	// The kernel takes the programs of whoever was here before away a little later.
	if found := lasting(guards); len(found) > 0 {
		return nil, fmt.Errorf("a guard is up on this host, which a stand would take down (%s): use another host, or `sallyport guard down`", strings.Join(found, ", "))
	}
	if s.Dir, err = os.MkdirTemp("", prefix); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Stand) start(ctx context.Context) error {
	def(&s.o.Mode, "cgroup")
	def(&s.o.Patients, 200)
	def(&s.o.MaxConnections, 100)
	if s.o.Policy == nil {
		s.o.Policy = Policy
	}
	if err := s.folders(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		s.PG, err = s.startPostgres(gctx)
		return err
	})
	g.Go(func() (err error) {
		s.OIDC, err = s.startProvider(gctx, s.users.provider, "agent-a", "agent-b", "alice")
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := s.startAgents(ctx); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	if s.o.Prepare != nil {
		if err := s.o.Prepare(ctx, s); err != nil {
			return err
		}
	}
	if err := s.StartSallyport(ctx); err != nil {
		return err
	}
	if s.o.NoRecorder {
		return nil
	}
	return s.StartRecorder(ctx)
}

// folders makes what the parts write to, each with its owner.
func (s *Stand) folders() error {
	users, err := freeUsers(3 + len(agentNames))
	if err != nil {
		return err
	}
	s.users = accounts{users[0], users[1], users[2]}
	s.Agents = map[string]Agent{}
	for i, name := range agentNames {
		s.Agents[name] = Agent{Name: name, User: users[3+i], Token: filepath.Join(s.Dir, "tokens", name+".jwt"), s: s}
	}
	s.Config, s.Store = filepath.Join(s.Dir, "sallyport.yaml"), filepath.Join(s.Dir, "recorder")
	root := User{}
	return errors.Join(os.Chmod(s.Dir, 0o755),
		folder(filepath.Join(s.Dir, "log"), root, 0o700),
		folder(filepath.Join(s.Dir, "tokens"), root, 0o700),
		folder(filepath.Join(s.Dir, "run"), root, 0o755),
		folder(filepath.Join(s.Dir, "state"), s.users.daemon, 0o700),
		folder(s.Store, s.users.recorder, 0o700),
		s.mountPins(), s.makeExempt(), s.listenNotices())
}

// Stop ends everything in order, and proves that nothing is left. It may be
// called again.
func (s *Stand) Stop() error {
	s.stopped.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Stand) stop() error {
	defer s.unlock()
	if s.Dir == "" {
		return nil
	}
	var errs []error
	// Agents first: their cgroups must be empty when the guard goes.
	errs = append(errs, endProcesses(s.Dir, s.servers()), endCgroups(guardedCgroup, DemoCgroup, exemptCgroup))
	errs = append(errs, s.StopSallyport(), s.StopRecorder(), s.OIDC.stop(), s.PG.stop(), s.notices.close())
	if s.exempt != nil {
		errs = append(errs, s.exempt.Close())
	}
	errs = append(errs, remove(s.Dir))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return left(s.leftovers)
}

// servers are the processes that Stop ends in order.
func (s *Stand) servers() map[int]bool {
	pids := map[int]bool{}
	var ps []*process
	if s.PG != nil {
		ps = append(ps, s.PG.proc)
	}
	if s.OIDC != nil {
		ps = append(ps, s.OIDC.proc)
	}
	for _, p := range append(ps, s.loader, s.recorder) {
		if p.running() {
			pids[p.cmd.Process.Pid] = true
		}
	}
	return pids
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
