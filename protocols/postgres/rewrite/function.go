package rewrite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// A function that the policy does not declare harmless may be called if its body
// says that it is: it reads nothing protected, writes nothing, runs no text that
// is made as it goes, and calls only what may be called. Which search_path it has
// makes no difference, as in a statement: a name is all that bear it. Nor does
// whose rights it has: what it reads is what the statement reads.

// body is what a function was found to do.
type body struct {
	why      string          // it is not harmless; "": it is
	reads    []policy.Object // relations
	speaks   bool            // messages with values of its choice
	converts bool            // into types that its caller gives it
	sanitize bool            // it reads what acts on stored values
	bodies   bodies          // its own, and those of what it calls
}

// maxCalls bounds functions that call functions.
const maxCalls = 30

// may refuses unless a function may be called, and takes over what it does.
func (w *walker) may(f *catalog.Function) bool {
	w.calls = true
	w.bodies.add(w.scope, f)
	if w.scope.Functions[f.String()] || w.inside != nil && w.inside.OID == f.OID {
		for _, oid := range f.Types {
			w.runs(oid)
		}
		return true // what it does itself is looked at already
	}
	c := w.body(f)
	if c.why != "" {
		w.refuse("function %s is not declared harmless by the policy: %s", f, c.why)
		w.computes = w.computes || f.Language == "sql" || f.Language == "plpgsql"
		return false
	}
	w.takes(c)
	return true
}

// takes takes over what a function does.
func (w *walker) takes(c *body) {
	for _, o := range c.reads {
		w.objectNamed(o.Schema, o.Name, o.Access)
	}
	w.reads = w.reads || len(c.reads) > 0
	w.speaks = w.speaks || c.speaks
	w.converts = w.converts || c.converts
	w.sanitize = w.sanitize || c.sanitize
	w.bodies.join(c.bodies)
}

// computed protects generated columns whose functions may have read anything: what
// they found is stored. Of other languages nothing but the arguments is expected.
func (b *binding) computed(g *guard) {
	for _, c := range g.rel.Columns {
		if !c.Generated || g.columns[c.Name] != nil || !b.scope.Protects() {
			continue
		}
		w := b.definition(nil)
		n, err := b.a.expression(context.Background(), c.Expr)
		if w.expr(n); err == nil && !w.computes {
			continue
		}
		if g.columns == nil {
			g.columns = map[string]*protection{}
		}
		null := nullOf(b.base(c.Type))
		g.columns[c.Name] = &protection{derived: true, value: null, null: null}
	}
}

func (w *walker) body(f *catalog.Function) *body {
	if !w.locked {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
	}
	return w.b.body(f)
}

// body looks at a function once; the binding is locked.
func (b *binding) body(f *catalog.Function) *body {
	if c := b.bodies[f.OID]; c != nil {
		return c
	}
	if b.calls >= maxCalls {
		return &body{why: "functions call each other too deeply"}
	}
	b.bodies[f.OID] = &body{why: "it is called by what it calls"}
	b.calls++
	c := &body{}
	c.why = b.look(c, f)
	b.calls--
	b.bodies[f.OID] = c
	return c
}

func (b *binding) look(c *body, f *catalog.Function) string {
	if f.Support {
		return "it has a support function"
	}
	if why := b.signature(c, f); why != "" {
		return why
	}
	for _, s := range f.Config {
		name, value, _ := strings.Cut(s, "=")
		if name != "search_path" && !query.SettingAllowed(name, value) {
			return fmt.Sprintf("it sets %s", name)
		}
	}
	switch {
	case f.Kind == 'a':
		return b.aggregate(c, f)
	case f.Kind != 'f':
		return "it is not a function"
	case f.Language == "sql":
		return b.sql(c, f)
	case f.Language == "plpgsql":
		return b.plpgsql(c, f)
	}
	return fmt.Sprintf("it is written in %s", f.Language)
}

// signature looks at what a call runs besides the body: conversions to the types
// of arguments, and their defaults.
func (b *binding) signature(c *body, f *catalog.Function) string {
	w := b.definition(nil)
	for _, oid := range f.Types {
		t := b.snap.TypeByOID[oid]
		if t == nil {
			return "one of its types is not known"
		}
		if t.Kind == 'p' && (strings.HasPrefix(t.Name, "any") || t.Name == "record") {
			c.converts = true // to whatever it is called with
		}
		w.useArgument(t)
	}
	if f.Defaults != "" {
		n, err := b.a.expression(context.Background(), "ROW("+f.Defaults+")")
		if err != nil {
			return "the defaults of its arguments are not understood"
		}
		w.expr(n)
		if len(w.objects) > 0 {
			w.refuse("a default of its arguments reads relations")
		}
		c.speaks = c.speaks || w.speaks
	}
	c.bodies.join(w.bodies)
	return w.opaque
}

// useArgument is useType for what may be a row as well.
func (w *walker) useArgument(t *catalog.Type) {
	if e := w.snap.TypeByOID[t.Elem]; t.Elem != 0 && e != nil && e.Kind == 'c' {
		t = e
	}
	if t.Kind != 'c' {
		w.useType(t)
		return
	}
	for _, r := range w.snap.ByName[t.Name] {
		if r.RowType != t.OID {
			continue
		}
		if !w.guard(r).free() {
			w.refuse("it has rows of protected relation %s.%s", r.Schema, r.Name)
		}
		w.useColumns(r)
		return
	}
	w.refuse("type %s.%s is not a simple type", t.Schema, t.Name)
}

// useColumns refuses relations whose columns have types that run code when a value
// becomes one of theirs.
func (w *walker) useColumns(r *catalog.Relation) {
	for _, c := range r.Columns {
		t := w.snap.TypeByOID[c.Type]
		if t == nil {
			w.refuse("a type of %s.%s is not known", r.Schema, r.Name)
			return
		}
		w.useType(t)
	}
}

// conversions refuses values of such types where a function may convert to them
// without a name: what it returns, or a variable, is of a type that it was given.
// They come from relations; the rest was named. It refuses values, too, on which
// something else runs without a name.
func (w *walker) conversions() {
	if !w.converts && len(w.b.unnamed) == 0 {
		return
	}
	for _, o := range w.objects {
		for _, r := range w.snap.ByName[o.Name] {
			if r.Schema != o.Schema || r.System() {
				continue
			}
			if w.converts {
				w.useColumns(r)
			}
			for _, c := range r.Columns {
				w.runs(c.Type)
			}
			w.runs(r.RowType)
		}
	}
}

// definition returns a walker of a definition, with the binding locked. in is nil
// for one that the catalog printed; else its names are as its author wrote them.
func (b *binding) definition(in *query.Input) *walker {
	w := newWalker(b, in)
	w.locked = true
	return w
}

// textual is what the names of a body are looked up by.
func (b *binding) textual(f *catalog.Function) *query.Input {
	if f.Atomic {
		return nil
	}
	return &query.Input{Scope: b.scope}
}

// aggregate looks at the functions that an aggregate is made of.
func (b *binding) aggregate(c *body, f *catalog.Function) string {
	if strings.ContainsFunc(f.Initial, func(r rune) bool { return !strings.ContainsRune("0123456789{},.-", r) }) {
		return "it begins with a constant"
	}
	w := b.definition(nil)
	for _, call := range f.Calls {
		if call.OID < firstOwn {
			if !harmless[call.Name] {
				return fmt.Sprintf("it calls %s, which is not among those known to be harmless", call.Name)
			}
			continue
		}
		found := false
		for _, o := range b.snap.Functions[call.Name] {
			if o.OID == call.OID {
				found = true
				w.may(o)
			}
		}
		if !found {
			return fmt.Sprintf("it calls %s, which is not known", call.Name)
		}
	}
	if len(f.Calls) == 0 {
		return "what it calls is not known"
	}
	return w.harmful(c)
}

// sql looks at the body of a function in SQL.
func (b *binding) sql(c *body, f *catalog.Function) string {
	stmts, err := b.statements(f)
	if err != nil {
		return "its body is not understood"
	}
	for i, n := range stmts {
		w := b.definition(b.textual(f))
		w.inside = f
		if w.in != nil && w.major() < 15 && laterNumber(f.Body, n) {
			w.refuse("PostgreSQL %d reads a number of this form as another one", w.major())
		}
		if r := n.GetReturnStmt(); r != nil {
			w.expr(r.Returnval)
		} else if s := n.GetSelectStmt(); s == nil || firstInto(s) != nil {
			w.refuse("it is %s", strings.ToUpper(strings.ReplaceAll(commandOf(n), "_", " ")))
		} else {
			w.query(n)
		}
		w.attributes()
		if why := w.harmful(c); why != "" {
			return fmt.Sprintf("statement %d of its body: %s", i+1, why)
		}
	}
	return ""
}

func (b *binding) statements(f *catalog.Function) (out []*pg.Node, err error) {
	sql := f.Body
	if f.Atomic {
		sql = "CREATE FUNCTION f() RETURNS void LANGUAGE sql " + sql
	}
	tree, err := b.a.printed(context.Background(), sql)
	if err != nil {
		return nil, err
	}
	for _, s := range tree.Stmts {
		out = append(out, s.Stmt)
	}
	if !f.Atomic {
		return out, nil
	}
	if len(out) != 1 {
		return nil, errors.New("not one definition")
	}
	def := out[0].GetCreateFunctionStmt().GetSqlBody()
	if def.GetReturnStmt() != nil {
		return []*pg.Node{def}, nil
	}
	out = nil
	for _, l := range def.GetList().GetItems() {
		out = append(out, l.GetList().GetItems()...)
	}
	if len(out) == 0 {
		return nil, errors.New("no statement")
	}
	return out, nil
}

// attributes checks names behind a dot, and names that may be whole rows, as
// finish does for a statement.
func (w *walker) attributes() {
	for _, n := range w.bare {
		if len(w.items[n]) > 0 {
			w.every = true
		}
	}
	for _, r := range w.refs {
		if r.name != "*" {
			w.attribute(r)
		}
	}
}

// harmful says why a walked part of a function is not harmless, and adds what it
// does.
func (w *walker) harmful(c *body) string {
	w.conversions()
	switch {
	case w.opaque != "":
		return w.opaque
	case w.writes || w.ddl:
		return "it writes"
	case w.changed:
		return "it prints definitions"
	}
	for _, s := range w.subs {
		if w.needed(s) {
			return fmt.Sprintf("it reads protected relation %s.%s", s.guard.rel.Schema, s.guard.rel.Name)
		}
	}
	for _, o := range w.objects {
		if o.Access != policy.Read {
			return "it does more than to read"
		}
		c.reads = append(c.reads, o)
	}
	c.speaks = c.speaks || w.speaks
	c.sanitize = c.sanitize || w.sanitize
	c.bodies.join(w.bodies)
	return ""
}

// trigger says why what a trigger runs is not harmless. It sees the rows of its
// relation as they are stored.
func (b *binding) trigger(ctx context.Context, r *catalog.Relation, t *catalog.Trigger) string {
	if t.Condition != "" {
		if why := b.condition(ctx, r, t.Condition); why != "" {
			return "its condition: " + why
		}
	}
	for _, f := range b.snap.Functions[t.Name] {
		if f.OID == t.OID {
			var own bodies
			own.add(b.scope, f)
			b.runs(r, own)
		}
	}
	if b.scope.Functions[t.String()] {
		return ""
	}
	if !b.guardLocked(r).free() {
		return "it sees rows of a protected relation"
	}
	for _, f := range b.snap.Functions[t.Name] {
		if f.OID != t.OID {
			continue
		}
		c := b.body(f)
		b.runs(r, c.bodies)
		if c.why == "" && len(c.reads) > 0 {
			return fmt.Sprintf("it reads %s.%s", c.reads[0].Schema, c.reads[0].Name)
		}
		return c.why
	}
	return "it is not known"
}

// condition looks at the WHEN of a trigger.
func (b *binding) condition(ctx context.Context, r *catalog.Relation, definition string) string {
	tree, err := b.a.printed(ctx, definition)
	if err != nil || len(tree.Stmts) != 1 || tree.Stmts[0].Stmt.GetCreateTrigStmt() == nil {
		return "it is not understood"
	}
	w := b.definition(nil)
	w.expr(tree.Stmts[0].Stmt.GetCreateTrigStmt().WhenClause)
	b.runs(r, w.bodies)
	return w.harmless()
}

// harmless says why an expression that runs unnamed is not harmless: nobody is
// told of what it reads, nor checks the values that it is given.
func (w *walker) harmless() string {
	switch {
	case w.opaque != "":
	case w.reads:
		w.refuse("it calls a function that reads relations")
	case w.converts:
		w.refuse("it calls a function for values of any type")
	}
	return w.opaque
}
