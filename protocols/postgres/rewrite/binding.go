package rewrite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// guard is what stands before a relation for one scope.
type guard struct {
	rel      *catalog.Relation
	columns  map[string]*protection // protected columns by name
	opaque   string                 // why any use is refused
	sanitize bool
	filter   *rowFilter          // nil: every row is there
	bases    []*catalog.Relation // what a view reads, all the way down
	sorted   bool                // a view whose rows would come in an order that tells
	code     string              // why writing is opaque: rules, triggers, defaults, checks
}

// free reports that the relation can be read as it is.
func (g *guard) free() bool { return !g.replaced() && g.opaque == "" }

// replaced reports that a sub-select takes the place of references to it.
func (g *guard) replaced() bool { return len(g.columns) > 0 || g.filter != nil || g.sorted }

// protection is what a protected column shows.
type protection struct {
	mask     policy.Mask
	derived  bool           // computed from protected columns: NULL
	constant bool           // every row shows the same text
	fields   []events.Field // of the policy that it comes from; none for the catalog's own
	value    *pg.Node       // in place of the column
	null     *pg.Node       // the same as a typed NULL
}

// binding is a scope applied to a snapshot. It is safe for concurrent use.
type binding struct {
	a     *Analyzer
	snap  *catalog.Snapshot
	scope *policy.Scope

	own     map[uint32]map[string]*protection // of views that the policy itself names
	filters map[uint32]*rowFilter
	hidden  map[uint32]string // why rows that are filtered may not be reached

	cast string // why nothing can be told while a cast is there, "" where none is

	unbound []events.Field // policy fields whose relation has no such column

	rowTypes map[uint32]*guard // row types of relations with protected columns

	subjects map[uint32][]subjectKey // whose the rows of relations are

	mu     sync.Mutex
	guards map[uint32]*guard
	bodies map[uint32]*body  // of functions
	ran    map[uint32]bodies // of the functions that relations run; see meaning.go
	calls  int               // how deep in them

	unnamed    map[uint32][]*catalog.Function // those that run on values of a type without being named
	undeclared bool                           // not all of them are declared by the policy
}

// bind applies a scope to a snapshot.
func (a *Analyzer) bind(ctx context.Context, s *catalog.Snapshot, sc *policy.Scope) (*binding, error) {
	b := &binding{a: a, snap: s, scope: sc, guards: map[uint32]*guard{}, bodies: map[uint32]*body{}, rowTypes: map[uint32]*guard{}, own: map[uint32]map[string]*protection{}, filters: map[uint32]*rowFilter{}, hidden: map[uint32]string{}}
	b.findUnnamed()
	b.filterRows()
	b.bindSubjects()
	prot := map[uint32]map[string]*protection{}
	refused := map[uint32]string{}
	for name, cols := range sc.Masks {
		now := a.pinned(s, name)
		b.refuseParted(name, now, func(n policy.Relation) bool { return sc.Masks[n] != nil }, func(r *catalog.Relation, why string) { refused[r.OID] = why })
		for _, r := range now {
			if r.Schema != name.Schema || r.Name != name.Name {
				refused[r.OID] = fmt.Sprintf("relation %s.%s was renamed: the policy protects it as %s.%s", r.Schema, r.Name, name.Schema, name.Name)
			}
			for col, mask := range cols {
				f := events.Field{Schema: name.Schema, Relation: name.Name, Column: col}
				if a.moved(r, f) || r.Column(col) == nil {
					b.unbound = append(b.unbound, f)
					refused[r.OID] = fmt.Sprintf("the policy protects %s, which relation %s.%s no longer has under that name", f, r.Schema, r.Name)
					continue
				}
				b.protect(prot, r, col, &protection{mask: mask, fields: []events.Field{f}})
			}
		}
	}
	for oid, cols := range prot {
		r := s.ByOID[oid]
		if err := b.generated(ctx, r, cols); err != nil {
			return nil, err
		}
	}
	for oid, cols := range prot {
		r := s.ByOID[oid]
		g := &guard{rel: r, columns: cols, opaque: refused[oid]}
		for name, p := range cols {
			if err := b.value(ctx, p, r.Column(name)); err != nil {
				return nil, err
			}
		}
		if isView(r) { // what it passes through is protected besides
			b.own[oid] = cols
			if refused[oid] != "" {
				b.hide(r, refused[oid])
				delete(refused, oid)
			}
			continue
		}
		b.guards[oid] = g
		b.rowTypes[r.RowType] = g
	}
	for oid, why := range refused {
		if b.guards[oid] == nil {
			g := &guard{rel: s.ByOID[oid], opaque: why}
			b.guards[oid], b.rowTypes[g.rel.RowType] = g, g
		}
	}
	for _, g := range b.guards {
		b.descend(g, g.rel)
		b.copies(g)
		b.computed(g)
		b.implicit(ctx, g)
		b.leaveOut(g)
	}
	b.partitions()
	for oid := range b.own {
		r := s.ByOID[oid]
		b.rowTypes[r.RowType] = b.guardLocked(r)
	}
	slices.SortFunc(b.unbound, func(x, y events.Field) int { return strings.Compare(x.String(), y.String()) })
	if sc.Protects() {
		b.cast = cmp.Or(hostileCast(s, sc), b.hostileOrder())
	}
	return b, nil
}

// hostileCast finds a user's implicit cast: it may run in any expression
// without being named.
func hostileCast(s *catalog.Snapshot, sc *policy.Scope) string {
	for _, c := range s.Casts {
		if c.Context == 'e' || c.Extension || c.Function == nil || sc.Functions[c.Function.String()] {
			continue
		}
		if src, dst := s.TypeByOID[c.Source], s.TypeByOID[c.Target]; src != nil && dst != nil {
			return fmt.Sprintf("any expression may run the implicit cast from %s to %s by function %s, which is not declared harmless by the policy", src.Name, dst.Name, c.Function)
		}
	}
	return ""
}

// protect adds a column's protection to its relation and, by the same name,
// to all its ancestors and descendants.
func (b *binding) protect(prot map[uint32]map[string]*protection, r *catalog.Relation, col string, p *protection) {
	seen := map[uint32]bool{}
	var visit func(r *catalog.Relation)
	visit = func(r *catalog.Relation) {
		if r == nil || seen[r.OID] || r.Column(col) == nil {
			return
		}
		seen[r.OID] = true
		m := prot[r.OID]
		if m == nil {
			m = map[string]*protection{}
			prot[r.OID] = m
		}
		// A protection of its own wins over an inherited one.
		if have := m[col]; have == nil {
			c := *p
			m[col] = &c
		} else if own := p.fields[0]; own.Schema == r.Schema && own.Relation == r.Name {
			*have = *p
		} else if have.mask != p.mask && !(have.fields[0].Schema == r.Schema && have.fields[0].Relation == r.Name) {
			*have = protection{derived: true, fields: append(have.fields, p.fields...)}
		}
		for _, o := range r.Parents {
			visit(b.snap.ByOID[o])
		}
		for _, o := range r.Children {
			visit(b.snap.ByOID[o])
		}
	}
	visit(r)
}

// generated adds the columns that are computed from protected ones.
func (b *binding) generated(ctx context.Context, r *catalog.Relation, cols map[string]*protection) error {
	for _, c := range r.Columns {
		if !c.Generated || cols[c.Name] != nil {
			continue
		}
		n, err := b.a.expression(ctx, c.Expr)
		if err != nil {
			cols[c.Name] = &protection{derived: true}
			continue
		}
		var from []events.Field
		touched := false
		eachColumn(n, func(names []string, star bool) {
			if star || len(names) != 1 {
				touched = true
				return
			}
			if p := cols[names[0]]; p != nil {
				touched = true
				from = append(from, p.fields...)
			}
		})
		if touched {
			cols[c.Name] = &protection{derived: true, fields: from}
		}
	}
	return nil
}

// value computes what the column shows in its place.
func (b *binding) value(ctx context.Context, p *protection, c *catalog.Column) error {
	p.null = b.nullFor(ctx, c)
	if p.derived {
		p.value = p.null
		return nil
	}
	v, constant, err := b.a.mask(ctx, b.snap, p.mask, c)
	if err != nil {
		return fmt.Errorf("mask %q of %v: %w", p.mask.Kind, p.fields, err)
	}
	if v == nil {
		v = p.null
	}
	p.value, p.constant = v, constant
	return nil
}

// base returns a type without its domains.
func (b *binding) base(oid uint32) *catalog.Type { return baseType(b.snap, oid) }

func baseType(s *catalog.Snapshot, oid uint32) *catalog.Type {
	t := s.TypeByOID[oid]
	for t != nil && t.Kind == 'd' {
		t = s.TypeByOID[t.Base]
	}
	return t
}

// nullOf returns a NULL of the type.
func nullOf(t *catalog.Type) *pg.Node {
	n := typedNull("text")
	if t != nil {
		n.GetTypeCast().TypeName.Names = strs(t.Schema, t.Name)
	}
	return n
}

// guard returns what stands before a relation; never nil.
func (b *binding) guard(r *catalog.Relation) *guard {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.guardLocked(r)
}

func (b *binding) guardLocked(r *catalog.Relation) *guard {
	if g := b.guards[r.OID]; g != nil {
		return g
	}
	g := &guard{rel: r}
	// Against definitions that refer to themselves.
	b.guards[r.OID] = &guard{rel: r, opaque: fmt.Sprintf("relation %s.%s is defined by itself", r.Schema, r.Name)}
	masked := b.scope.Protects()
	switch {
	case r.System():
		if masked {
			b.system(g)
		}
	case isView(r):
		b.view(g)
		if own := b.own[r.OID]; own != nil {
			if g.columns == nil {
				g.columns = map[string]*protection{}
			}
			maps.Copy(g.columns, own)
		}
	case r.Kind == 'r' || r.Kind == 'p':
		b.descend(g, r)
		b.copies(g)
		b.computed(g)
	case r.Kind == 'S' && masked:
		g.opaque = fmt.Sprintf("sequence %s.%s tells of rows of other relations", r.Schema, r.Name)
	case r.Kind == 'f' && masked:
		g.opaque = fmt.Sprintf("foreign table %s.%s may hold anything", r.Schema, r.Name)
	}
	b.implicit(context.Background(), g)
	b.leaveOut(g)
	g.sorted = r.Kind == 'v' && b.readInOrder(g)
	b.guards[r.OID] = g
	return g
}

func isView(r *catalog.Relation) bool { return r.Kind == 'v' || r.Kind == 'm' }

// leaveOut has a guard leave rows out.
func (b *binding) leaveOut(g *guard) {
	g.filter = b.filters[g.rel.OID]
	if why := b.hidden[g.rel.OID]; why != "" && g.opaque == "" {
		g.opaque = why
	}
}

// descend adds the relations whose rows are read with r's: its children.
func (b *binding) descend(g *guard, r *catalog.Relation) {
	for _, oid := range r.Children {
		if ch := b.snap.ByOID[oid]; ch != nil && !slices.Contains(g.bases, ch) {
			g.bases = append(g.bases, ch)
			b.descend(g, ch)
		}
	}
}

// copies protects columns that hold whole rows of protected relations.
func (b *binding) copies(g *guard) {
	for _, c := range g.rel.Columns {
		t := b.base(c.Type)
		if t != nil && t.Elem != 0 {
			t = b.base(t.Elem)
		}
		if t == nil || b.rowTypes[t.OID] == nil || g.columns[c.Name] != nil {
			continue
		}
		if g.columns == nil {
			g.columns = map[string]*protection{}
		}
		p := &protection{derived: true}
		for _, of := range b.rowTypes[t.OID].columns {
			p.fields = append(p.fields, of.fields...)
		}
		p.null = nullOf(b.base(c.Type))
		p.value = p.null
		g.columns[c.Name] = p
	}
}
