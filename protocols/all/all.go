// Package all is the one table of protocols: a protocol is in the program by a
// line here, and nowhere else.
package all

import (
	"context"
	"maps"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Host is what protocols need of the program that they run in.
type Host struct {
	// Analyzer returns the analyzer of a database of a resource; it may
	// connect. The release function is called when the session ends.
	Analyzer func(ctx context.Context, resource, database string) (query.Analyzer, func(), error)
	// Digest is the keyed hash of a value that must not stand in an event.
	Digest func(b []byte) events.Digest
	// Keys returns what keyed masks are made with at this moment, nil for nothing.
	Keys func() *mask.Keys
	// Subjects returns what subjects are named by at this moment, nil for nothing.
	Subjects func() *events.SubjectKey
}

type entry struct {
	make   func(Host) protocols.Protocol
	secure protocols.Secure // nil: it has no TLS of its own
}

var table = map[string]entry{
	"postgres": {
		make: func(h Host) protocols.Protocol {
			return postgres.New(postgres.Options{Analyzer: h.Analyzer, Digest: h.Digest, Keys: h.Keys, Subjects: h.Subjects})
		},
		secure: postgres.Secure,
	},
}

// New makes every protocol, by the name that it has in sallyport.yaml.
func New(h Host) map[string]protocols.Protocol {
	all := map[string]protocols.Protocol{}
	for name, e := range table {
		all[name] = e.make(h)
	}
	return all
}

// Secure returns how a protocol's servers are asked for TLS, nil if they can't
// be.
func Secure(name string) protocols.Secure { return table[name].secure }

// Names returns the names of all protocols, in order.
func Names() []string { return slices.Sorted(maps.Keys(table)) }
