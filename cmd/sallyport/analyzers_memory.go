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
	names map[uint32][]catalog.Name
	pins  rewrite.Pins
	at    time.Time
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
	a.known[key] = remembered{e.catalog.Snapshot().Names(), e.Pins(), time.Now()}
}

func (a *analyzers) recall(e *analyzer) remembered {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[databaseName{e.key.resource, e.key.database}]
}
