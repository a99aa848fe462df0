package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"maps"
	"slices"
	"strings"
)

// passing reports a temporary table: these come and go with every session, and
// must not make analyses of others old. A temporary view may show what others do.
func (r *Relation) passing() bool { return r.Temp && r.Kind != 'v' }

// digest sums up what a snapshot says apart from temporary tables.
func (s *Snapshot) digest() [32]byte {
	h := sha256.New()
	for _, oid := range slices.Sorted(maps.Keys(s.ByOID)) {
		if r := s.ByOID[oid]; !r.passing() {
			add(h, r)
		}
	}
	for _, m := range []map[string][]*Function{s.Functions, s.Operators} {
		for _, n := range slices.Sorted(maps.Keys(m)) {
			fs := slices.Clone(m[n])
			slices.SortFunc(fs, func(a, b *Function) int { return cmp.Compare(a.OID, b.OID) })
			add(h, fs)
		}
	}
	for _, oid := range slices.Sorted(maps.Keys(s.TypeByOID)) {
		if t := s.TypeByOID[oid]; !strings.HasPrefix(t.Schema, "pg_temp") && !strings.HasPrefix(t.Schema, "pg_toast") {
			add(h, t)
		}
	}
	add(h, s.Casts)
	add(h, s.Literals)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

func add(h hash.Hash, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs always encode
	}
	h.Write(b)
}
