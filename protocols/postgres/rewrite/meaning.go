package rewrite

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// What is approved means the same when it runs: the relations that it reaches, views
// above all, are defined as they were, and the functions that it may call, by whatever
// of these, have the bodies that they had.

// bodies are digests of functions. They are made where statements may need approvals.
type bodies map[string]bool

func (b *bodies) add(sc *policy.Scope, f *catalog.Function) {
	if sc.Approves {
		b.took([]string{f.String() + " " + digest(f)})
	}
}

func (b *bodies) took(all []string) {
	if *b == nil && len(all) > 0 {
		*b = bodies{}
	}
	for _, x := range all {
		(*b)[x] = true
	}
}

func (b *bodies) join(o bodies) {
	if *b == nil && len(o) > 0 {
		*b = bodies{}
	}
	maps.Copy(*b, o)
}

func (b bodies) list() []string { return slices.Sorted(maps.Keys(b)) }

// digest is of a definition.
func digest(definition any) string {
	text, err := json.Marshal(definition)
	if err != nil { // of text and numbers it can't fail
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// runs notes functions that run where a relation is used. The binding is locked.
func (b *binding) runs(r *catalog.Relation, of bodies) {
	if len(of) == 0 {
		return
	}
	if b.ran == nil {
		b.ran = map[uint32]bodies{}
	}
	have := b.ran[r.OID]
	have.join(of)
	b.ran[r.OID] = have
}

// meaning sums up what an analysis means.
func (b *binding) meaning(an *analysis) {
	if !b.scope.Approves || an.Opaque != "" {
		return
	}
	an.Bodies = an.bodies.list()
	b.mu.Lock()
	defer b.mu.Unlock()
	all := maps.Clone(an.bodies)
	said := map[uint32]string{}
	for _, o := range slices.Concat(an.Objects, an.Kin) {
		for _, r := range b.snap.ByName[o.Name] {
			if r.Schema != o.Schema || r.System() || said[r.OID] != "" {
				continue
			}
			said[r.OID] = digest(r)
			b.writtenLocked(r) // looks at all that it runs
			all.join(b.ran[r.OID])
		}
	}
	an.Plain = an.Plain && len(all) == 0 // planning goes through views, and may run these
	relations := slices.Sorted(maps.Values(said))
	an.Meaning = digest([][]string{all.list(), relations})
}
