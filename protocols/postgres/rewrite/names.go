package rewrite

import (
	_ "embed"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

//go:embed functions.txt
var functionsTxt string

// harmless are the names of pg_catalog functions whose every overload neither
// reads a relation, a file or another session, nor writes or signals
// anything, besides those that tell of names only. Curated on PostgreSQL 15,
// and for what 13 to 18 have otherwise, by name and overload: the immutable
// ones without internal arguments, and the others by hand. A function that a
// later major adds is refused.
var harmless = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(functionsTxt) {
		m[n] = true
	}
	return m
}()

// printers print definitions from the catalog, constants included: where any
// definition of the database holds a constant they give NULL. The type is
// what they return.
var printers = map[string]func(catalog.Literals) bool{
	"pg_get_indexdef":                 func(l catalog.Literals) bool { return l.Indexes },
	"pg_get_constraintdef":            func(l catalog.Literals) bool { return l.Constraints },
	"pg_get_viewdef":                  func(catalog.Literals) bool { return true },
	"pg_get_ruledef":                  func(catalog.Literals) bool { return true },
	"pg_get_triggerdef":               func(catalog.Literals) bool { return true },
	"pg_get_functiondef":              func(catalog.Literals) bool { return true },
	"pg_get_function_arguments":       func(catalog.Literals) bool { return true },
	"pg_get_function_sqlbody":         func(catalog.Literals) bool { return true },
	"pg_get_function_arg_default":     func(catalog.Literals) bool { return true },
	"pg_get_partkeydef":               func(catalog.Literals) bool { return true },
	"pg_get_partition_constraintdef":  func(catalog.Literals) bool { return true },
	"pg_get_statisticsobjdef":         func(catalog.Literals) bool { return true },
	"pg_get_statisticsobjdef_columns": func(catalog.Literals) bool { return true },
}

// sizes tell how much there is of a relation, whoever's rows it is.
var sizes = map[string]bool{
	"pg_database_size": true, "pg_indexes_size": true, "pg_relation_size": true, "pg_table_size": true,
	"pg_total_relation_size": true, "pg_tablespace_size": true,
}

// systemColumns exist on every table without being listed.
var systemColumns = []string{"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"}

// parts returns the strings of a list of names, false if it holds anything
// else.
func parts(list []*pg.Node) ([]string, bool) {
	out := make([]string, len(list))
	for i, n := range list {
		s, ok := n.GetNode().(*pg.Node_String_)
		if !ok {
			return nil, false
		}
		out[i] = s.String_.GetSval()
	}
	return out, len(out) > 0
}

// printed returns the schema that a bare name means in a definition that the
// catalog printed, "" for a client's text, where it may mean any.
func (w *walker) printed() string {
	if w.in == nil {
		return "pg_catalog"
	}
	return ""
}

// function checks a called name. replace reports that the call must become
// NULL.
func (w *walker) function(names []string) (replace bool) {
	names = w.called(names)
	var schema, name string
	switch len(names) {
	case 1:
		name = names[0]
	case 2:
		schema, name = names[0], names[1]
	default:
		w.refuse("function %s is qualified by a database", strings.Join(names, "."))
		return false
	}
	full := strings.Join(names, ".")
	if schema == "" {
		schema = w.printed()
	}
	if schema == "information_schema" && name == "_pg_expandarray" {
		return false
	}
	declared := false
	for _, f := range w.snap.Functions[name] {
		switch {
		case schema != "" && f.Schema != schema:
		case f.Extension && schema == "" && w.snap.Builtin[name] && !w.scope.Functions[f.String()]:
			// An extension's overload of a built-in does not taint it.
		case w.may(f):
			declared = true
		default:
			return false
		}
	}
	builtin := w.snap.Builtin[name] && (schema == "" || schema == "pg_catalog")
	if declared && !builtin {
		return false
	}
	if unsafe, ok := printers[name]; ok && builtin {
		return w.masks() && unsafe(w.snap.Literals)
	}
	if sizes[name] && len(w.scope.Filters) > 0 {
		w.refuse("function %s tells of rows that are filtered", full)
		return false
	}
	if !builtin && w.hasSchema(schema) && !w.mayBeElse(name) {
		w.missing(query.NoFunction, w.calledAt, "function %s(...) does not exist", full)
	} else if !builtin {
		w.refuse("function %s is not known", full)
	} else if !harmless[name] {
		w.refuse("function %s is not among those known to be harmless", full)
	}
	return false
}

// mayBeElse reports whether a call of a name that no function has may be something else
// than a call: a cast to a type, or a column of a row.
func (w *walker) mayBeElse(name string) bool {
	if len(w.snap.Types[name]) > 0 || w.in == nil || strings.Count(strings.ToLower(w.in.SQL), strings.ToLower(name)) > 1 {
		return true
	}
	for _, r := range w.snap.ByOID {
		if r.Column(name) != nil {
			return true
		}
	}
	return false
}

// hasSchema reports whether a schema is known to be there; "" always is.
func (w *walker) hasSchema(name string) bool {
	if name == "" || name == "pg_catalog" {
		return true
	}
	for _, r := range w.snap.ByOID {
		if r.Schema == name {
			return true
		}
	}
	return false
}

// operator checks an operator's name.
func (w *walker) operator(list []*pg.Node) {
	names, ok := parts(list)
	if !ok || len(names) > 2 {
		w.refuse("an operator's name is not understood")
		return
	}
	op := names[len(names)-1]
	if p := w.printed(); p != "" && len(names) == 1 {
		names = []string{p, op}
	}
	if len(names) == 2 && names[0] != "pg_catalog" {
		w.refuse("operator %s.%s is not built in", names[0], op)
		return
	}
	if !w.snap.BuiltinOp[op] && op != "!=" {
		w.refuse("operator %s is not built in", op)
		return
	}
	if op == "!=" {
		op = "<>"
	}
	for _, o := range w.snap.Operators[op] {
		if !o.Extension && (len(names) == 1 || o.Schema == names[0]) {
			w.refuse("operator %s is also defined in schema %s", op, o.Schema)
			return
		}
	}
}

// overloaded refuses when a user's operator has a name that the grammar
// implies: the server may choose it. An extension's does not taint the
// built-in.
func (w *walker) overloaded(op string) { w.operator([]*pg.Node{str(op)}) }

// typeName checks a type that a value is cast to.
func (w *walker) typeName(t *pg.TypeName) {
	if t == nil {
		return
	}
	names, ok := parts(t.Names)
	if !ok || len(names) > 2 || t.PctType || t.Setof {
		w.refuse("a type's name is not understood")
		return
	}
	for _, m := range t.Typmods {
		w.expr(m)
	}
	for _, m := range t.ArrayBounds {
		if _, ok := m.GetNode().(*pg.Node_Integer); !ok {
			w.refuse("the bounds of an array type are not understood")
		}
	}
	names = w.typed(names)
	name := names[len(names)-1]
	if p := w.printed(); p != "" && len(names) == 1 {
		names = []string{p, name}
	}
	found := false
	for _, c := range w.snap.Types[name] {
		if len(names) == 2 && c.Schema != names[0] {
			continue
		}
		found = true
		w.useType(c)
	}
	if full := strings.Join(names, "."); !found && (len(names) == 1 || w.hasSchema(names[0])) {
		w.missing(query.NoType, t.Location, "type \"%s\" does not exist", full)
	} else if !found {
		w.refuse("type %s is not known", full)
	}
}

// useType refuses types whose values run code, and row types.
func (w *walker) useType(t *catalog.Type) {
	w.runs(t.OID)
	if e := w.snap.TypeByOID[t.Elem]; t.Elem != 0 && e != nil && e != t {
		w.useType(e)
	}
	for _, c := range w.snap.Casts {
		if c.Target == t.OID && c.Function != nil && !c.Extension && !w.scope.Functions[c.Function.String()] {
			w.refuse("type %s.%s has a cast by function %s, which is not declared harmless by the policy", t.Schema, t.Name, c.Function)
		}
	}
	if t.Schema == "pg_catalog" || t.Schema == "information_schema" && t.OID < firstOwn || t.Extension {
		return
	}
	switch t.Kind {
	case 'e', 'b': // an enum; an array of what was checked above
		if t.Kind == 'b' && t.Elem == 0 {
			w.refuse("type %s.%s has functions of its own", t.Schema, t.Name)
		}
	case 'd':
		if len(t.Checks) > 0 || t.Default {
			w.refuse("domain %s.%s has a check or a default", t.Schema, t.Name)
		} else if b := w.snap.TypeByOID[t.Base]; b != nil {
			w.useType(b)
		}
	default:
		w.refuse("type %s.%s is not a simple type", t.Schema, t.Name)
	}
}
