package rewrite

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
)

// expression parses an expression that the catalog printed.
func (a *Analyzer) expression(ctx context.Context, sql string) (*pg.Node, error) {
	tree, err := a.printed(ctx, "SELECT "+sql)
	if err != nil {
		return nil, err
	}
	if len(tree.Stmts) == 1 {
		if s := tree.Stmts[0].Stmt.GetSelectStmt(); s != nil && len(s.TargetList) == 1 && len(s.FromClause) == 0 {
			return s.TargetList[0].GetResTarget().GetVal(), nil
		}
	}
	return nil, errors.New("not one expression")
}

// printed parses what the catalog printed. What becomes of it is kept until the
// catalog changes, so neither the end of the session that asks nor one bad
// moment of the parser counts.
func (a *Analyzer) printed(ctx context.Context, sql string) (tree *pg.ParseResult, err error) {
	ctx = context.WithoutCancel(ctx)
	for range 3 {
		if tree, err = a.o.Parser.Parse(ctx, sql); err == nil || !errors.Is(err, parser.ErrDied) {
			break
		}
	}
	return tree, err
}

// inspect returns why an expression that the catalog printed is not known to
// be harmless to a relation's rows, "" when it is.
func (b *binding) inspect(ctx context.Context, r *catalog.Relation, sql string) string {
	n, err := b.a.expression(ctx, sql)
	if err != nil {
		return err.Error()
	}
	w := b.definition(nil)
	w.expr(n)
	w.attributes()
	w.conversions()
	b.runs(r, w.bodies)
	if w.speaks && b.keeps(r) {
		w.refuse("it calls a function that sends messages, and may say what is stored")
	}
	for _, s := range w.subs { // of its sub-queries, as in row security
		if w.depends(s) {
			w.refuse("it reads what is protected of %s.%s", s.guard.rel.Schema, s.guard.rel.Name)
		}
	}
	return w.harmless()
}

// depends reports whether what is protected of a relation may decide what comes of its
// use: its rows, or a column that is named.
func (w *walker) depends(s *substitution) bool {
	return s.guard.opaque != "" || w.b.filters[s.guard.rel.OID] != nil || w.hides(s)
}

// hides reports whether a column that the substitution hides may be named.
func (w *walker) hides(s *substitution) bool {
	if w.every {
		return true
	}
	for name := range s.guard.columns {
		if w.names[name] {
			return true
		}
	}
	return false
}

// keeps reports that rows of a relation hold what is protected.
func (b *binding) keeps(r *catalog.Relation) bool {
	return !b.guardLocked(r).free() || b.filters[r.OID] != nil || b.hidden[r.OID] != ""
}

// implicit adds what reading the relation runs without naming it: the
// expressions of row security policies.
func (b *binding) implicit(ctx context.Context, g *guard) {
	if !g.rel.RowSecurity || g.opaque != "" {
		return
	}
	g.sanitize = g.sanitize || len(g.columns) > 0
	for _, e := range g.rel.Policies {
		if why := b.inspect(ctx, g.rel, e); why != "" {
			g.opaque = fmt.Sprintf("a row security policy of %s.%s is not understood: %s", g.rel.Schema, g.rel.Name, why)
			return
		}
	}
}

// written returns why writing to a relation runs code that is not known to be
// harmless, "" when it does not.
func (b *binding) written(r *catalog.Relation) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writtenLocked(r)
}

func (b *binding) writtenLocked(r *catalog.Relation) string {
	g := b.guardLocked(r)
	if g.code == "" {
		g.code = b.code(context.Background(), r)
		if g.code == "" {
			g.code = "none"
		}
	}
	if g.code == "none" {
		return ""
	}
	return g.code
}

func (b *binding) code(ctx context.Context, r *catalog.Relation) string {
	name := r.Schema + "." + r.Name
	if len(r.Rules) > 0 {
		return fmt.Sprintf("%s has rule %s", name, r.Rules[0])
	}
	for _, t := range r.Triggers {
		if why := b.trigger(ctx, r, t); why != "" {
			return fmt.Sprintf("%s has a trigger that calls %s, which the policy does not declare harmless: %s", name, t, why)
		}
	}
	exprs := append(append([]string(nil), r.Checks...), r.Policies...)
	for _, i := range r.Indexes {
		if i.Expressions != "" {
			exprs = append(exprs, "ROW("+i.Expressions+")")
		}
		if i.Predicate != "" {
			exprs = append(exprs, i.Predicate)
		}
	}
	if p := r.Partitioned; p != nil && p.Expressions != "" {
		exprs = append(exprs, "ROW("+p.Expressions+")")
	}
	w := b.definition(nil)
	for _, c := range r.Columns {
		if c.Expr != "" && !c.Identity && !isSequence(c.Expr) {
			exprs = append(exprs, c.Expr)
		}
		if t := b.snap.TypeByOID[c.Type]; t != nil {
			w.useType(t)
		}
	}
	if w.opaque != "" {
		return fmt.Sprintf("%s: %s", name, w.opaque)
	}
	for _, e := range exprs {
		if why := b.inspect(ctx, r, e); why != "" {
			return fmt.Sprintf("a default, check or index of %s is not understood: %s", name, why)
		}
	}
	// Rows also go to partitions and referenced relations.
	for _, oid := range r.Children {
		if ch := b.snap.ByOID[oid]; ch != nil {
			if why := b.code(ctx, ch); why != "" {
				return why
			}
		}
	}
	return ""
}

// view works out what a view shows of protected columns, and what it reads.
func (b *binding) view(g *guard) {
	r := g.rel
	name := r.Schema + "." + r.Name
	tree, err := b.a.printed(context.Background(), r.Definition)
	if err != nil || len(tree.Stmts) != 1 {
		g.opaque = fmt.Sprintf("the definition of view %s is not understood", name)
		return
	}
	def := tree.Stmts[0].Stmt
	w := b.definition(nil)
	w.query(def)
	b.runs(r, w.bodies)
	for _, o := range w.objects {
		if o.Access != policy.Read {
			w.refuse("it writes")
		}
		for _, base := range b.snap.ByName[o.Name] {
			if base.Schema == o.Schema && base != r {
				g.bases = append(g.bases, base)
			}
		}
	}
	if w.opaque != "" {
		g.opaque = fmt.Sprintf("the definition of view %s is not understood: %s", name, w.opaque)
		return
	}
	for _, sub := range w.subs {
		// What it makes of rows that are left out can't be followed: only a
		// filter of its own says which of its rows are there.
		if s := sub.guard; s.filter != nil && b.filters[r.OID] == nil {
			g.opaque = fmt.Sprintf("view %s reads rows of %s.%s, which are filtered, and has no filter of its own", name, s.rel.Schema, s.rel.Name)
			return
		}
	}
	if w.conversions(); w.opaque != "" {
		g.opaque = fmt.Sprintf("the definition of view %s is not understood: %s", name, w.opaque)
		return
	}
	// Its own expressions act on stored values, and so do its errors.
	g.sanitize = w.sanitize
	for _, sub := range w.subs {
		g.sanitize = g.sanitize || !sub.guard.rel.System()
	}
	if w.speaks && g.sanitize {
		g.opaque = fmt.Sprintf("view %s calls a function that sends messages, and may say what is stored", name)
		return
	}
	if len(w.subs) == 0 {
		return
	}
	lin := &lineage{b: b}
	cols := lin.query(def.GetSelectStmt(), nil)
	g.columns = map[string]*protection{}
	for i, c := range r.Columns {
		p := &protection{derived: true, fields: lin.all(w)}
		if len(cols) == len(r.Columns) {
			if cols[i].p == nil {
				continue
			}
			p = &protection{mask: cols[i].p.mask, derived: cols[i].p.derived, fields: cols[i].p.fields}
		}
		if err := b.value(context.Background(), p, c); err != nil {
			p.derived, p.value = true, p.null
		}
		g.columns[c.Name] = p
	}
}

// isSequence reports the default of a serial column.
func isSequence(expr string) bool { return sequenceDefault.MatchString(expr) }

var sequenceDefault = regexp.MustCompile(`^nextval\('[^']*'::regclass\)$`)
