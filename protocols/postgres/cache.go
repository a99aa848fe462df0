package postgres

import (
	"hash/maphash"
	"sync"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// statement is an analysed text, or all texts of one shape. It is shared and
// not changed.
type statement struct {
	an          *query.Analysis
	normalized  string
	fingerprint uint64
	pieces      []piece // of an.SQL, where it has a shape's literals in it
	exact       bool    // the shape says nothing: look the exact text up
	copies      bool    // it may take COPY data from the client
	defines     bool    // the catalog may be another one for other sessions once it has run
}

// appendSQL appends what is sent in place of the client's text.
func (st *statement) appendSQL(b, sql []byte, lits []span) []byte {
	switch {
	case st.an.SQL == "":
		return append(b, sql...)
	case st.pieces == nil:
		return append(b, st.an.SQL...)
	}
	for _, p := range st.pieces {
		b = append(b, p.text...)
		if p.lit >= 0 {
			b = append(b, sql[lits[p.lit].start:lits[p.lit].end]...)
		}
	}
	return b
}

// size is a guess of what an entry costs, in bytes.
func (st *statement) size(key string) int {
	return 1024 + len(key) + len(st.normalized) + 2*len(st.an.SQL) + 64*(len(st.an.Objects)+len(st.an.Masked))
}

const (
	shards     = 16
	cacheBytes = 64 << 20 // of all shards, two generations each
)

// cache keeps statements by their keys. Each shard has two generations: what
// is used moves to the young one, and when that is full the old one goes.
type cache struct {
	seed  maphash.Seed
	shard [shards]struct {
		sync.RWMutex
		young, old map[string]*statement
		size       int // of young
	}
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed()} }

func (c *cache) get(key []byte) *statement {
	s := &c.shard[maphash.Bytes(c.seed, key)%shards]
	s.RLock()
	st := s.young[string(key)]
	aged := s.old[string(key)]
	s.RUnlock()
	if st == nil && aged != nil {
		c.put(key, aged)
		return aged
	}
	return st
}

func (c *cache) put(key []byte, st *statement) {
	n := st.size(string(key))
	if n > cacheBytes/shards/16 {
		return // one of these is not worth many others
	}
	s := &c.shard[maphash.Bytes(c.seed, key)%shards]
	s.Lock()
	defer s.Unlock()
	if s.young == nil || s.size+n > cacheBytes/shards/2 {
		s.old, s.young, s.size = s.young, map[string]*statement{}, 0
	}
	if s.young[string(key)] == nil {
		s.size += n
	}
	s.young[string(key)] = st
}
