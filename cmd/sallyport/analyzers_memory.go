package main

import (
	"time"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// maxMemories bounds the databases of which it is kept what their relations were called.
const maxMemories = maxCatalogs

type databaseName struct{ resource, database string }

// remembered is what is kept of a database that nobody uses: a relation may be renamed before
// somebody comes again.
type remembered struct {
	catalog.Memory

	pins rewrite.Pins
	at   time.Time
}

// knows returns what there is to be remembered.
func (e *analyzer) knows() remembered {
	return remembered{e.catalog.Snapshot().Memory(), e.Pins(), time.Now()}
}

// remember keeps what an analyzer knows; mu is held.
func (a *analyzers) remember(e *analyzer) {
	select {
	case <-e.opened:
	default:
		return
	}
	if e.err != nil {
		return
	}
	key := databaseName{e.key.resource, e.key.database}
	if _, there := a.known[key]; !there && len(a.known) >= maxMemories {
		oldest := key
		for k, m := range a.known {
			if oldest == key || m.at.Before(a.known[oldest].at) {
				oldest = k
			}
		}
		delete(a.known, oldest)
	}
	a.known[key] = e.knows()
}

// recall returns what is remembered of a database: by this process, or by an earlier one.
// An error means that something was, and is not known any more.
func (a *analyzers) recall(e *analyzer) (remembered, error) {
	key := databaseName{e.key.resource, e.key.database}
	a.mu.Lock()
	m, ok := a.known[key]
	a.mu.Unlock()
	if ok {
		return m, nil
	}
	return a.kept.read(key)
}
