package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
)

// define decides statements that define things, and the rest. Where something
// is masked nothing may make code, move or rename relations, give rights, or
// pass values on; what is left is plain tables and indexes.
func (w *walker) define(n *pg.Node) {
	w.writes, w.ddl = true, true
	switch x := n.GetNode().(type) {
	case *pg.Node_CreateStmt:
		w.createTable(x.CreateStmt)
		return
	case *pg.Node_CreateTableAsStmt:
		w.createTableAs(x.CreateTableAsStmt)
		return
	case *pg.Node_TruncateStmt:
		w.truncate(x.TruncateStmt)
		return
	case *pg.Node_DropStmt:
		w.drop(x.DropStmt)
		return
	case *pg.Node_IndexStmt:
		w.createIndex(x.IndexStmt)
		return
	case *pg.Node_AlterTableStmt:
		switch s := x.AlterTableStmt; s.Objtype {
		case pg.ObjectType_OBJECT_INDEX:
			w.alteredIndex(s.Relation)
		case pg.ObjectType_OBJECT_TYPE: // no relation that the catalog has read
			w.refuse("ALTER TYPE is not understood")
		default:
			if len(w.snap.ByName[s.Relation.GetRelname()]) == 0 { // ALTER TABLE takes indexes as well
				w.alteredIndex(s.Relation)
			} else {
				w.relation(s.Relation, policy.Define)
			}
		}
	case *pg.Node_RenameStmt:
		if x.RenameStmt.Relation != nil {
			w.relation(x.RenameStmt.Relation, policy.Define)
		}
	case *pg.Node_ViewStmt:
		w.view(x.ViewStmt)
		return
	}
	if w.masks() {
		w.refuse("%s is not understood for an identity from which data is masked", commandOf(n))
		return
	}
	switch x := n.GetNode().(type) {
	case *pg.Node_AlterTableStmt:
		w.alterTable(x.AlterTableStmt)
	case *pg.Node_VacuumStmt:
		for _, r := range x.VacuumStmt.Rels {
			if v := r.GetVacuumRelation().GetRelation(); v != nil {
				w.relation(v, policy.Define)
			}
		}
	case *pg.Node_CreateSchemaStmt:
		if len(x.CreateSchemaStmt.SchemaElts) > 0 {
			w.refuse("CREATE SCHEMA with elements is not understood")
		}
	case *pg.Node_RenameStmt:
		w.rename(x.RenameStmt)
	case *pg.Node_ListenStmt, *pg.Node_UnlistenStmt, *pg.Node_NotifyStmt, *pg.Node_CommentStmt, *pg.Node_CheckPointStmt,
		*pg.Node_CreateSeqStmt, *pg.Node_AlterSeqStmt, *pg.Node_CreateEnumStmt:
	default:
		w.refuse("%s is not understood", commandOf(n))
	}
}

// fresh checks the name of a new relation: it must not stand in the way of a
// protected one.
func (w *walker) fresh(v *pg.RangeVar) bool {
	if v == nil || v.Catalogname != "" && v.Catalogname != w.snap.Database {
		w.refuse("the name of the new relation is not understood")
		return false
	}
	for _, t := range slices.Concat(w.snap.Types[v.Relname], w.snap.Types["_"+v.Relname]) {
		if t.Schema == "pg_catalog" { // its row type would be one of that name
			w.refuse("a new relation may not have the name of type %s", t.Name)
			return false
		}
	}
	for _, r := range w.snap.ByName[v.Relname] {
		if !w.guard(r).free() {
			w.refuse("a new relation may not have the name of protected relation %s.%s", r.Schema, r.Name)
			return false
		}
	}
	schema := v.Schemaname
	if schema == "" && v.Relpersistence == "t" {
		schema = "pg_temp"
	}
	w.objectNamed(schema, v.Relname, policy.Define)
	return true
}

func (w *walker) createTable(s *pg.CreateStmt) {
	if !w.fresh(s.Relation) {
		return
	}
	if len(s.InhRelations) > 0 || s.Partbound != nil || s.Partspec != nil || s.OfTypename != nil || s.AccessMethod != "" || len(s.Constraints) > 0 {
		w.refuse("this form of CREATE TABLE is not understood")
		return
	}
	for _, e := range s.TableElts {
		switch x := e.GetNode().(type) {
		case *pg.Node_ColumnDef:
			w.column(x.ColumnDef, false)
		case *pg.Node_Constraint:
			w.constraint(x.Constraint)
		default:
			w.refuse("%s is not understood in CREATE TABLE", kindOf(e))
		}
	}
}

// serial reports a pseudo-type that the server expands.
func (w *walker) serial(t *pg.TypeName) bool {
	names, ok := parts(t.GetNames())
	if !ok || len(names) != 1 {
		return false
	}
	switch names[0] {
	case "serial", "bigserial", "smallserial", "serial4", "serial8", "serial2":
		return len(w.snap.Types[names[0]]) == 0
	}
	return false
}

func (w *walker) constraint(c *pg.Constraint) {
	switch c.GetContype() {
	case pg.ConstrType_CONSTR_NULL, pg.ConstrType_CONSTR_NOTNULL, pg.ConstrType_CONSTR_PRIMARY, pg.ConstrType_CONSTR_UNIQUE:
	case pg.ConstrType_CONSTR_DEFAULT, pg.ConstrType_CONSTR_CHECK:
		w.expr(c.RawExpr)
	default:
		w.refuse("a constraint of a new table is not understood")
	}
}

// createTableAs: what it stores was masked on the way, but rows of protected
// relations do not leave them.
func (w *walker) createTableAs(s *pg.CreateTableAsStmt) {
	if s.Objtype != pg.ObjectType_OBJECT_TABLE || s.Into == nil || s.Into.ViewQuery != nil {
		w.refuse("%s is not understood", "CREATE MATERIALIZED VIEW")
		return
	}
	if s.IsSelectInto {
		w.commands[0] = "select_into"
	}
	if !w.fresh(s.Into.Rel) {
		return
	}
	if s.Query.GetSelectStmt() == nil {
		w.refuse("CREATE TABLE AS %s is not understood", commandOf(s.Query))
		return
	}
	w.query(s.Query)
	for _, sub := range w.subs {
		if !sub.guard.rel.System() {
			w.refuse("rows of protected relation %s.%s may not be stored elsewhere", sub.guard.rel.Schema, sub.guard.rel.Name)
			return
		}
	}
}

func (w *walker) truncate(s *pg.TruncateStmt) {
	w.ddl = false
	for _, n := range s.Relations {
		v := n.GetRangeVar()
		g := w.relation(v, policy.Truncate)
		if g == nil {
			continue
		}
		if g.opaque != "" { // of a partition: which rows are left tells which were in it
			w.refuse("%s", g.opaque)
		}
		if len(g.rel.Triggers) > 0 {
			w.refuse("%s.%s has a trigger", g.rel.Schema, g.rel.Name)
		}
		if len(g.columns) > 0 {
			w.sanitize = true
		}
		if g.filter != nil || w.b.hidden[g.rel.OID] != "" {
			w.refuse("rows of %s.%s are filtered: they can't all be removed", g.rel.Schema, g.rel.Name)
		}
	}
	if s.Behavior == pg.DropBehavior_DROP_CASCADE {
		w.refuse("TRUNCATE CASCADE reaches relations that it does not name")
	}
}

func (w *walker) drop(s *pg.DropStmt) {
	if s.Behavior == pg.DropBehavior_DROP_CASCADE {
		w.refuse("DROP CASCADE reaches what it does not name")
	}
	switch s.RemoveType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_SEQUENCE:
	case pg.ObjectType_OBJECT_INDEX:
		if w.masks() {
			w.refuse("DROP INDEX is not understood for an identity from which data is masked")
		}
		return
	default:
		w.refuse("this DROP is not understood")
		return
	}
	for _, n := range s.Objects {
		names, ok := parts(n.GetList().GetItems())
		if !ok || len(names) > 2 {
			w.refuse("DROP is not understood")
			return
		}
		v := &pg.RangeVar{Relname: names[len(names)-1]}
		if len(names) == 2 {
			v.Schemaname = names[0]
		}
		if len(w.snap.ByName[v.Relname]) == 0 && s.MissingOk {
			w.objectNamed(v.Schemaname, v.Relname, policy.Define)
			continue
		}
		if g := w.relation(v, policy.Define); g != nil && !g.free() && w.masks() {
			w.refuse("protected relation %s.%s may not be dropped", g.rel.Schema, g.rel.Name)
		}
	}
}

func (w *walker) createIndex(s *pg.IndexStmt) {
	g := w.relation(s.Relation, policy.Define)
	if g == nil {
		return
	}
	if !g.free() {
		w.refuse("an index on protected relation %s.%s is not understood", g.rel.Schema, g.rel.Name)
	}
	for _, n := range slices.Concat(s.IndexParams, s.IndexIncludingParams) {
		e := n.GetIndexElem()
		if e == nil || len(e.Opclass) > 0 {
			w.refuse("CREATE INDEX is not understood")
			return
		}
		w.expr(e.Expr)
	}
	w.expr(s.WhereClause)
}

// view: a new view would be a new name for what it reads.
func (w *walker) view(s *pg.ViewStmt) {
	if !w.fresh(s.View) {
		return
	}
	if w.masks() {
		w.refuse("CREATE VIEW is not understood for an identity from which data is masked")
		return
	}
	w.query(s.Query)
}
