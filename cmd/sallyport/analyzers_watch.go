package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

const (
	// maxScopes bounds the scopes whose drift is watched, per database.
	maxScopes = 256

	staleBit = 1 << 63 // of a version that no analysis was made for
)

// analyzer is one database's, with its catalog looked at again and again. It
// implements query.Analyzer.
type analyzer struct {
	all    *analyzers
	key    catalogKey
	opened chan struct{} // closed when err and the rest are set
	err    error
	stop   chan struct{}
	once   sync.Once

	refs  int         // all.mu
	timer *time.Timer // all.mu

	*rewrite.Analyzer
	catalog *catalog.Catalog
	stale   atomic.Bool
	overdue *time.Timer

	mu      sync.Mutex
	scopes  map[string]*policy.Scope
	version uint64          // that drift was looked for in
	drifted map[string]bool // told already

	kept []byte // what its file holds; of run alone
}

func (e *analyzer) end() { e.once.Do(func() { close(e.stop) }) }

// run opens the catalog, looks at it until the end, and closes it.
func (e *analyzer) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	if e.open(ctx); e.err != nil {
		return
	}
	defer e.catalog.Close()
	defer e.overdue.Stop()
	defer e.keep()
	e.all.log.Info("catalog is watched", "resource", e.key.resource)
	t := time.NewTicker(e.key.refresh)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := e.Refresh(ctx); err != nil && ctx.Err() == nil {
			e.all.log.Warn("catalog can't be read", "resource", e.key.resource, "error", err)
		}
		e.keep()
	}
}

func (e *analyzer) open(ctx context.Context) {
	defer close(e.opened)
	fail := func(err error) {
		e.err = err
		e.all.mu.Lock()
		defer e.all.mu.Unlock()
		// The next one tries again.
		if e.all.open[e.key] == e {
			delete(e.all.open, e.key)
		}
	}
	select {
	case e.all.slots <- struct{}{}:
		defer func() { <-e.all.slots }()
	case <-ctx.Done():
		fail(ctx.Err())
		return
	}
	o := e.key.options()
	before, err := e.all.recall(e)
	if err != nil {
		e.all.alarms.raise("names", err.Error())
		fail(err)
		return
	}
	o.Before = before.Memory
	c, err := catalog.Open(ctx, o)
	if err != nil {
		e.all.log.Warn("catalog can't be read", "resource", e.key.resource, "error", err)
		fail(err)
		return
	}
	e.catalog = c
	if of := c.Snapshot().Of; !catalog.Same(before.Of, of) {
		if before.Of != "" {
			e.another()
		}
		before.pins = nil // numbers are other relations' there
	}
	e.Analyzer = rewrite.New(rewrite.Options{Parser: e.all.pool, Catalog: c, Before: before.pins})
	e.scopes, e.drifted = map[string]*policy.Scope{}, map[string]bool{}
	e.version = e.Analyzer.Version()
	e.keep() // before anything is decided by it
	e.overdue = time.AfterFunc(e.all.stale, e.tooOld)
}

func (e *analyzer) tooOld() {
	e.stale.Store(true)
	e.all.alarms.raise("catalog", fmt.Sprintf("the catalog of a database of resource %s could not be read for %s: statements that need it are refused", e.key.resource, e.all.stale))
}

// Refresh implements query.Analyzer.
func (e *analyzer) Refresh(ctx context.Context) error {
	if err := e.Analyzer.Refresh(ctx); err != nil {
		return err
	}
	e.overdue.Reset(e.all.stale)
	e.stale.Store(false)
	e.recheck()
	return nil
}

// Version implements query.Analyzer. While the catalog is too old no analysis
// is of this version: what was kept is made again, and refused.
func (e *analyzer) Version() uint64 {
	v := e.Analyzer.Version()
	if e.stale.Load() {
		v |= staleBit
	}
	return v
}

// Analyze implements query.Analyzer.
func (e *analyzer) Analyze(ctx context.Context, in query.Input) (*query.Analysis, error) {
	if e.stale.Load() {
		return nil, fmt.Errorf("the catalog could not be read for %s: nobody knows what the statement's names mean by now", e.all.stale)
	}
	an, err := e.Analyzer.Analyze(ctx, in)
	if err == nil {
		e.seen(in.Scope)
	}
	return an, err
}

var _ query.Analyzer = (*analyzer)(nil)
