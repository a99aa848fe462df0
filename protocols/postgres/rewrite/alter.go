package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/policy"
)

// alterTable walks an ALTER TABLE where nothing is masked: its expressions run
// over all rows, and it may name other relations.
func (w *walker) alterTable(s *pg.AlterTableStmt) {
	if t := s.Objtype; t != pg.ObjectType_OBJECT_TABLE && t != pg.ObjectType_OBJECT_INDEX {
		w.refuse("this ALTER is not understood")
		return
	}
	for _, n := range s.Cmds {
		c := n.GetAlterTableCmd()
		if c == nil {
			w.refuse("this ALTER is not understood")
			return
		}
		if c.Behavior == pg.DropBehavior_DROP_CASCADE {
			w.refuse("ALTER TABLE with CASCADE reaches what it does not name")
		}
		if c.Subtype == pg.AlterTableType_AT_DropInherit {
			w.disinherit(s.Relation, c.Def.GetRangeVar())
		}
		w.alterCmd(c)
	}
}

// alteredIndex takes a change of an index for one of its table: of each that has an
// index of that name.
func (w *walker) alteredIndex(v *pg.RangeVar) {
	found := false
	for _, r := range w.snap.ByOID {
		for _, x := range r.Indexes {
			name := strings.TrimPrefix(x.Name, r.Schema+".") // it has its table's schema
			if name == v.GetRelname() && (v.GetSchemaname() == "" || v.GetSchemaname() == r.Schema) {
				w.relation(&pg.RangeVar{Schemaname: r.Schema, Relname: r.Name, Inh: true}, policy.Define)
				found = true
			}
		}
	}
	if !found {
		w.relation(v, policy.Define) // it is not there, or no index
	}
}

// alterCmd goes by what a command brings along: one that brings nothing is
// about the relation alone.
func (w *walker) alterCmd(c *pg.AlterTableCmd) {
	if c.Subtype == pg.AlterTableType_AT_ColumnDefault {
		w.expr(c.Def)
		return
	}
	switch x := c.Def.GetNode().(type) {
	case nil, *pg.Node_Integer, *pg.Node_String_, *pg.Node_ReplicaIdentityStmt:
	case *pg.Node_ColumnDef: // RawDefault is what USING says
		w.column(x.ColumnDef, c.Subtype == pg.AlterTableType_AT_AlterColumnType)
	case *pg.Node_Constraint:
		if x.Constraint.Contype == pg.ConstrType_CONSTR_FOREIGN {
			w.relation(x.Constraint.Pktable, policy.Read) // every row is looked for there
			return
		}
		w.constraint(x.Constraint)
	case *pg.Node_RangeVar: // INHERIT
		w.relation(x.RangeVar, policy.Define)
	case *pg.Node_List: // of storage parameters
		for _, n := range x.List.Items {
			if n.GetDefElem() == nil {
				w.refuse("this ALTER TABLE is not understood")
			}
		}
	default:
		w.refuse("%s is not understood in ALTER TABLE", kindOf(c.Def))
	}
}

// column walks a column's definition. using says that its default is an
// expression for the rows that are there.
func (w *walker) column(d *pg.ColumnDef, using bool) {
	if d.RawDefault != nil && !using || d.CookedDefault != nil || len(d.Fdwoptions) > 0 || d.IdentitySequence != nil {
		w.refuse("a column definition is not understood")
		return
	}
	if !w.serial(d.TypeName) {
		w.typeName(d.TypeName)
	}
	w.expr(d.RawDefault)
	for _, c := range d.Constraints {
		w.constraint(c.GetConstraint())
	}
}
