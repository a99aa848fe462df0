package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

const (
	// maxCatalogs bounds the databases that are watched at a time: their names
	// are the clients' to choose.
	maxCatalogs = 64
	// opening bounds the side connections that are being made.
	opening = 4
	// idleTime is how long a catalog is kept after its last session.
	idleTime = time.Minute
	// staleTime is how old the latest look at a catalog may be: beyond it
	// nothing is analysed, since nobody knows what names mean by now.
	staleTime = 30 * time.Second
)

// access is how a resource's catalogs are read.
type access struct {
	resource       string
	address        netip.AddrPort
	user, password string
	refresh        time.Duration
	upstream       *upstream
}

type catalogKey struct {
	access
	database string
}

// analyzers keeps one analyzer for each database that sessions use.
type analyzers struct {
	log    *slog.Logger
	alarms *alarms
	drift  func(*events.Event)
	slots  chan struct{} // see opening
	idle   time.Duration // idleTime
	stale  time.Duration // staleTime

	mu     sync.Mutex
	pool   *parser.Pool
	access map[string]access // by resource
	open   map[catalogKey]*analyzer
	known  map[databaseName]remembered
	kept   keptNames
	closed bool
	wg     sync.WaitGroup
}

func newAnalyzers(log *slog.Logger, a *alarms, drift func(*events.Event)) *analyzers {
	return &analyzers{
		log: log, alarms: a, drift: drift, slots: make(chan struct{}, opening), idle: idleTime, stale: staleTime,
		access: map[string]access{}, open: map[catalogKey]*analyzer{}, known: map[databaseName]remembered{},
	}
}

// prepare starts the parser if a configuration needs it and it does not run.
func (a *analyzers) prepare(cfg *config.Config) error {
	need := false
	for _, r := range cfg.Resources {
		need = need || r.Catalog != nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !need || a.pool != nil {
		return nil
	}
	p, err := parser.New(parser.Options{})
	if err != nil {
		return err
	}
	a.pool = p
	return nil
}

// commit puts a setting in force. Analyzers that were opened otherwise than it
// says go on for their sessions only.
func (a *analyzers) commit(s *setting) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.access)
	for _, r := range s.cfg.Resources {
		if c := r.Catalog; c != nil {
			a.access[r.Name] = access{r.Name, c.Address, c.User, s.passwords[c.PasswordFile], c.Refresh, s.upstreams[r.Name]}
		}
	}
	for key, e := range a.open {
		if a.access[key.resource] != key.access {
			a.retire(key, e)
		}
	}
}

// get returns the analyzer of a database, opening it if it is the first. The
// release function is to be called once.
func (a *analyzers) get(ctx context.Context, resource, database string) (query.Analyzer, func(), error) {
	e, err := a.take(resource, database)
	if err != nil {
		return nil, nil, err
	}
	var once sync.Once
	release := func() { once.Do(func() { a.release(e) }) }
	select {
	case <-e.opened:
	case <-ctx.Done():
		release()
		return nil, nil, fmt.Errorf("catalog of database %q: %w", database, ctx.Err())
	}
	if e.err != nil {
		release()
		return nil, nil, e.err
	}
	return e, release, nil
}

func (a *analyzers) take(resource, database string) (*analyzer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc, ok := a.access[resource]
	switch {
	case a.closed:
		return nil, errors.New("sallyport is stopping")
	case !ok:
		return nil, fmt.Errorf("resource %s has no catalog: what is protected can't be found in its statements (resources[].catalog in sallyport.yaml)", resource)
	}
	key := catalogKey{acc, database}
	e := a.open[key]
	if e == nil {
		if len(a.open) >= maxCatalogs && !a.evict() {
			return nil, fmt.Errorf("%d databases are in use, which is as many as can be watched at a time", maxCatalogs)
		}
		e = &analyzer{all: a, key: key, opened: make(chan struct{}), stop: make(chan struct{})}
		a.open[key] = e
		a.wg.Go(e.run)
	}
	e.refs++
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	return e, nil
}

func (a *analyzers) release(e *analyzer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.refs--; e.refs > 0 {
		return
	}
	if a.open[e.key] != e {
		e.end()
		return
	}
	e.timer = time.AfterFunc(a.idle, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if e.refs == 0 {
			a.retire(e.key, e)
		}
	})
}

// retire gives an analyzer to no new session; mu is held.
func (a *analyzers) retire(key catalogKey, e *analyzer) {
	if a.open[key] == e {
		delete(a.open, key)
		a.remember(e)
	}
	if e.refs == 0 {
		e.end()
	}
}

// evict makes room by one that no session uses; mu is held.
func (a *analyzers) evict() bool {
	for key, e := range a.open {
		if e.refs == 0 {
			a.retire(key, e)
			return true
		}
	}
	return false
}

func (a *analyzers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

// close ends all side connections and the parser.
func (a *analyzers) close() {
	a.mu.Lock()
	a.closed = true
	for key, e := range a.open {
		delete(a.open, key)
		e.end()
	}
	pool := a.pool
	a.mu.Unlock()
	a.wg.Wait()
	if pool != nil {
		pool.Close()
	}
}

// options say how the side connection is made.
func (k *catalogKey) options() catalog.Options {
	return catalog.Options{
		User: k.user, Password: k.password, Database: k.database,
		Dial: func(ctx context.Context) (net.Conn, error) { return k.upstream.dial(ctx, "tcp", k.address.String()) },
	}
}
