package rewrite

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// maxDepth bounds the nesting of what is walked.
const maxDepth = 1000

// walker goes through one statement. It refuses every node that it has no
// case for, and reads every field of those it has: fields_test.go holds the
// list against the parser's definitions.
type walker struct {
	b      *binding
	snap   *catalog.Snapshot
	scope  *policy.Scope
	in     *query.Input      // nil while a definition is inspected
	locked bool              // the binding is locked by us
	inside *catalog.Function // whose body this is

	opaque, remedy string
	code           string // SQLSTATE, where the server would refuse it itself
	at             int    // byte of the text where what that is of stands; 0: not known
	unknown        bool   // a relation that the snapshot does not have

	commands []string
	target   targetCheck
	objects  []policy.Object
	masked   map[events.Field]bool
	filtered map[policy.Relation]bool
	writes   bool
	ddl      bool
	sanitize bool
	changed  bool // the tree differs from the client's
	local    bool // names of the session were looked up
	byValue  bool // a literal's value was looked at

	// What functions do that are called; see function.go.
	reads, speaks, converts, computes bool
	calls                             bool   // one that is not built in
	bodies                            bodies // of the functions that it may call; see meaning.go

	// What may be masked on output; see output.go.
	outermost bool // the statement's rows go to the client, alone in its text
	root      *pg.SelectStmt
	returns   *substitution // what a write returns rows of, nil for none; it stays where it is
	backs     map[*pg.ColumnRef]back
	outputs   []query.Output
	origins   []query.Origin
	width     int
	copies    []scrub.Copy
	sights    sightings

	ctes   []string           // in scope, innermost last
	items  map[string][]*item // range items by the name they go by
	subs   []*substitution
	refs   []reference
	groups []*pg.SelectStmt // with a GROUP BY
	bare   []string         // single names: a column, or a whole row
	names  map[string]bool
	every  bool // all columns of every relation may be seen

	stars   int  // stars in lists, of columns
	selects bool // there is a selection of fields

	// What may be compared with other columns: by name, after a renaming, or
	// anything.
	joins    map[string]bool
	renames  map[string][]string
	renamed  bool
	joinsAll bool

	becoming []policy.Rename // see rename.go

	lifted  map[*pg.Node][]*pg.Node // conditions on stored values, by the relation; see match.go
	lookups int64
	matched map[events.Field]bool
	params  []*pg.TypeName // of a PREPARE

	cond           conditions
	filteredWrites []filteredWrite
	orderedWrites  []orderedWrite
	assigned       map[string]bool // columns that are set
	sets           sets            // ... by updates

	depth    int
	calledAt int32 // byte of the text where the call that is looked at stands
}

// item is something in a FROM clause, or a target.
type item struct {
	columns map[string]bool // nil: not known
}

// reference is a qualified column reference.
type reference struct {
	node      *pg.ColumnRef
	qualifier string
	name      string
}

// substitution is a reference to a relation that a sub-select takes the
// place of.
type substitution struct {
	node   *pg.Node // to be replaced
	v      *pg.RangeVar
	sample *pg.RangeTableSample
	guard  *guard
	plain  map[string]bool // columns that are masked on output
	keys   []*pg.Node      // columns besides, which say whose rows they are
}

func newWalker(b *binding, in *query.Input) *walker {
	w := &walker{
		b: b, snap: b.snap, scope: b.scope, in: in,
		masked: map[events.Field]bool{}, filtered: map[policy.Relation]bool{}, items: map[string][]*item{}, names: map[string]bool{},
		assigned: map[string]bool{}, joins: map[string]bool{}, renames: map[string][]string{},
		cond: conditions{tested: map[string]bool{}, aliased: map[string]bool{}},
	}
	if in != nil {
		w.cond.typed = slices.ContainsFunc(in.ParamTypes, func(oid uint32) bool { return oid != 0 })
	}
	return w
}

// masks reports whether anything at all is protected here.
func (w *walker) masks() bool { return w.scope.Protects() }

// refuse makes the statement opaque; the first reason stays.
func (w *walker) refuse(format string, args ...any) {
	if w.opaque == "" {
		w.opaque = fmt.Sprintf(format, args...)
	}
}

// missing makes the statement opaque as the server itself would refuse it: what it
// names is not there. It may be new, so that it is worth another look.
func (w *walker) missing(code string, at int32, format string, args ...any) {
	if w.opaque == "" {
		w.code, w.at = code, int(max(at, 0))
	}
	w.unknown = true
	w.refuse(format, args...)
}

// command adds a command that a statement runs besides its own: rules on
// commands see it wherever it stands.
func (w *walker) command(name string) {
	if !slices.Contains(w.commands, name) {
		w.commands = append(w.commands, name)
	}
}

// object adds what the statement does to a relation.
func (w *walker) object(r *catalog.Relation, a policy.Access) {
	if len(w.snap.Former[r.OID]) >= catalog.MostFormer {
		w.refuse("%s.%s was renamed too often to know which rules are about it", r.Schema, r.Name)
	}
	w.objectNamed(r.Schema, r.Name, a)
}

func (w *walker) objectNamed(schema, name string, a policy.Access) {
	o := policy.Object{Schema: schema, Name: name, Access: a}
	w.sets.any = w.sets.any || a == policy.Update
	for _, have := range w.objects {
		if have == o {
			return
		}
	}
	w.objects = append(w.objects, o)
}

func (w *walker) addItem(name string, it *item) { w.items[name] = append(w.items[name], it) }

// lookup resolves a relation's name without a search path: every relation
// that it could mean. nil means that the statement was refused.
func (w *walker) lookup(v *pg.RangeVar) []*catalog.Relation {
	if v.Catalogname != "" && v.Catalogname != w.snap.Database {
		w.refuse("relation %s.%s.%s is in another database", v.Catalogname, v.Schemaname, v.Relname)
		return nil
	}
	schema := v.Schemaname
	if schema == "" {
		schema = w.printed()
	}
	var out, temp []*catalog.Relation
	for _, r := range w.snap.ByName[v.Relname] {
		if schema != "" && r.Schema != schema {
			continue
		}
		if r.Temp && (r.Kind != 'v' || w.guard(r).free()) {
			temp = append(temp, r)
		} else {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		out = temp
	}
	if len(out) == 0 {
		w.missing(query.NoTable, v.Location, "relation \"%s\" does not exist", nameOf(v))
	}
	return out
}

func nameOf(v *pg.RangeVar) string {
	if v.Schemaname != "" {
		return v.Schemaname + "." + v.Relname
	}
	return v.Relname
}

// guardOf resolves a name to one guard. Where the name could mean a guarded
// relation or another one it refuses: what it means is the server's to say.
func (w *walker) guardOf(v *pg.RangeVar) (*guard, []*catalog.Relation) {
	rels := w.lookup(v)
	if len(rels) == 0 {
		return nil, nil
	}
	var g *guard
	for _, r := range rels {
		cand := w.guard(r)
		if !cand.free() && len(rels) > 1 {
			w.refuse("relation %s could be a protected one: qualify it by its schema", v.Relname)
			return nil, rels
		}
		g = cand
	}
	return g, rels
}

// read records a relation that is read, with what it is made of.
func (w *walker) read(rels []*catalog.Relation) {
	for _, r := range rels {
		w.object(r, policy.Read)
		for _, base := range w.guard(r).bases {
			w.object(base, policy.Read)
		}
	}
}

// use applies a guard that the statement reads through.
func (w *walker) use(g *guard) {
	if g.opaque != "" {
		w.refuse("%s", g.opaque)
	}
	if g.sanitize {
		w.sanitize = true
	}
}

func columnSet(rels []*catalog.Relation) map[string]bool {
	if len(rels) != 1 {
		return nil
	}
	m := make(map[string]bool, len(rels[0].Columns))
	for _, c := range rels[0].Columns {
		m[c.Name] = true
	}
	return m
}

// enter counts the nesting.
func (w *walker) enter() bool {
	w.depth++
	if w.depth > maxDepth {
		w.refuse("the statement is nested too deeply")
		return false
	}
	return w.opaque == ""
}

func (w *walker) leave() { w.depth-- }

// guard returns what stands before a relation.
func (w *walker) guard(r *catalog.Relation) *guard {
	if w.locked {
		return w.b.guardLocked(r)
	}
	return w.b.guard(r)
}
