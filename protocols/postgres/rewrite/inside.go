package rewrite

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Within implements query.Insider.
func (a *Analyzer) Within(ctx context.Context, ask func(ctx context.Context, sql ...string) ([]query.Rows, error)) (query.Analyzer, error) {
	base := a.o.Catalog.Snapshot()
	s, err := catalog.Inside(ctx, base, ask)
	switch {
	case errors.Is(err, catalog.ErrIsolation):
		return nil, fmt.Errorf("%w: %w", query.ErrUnseen, err)
	case err != nil:
		return nil, err
	}
	return &Analyzer{
		o: Options{Parser: a.o.Parser, Catalog: inside{s, a.o.Catalog}}, outer: a,
		bindings: map[string]*binding{}, pins: map[events.Field]pin{},
	}, nil
}

// Apart implements query.Insider.
func (a *Analyzer) Apart() query.Analyzer {
	s := a.o.Catalog.Snapshot().Apart()
	if s == nil {
		return nil
	}
	return &Analyzer{
		o: Options{Parser: a.o.Parser, Catalog: inside{s, a.o.Catalog}}, outer: a,
		bindings: map[string]*binding{}, pins: map[events.Field]pin{},
	}
}

// inside is the catalog as an open transaction, or a session, sees it.
type inside struct {
	snap *catalog.Snapshot
	base Catalog
}

func (i inside) Snapshot() *catalog.Snapshot       { return i.snap }
func (i inside) Refresh(ctx context.Context) error { return i.base.Refresh(ctx) }

// pinOuter takes over where protected fields are in what is committed: what the
// transaction has made of them is held against that, and is not remembered. The
// caller holds the Analyzer's lock.
func (a *Analyzer) pinOuter(ctx context.Context, sc *policy.Scope) error {
	if a.outer == nil {
		return nil
	}
	if _, err := a.outer.binding(ctx, sc); err != nil {
		return err
	}
	a.outer.mu.Lock()
	defer a.outer.mu.Unlock()
	maps.Copy(a.pins, a.outer.pins)
	return nil
}

var _ query.Insider = (*Analyzer)(nil)
