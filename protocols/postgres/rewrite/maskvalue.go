package rewrite

import (
	"context"
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

// mask returns the expression that stands in place of a column, nil for NULL.
func (a *Analyzer) mask(ctx context.Context, s *catalog.Snapshot, m policy.Mask, c *catalog.Column) (*pg.Node, bool, error) {
	if m.Kind == policy.MaskReveal {
		return colRef(c.Name), false, nil
	}
	sql, constant, err := mask.SQL(m, c.Name, maskType(s, c))
	if err != nil || sql == "" {
		return nil, false, err
	}
	n, err := a.expression(ctx, sql)
	if err != nil {
		return nil, false, err
	}
	if s.Server < 140000 {
		parted(n)
	}
	return n, constant, nil
}

// maskType returns what masks know of a column's type; of one that is neither
// built in, nor an enum, nor of an extension that they know, nothing.
func maskType(s *catalog.Snapshot, c *catalog.Column) mask.Type {
	t, name := s.TypeByOID[c.Type], c.TypeName
	for t != nil && t.Kind == 'd' { // no CHECK runs: what is shown is of its base type
		t, name = s.TypeByOID[t.Base], t.BaseName
	}
	switch {
	case t == nil:
		return mask.Type{}
	case len(t.Labels) > 0:
		return mask.Type{SQL: name, Labels: t.Labels}
	case t.Schema == "pg_catalog":
		return mask.Type{Name: t.Name, SQL: name, Collation: c.Collation}
	}
	of := t
	if e := s.TypeByOID[t.Elem]; e != nil {
		of = e
	}
	if of.Extension && slices.Contains(mask.Extensions, of.Name) {
		return mask.Type{Name: t.Name, SQL: name, Collation: c.Collation, Extension: true}
	}
	return mask.Type{}
}

// nullFor returns a NULL of a column's type, with its modifier; of a domain's
// base type, for a domain may take no NULL.
func (b *binding) nullFor(ctx context.Context, c *catalog.Column) *pg.Node {
	t, name := b.snap.TypeByOID[c.Type], c.TypeName
	for t != nil && t.Kind == 'd' {
		t, name = b.snap.TypeByOID[t.Base], t.BaseName
	}
	if t != nil && t.Schema == "pg_catalog" {
		name = mask.Type{Name: t.Name, SQL: name}.Cast()
	}
	if n, err := b.a.expression(ctx, "NULL::"+name); err == nil && name != "" {
		return n
	}
	return nullOf(t)
}

// Unfit says why a field can't have its mask: the database has no such column,
// or the mask shows NULL of its type. A relation that does not exist is fine.
func (a *Analyzer) Unfit(f events.Field, m policy.Mask) error {
	s := a.o.Catalog.Snapshot()
	for _, r := range s.ByName[f.Relation] {
		if r.Schema != f.Schema {
			continue
		}
		c := r.Column(f.Column)
		if c == nil {
			return fmt.Errorf("%s: the database has no such column: statements on its relation are refused", f)
		}
		if m.Kind == policy.MaskReveal {
			return nil
		}
		if err := mask.Fits(m, maskType(s, c)); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if m.Match && c.Loose {
			return fmt.Errorf("%s: match equality is not for a nondeterministic collation: one value would find others", f)
		}
		if m.Match && matchClass(baseType(s, c.Type)) == "" {
			return fmt.Errorf("%s: match equality is not for its type: it can't be looked up", f)
		}
	}
	return nil
}
