package postgres

import (
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Where rules only observe, a statement is analysed a second time, as it would be if
// they were enforced. That is for the record: nothing of it is sent, asked of the
// client's own connection, or refused. Of what an open transaction has defined it
// knows as much as the first analysis does.

// would is a session's second analysis.
type would struct {
	asked bool            // it is under way
	ddl   bool            // the catalog may be another than it knows
	next  *policy.Request // of the statement that is decided next
	req   policy.Request

	// What it has instead of the session's own.
	key     []byte
	lits    []span
	digests []events.Digest

	// What SQL's names would stand for. They are taken for made whatever the server
	// says of it.
	prepared, cursors map[string]*query.Analysis
}

// take returns the request that was made ready, once.
func (w *would) take() *policy.Request {
	r := w.next
	w.next = nil
	return r
}

// observe analyses a statement as it would be if the rules were enforced that only
// observe, for the decision that comes next. Where there is none it does nothing.
func (c *conn) observe(sc *policy.Scope, sql []byte, simple bool, types []uint32) {
	c.would.next = nil
	if sc.Would == nil {
		return
	}
	w := &c.would
	w.req = policy.Request{Opaque: "it could not be analysed"}
	w.next = &w.req
	w.swap(c)
	w.asked = true
	st, err := c.analyzeWould(sc.Would, sql, simple, types)
	w.asked = false
	w.swap(c)
	if err != nil {
		return
	}
	an := st.an
	w.req = policy.Request{}
	describe(&w.req, an)
	w.req.Memo = nil // it is of the other scope
	w.names(an)
}

func (c *conn) analyzeWould(sc *policy.Scope, sql []byte, simple bool, types []uint32) (*statement, error) {
	if c.would.ddl && c.base != nil {
		if err := c.base.Refresh(c.ctx); err != nil {
			return nil, err
		}
	}
	st, err := c.analyze(sql, sc, simple, types)
	c.would.ddl = err != nil || st.an.DDL || st.an.Opaque != ""
	return st, err
}

// swap exchanges what an analysis leaves in the session with what the other one has.
func (w *would) swap(c *conn) {
	c.key, w.key = w.key, c.key
	c.lits, w.lits = w.lits, c.lits
	c.digests, w.digests = w.digests, c.digests
}

// names does what a text would do to the names.
func (w *would) names(an *query.Analysis) {
	drop := func(m map[string]*query.Analysis, names []string) {
		for _, n := range names {
			if n == "*" {
				clear(m)
			}
			delete(m, n)
		}
	}
	keep := func(to *map[string]*query.Analysis, from map[string]*query.Analysis) {
		for n, a := range from {
			if *to == nil {
				*to = map[string]*query.Analysis{}
			}
			if len(*to) < maxWouldNames {
				(*to)[n] = a
			}
		}
	}
	drop(w.prepared, an.Deallocates)
	drop(w.cursors, an.Closes)
	keep(&w.prepared, an.Prepares)
	keep(&w.cursors, an.Declares)
}

// maxWouldNames bounds each kind of names that are kept; others are not known.
const maxWouldNames = 1000
