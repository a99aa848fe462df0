package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// constant finds what could be a value in a printed expression: a string, or
// a number of more than one digit. nextval('seq'::regclass) is no value.
var (
	constant = regexp.MustCompile(`'|\b[0-9]{2,}\b`)
	sequence = regexp.MustCompile(`nextval\('[^']*'::regclass\)`)
)

func hasConstant(expr string) bool {
	return constant.MatchString(sequence.ReplaceAllString(expr, ""))
}

// load reads a snapshot, in a transaction.
func load(ctx context.Context, c side) (*Snapshot, error) {
	s := newSnapshot()
	var version, conforming, encoding string
	if err := c.each(ctx, settingsSQL, func() {}, &version, &conforming, &encoding); err != nil {
		return nil, err
	}
	if conforming != "on" || encoding != "UTF8" {
		return nil, fmt.Errorf("it has standard_conforming_strings=%s and encoding %s: only on and UTF8 can be analysed", conforming, encoding)
	}
	var err error
	if s.Server, err = strconv.Atoi(version); err != nil {
		return nil, fmt.Errorf("the server's version: %w", err)
	}
	if err := c.together(ctx, "", (&reading{Snapshot: s}).read); err != nil {
		return nil, err
	}
	s.sumLiterals()
	return s, nil
}

func newSnapshot() *Snapshot {
	return &Snapshot{
		ByOID: map[uint32]*Relation{}, ByName: map[string][]*Relation{},
		Builtin: map[string]bool{}, Functions: map[string][]*Function{},
		BuiltinOp: map[string]bool{}, Operators: map[string][]*Function{},
		Types: map[string][]*Type{}, TypeByOID: map[uint32]*Type{},
	}
}

// reading fills a snapshot: of all, or of what has changed since base.
type reading struct {
	*Snapshot
	base *Snapshot
}

// read reads all that a source shows. It does nothing but ask in a fixed order
// until there are answers.
func (s *reading) read(ctx context.Context, c source) error {
	for _, step := range []func(context.Context, source) error{s.relations, s.columns, s.views, s.code, s.types, s.constraints} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// names are those of a relation's columns with these numbers. An expression of an
// index has number 0.
func (s *reading) names(oid uint32, nums numbers) (out []string) {
	r := s.ByOID[oid]
	if r == nil && s.base != nil { // the other end of a reference
		r = s.base.ByOID[oid]
	}
	for _, n := range nums {
		if c := r.number(n); c != nil {
			out = append(out, c.Name)
		}
	}
	return out
}

// number returns the column of that number, nil if there is none.
func (r *Relation) number(n int16) *Column {
	if r == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.Columns, n, func(c *Column, n int16) int { return cmp.Compare(c.Num, n) })
	if !ok {
		return nil
	}
	return r.Columns[i]
}

func (s *reading) relations(ctx context.Context, c source) error {
	var r Relation
	var kind string
	return c.each(ctx, relationsSQL, func() {
		n := r
		n.Kind = kind[0]
		s.ByOID[n.OID] = &n
		s.ByName[n.Name] = append(s.ByName[n.Name], &n)
	}, &r.OID, &r.Schema, &r.Name, &kind, &r.Temp, &r.RowSecurity, &r.RowType)
}

func (s *reading) columns(ctx context.Context, c source) error {
	var rel, parent uint32
	var col Column
	err := c.each(ctx, columnsSQL, func() {
		if r := s.ByOID[rel]; r != nil {
			n := col
			r.Columns = append(r.Columns, &n)
		}
	}, &rel, &col.Num, &col.Name, &col.Type, &col.TypeName, &col.Collation, &col.Loose, &col.NotNull, &col.Generated, &col.Virtual, &col.Identity)
	if err != nil {
		return err
	}
	for _, r := range s.ByOID {
		slices.SortFunc(r.Columns, func(a, b *Column) int { return cmp.Compare(a.Num, b.Num) })
	}
	err = c.each(ctx, defaultsSQL, func() {
		r := s.ByOID[rel]
		if d := r.number(col.Num); d != nil {
			d.Expr = col.Expr
			r.literals.Defaults = r.literals.Defaults || !r.System() && hasConstant(d.Expr)
		}
	}, &rel, &col.Num, &col.Expr)
	if err != nil {
		return err
	}
	return c.each(ctx, inheritsSQL, func() {
		// Neither is there for indexes; of what has changed, one may be.
		if ch := s.ByOID[rel]; ch != nil {
			ch.Parents = append(ch.Parents, parent)
		}
		if p := s.ByOID[parent]; p != nil {
			p.Children = append(p.Children, rel)
		}
	}, &rel, &parent)
}

func (s *reading) views(ctx context.Context, c source) error {
	var rel, oid uint32
	var a, b, name, when string
	var unique, ordered, clustered bool
	var key numbers
	on := func(f func(*Relation)) func() {
		return func() {
			if r := s.ByOID[rel]; r != nil {
				f(r)
			}
		}
	}
	return errors.Join(
		c.each(ctx, viewsSQL, on(func(r *Relation) { r.Definition = a }), &rel, &a),
		c.each(ctx, rulesSQL, on(func(r *Relation) { r.Rules = append(r.Rules, a) }), &rel, &a),
		c.each(ctx, triggersSQL, on(func(r *Relation) {
			r.Triggers = append(r.Triggers, &Trigger{Function: Function{OID: oid, Schema: a, Name: b}, Condition: when})
		}), &rel, &oid, &a, &b, &when),
		c.each(ctx, policiesSQL, on(func(r *Relation) {
			for _, e := range []string{a, b} {
				if e != "" {
					r.Policies = append(r.Policies, e)
				}
			}
		}), &rel, &a, &b),
		c.each(ctx, indexesSQL, on(func(r *Relation) {
			r.Indexes = append(r.Indexes, &Index{
				Name: name, Unique: unique, Columns: s.names(rel, key), Expressions: a, Predicate: b, Ordered: ordered, Clustered: clustered,
			})
			r.literals.Indexes = r.literals.Indexes || hasConstant(a) || hasConstant(b)
		}), &rel, &unique, &key, &a, &b, &name, &ordered, &clustered),
		c.each(ctx, partitionsSQL, on(func(r *Relation) {
			r.Partitioned = &Partitioning{Columns: s.names(rel, key), Expressions: a}
		}), &rel, &key, &a),
	)
}

func (s *reading) code(ctx context.Context, c source) error {
	var f Function
	var name, context string
	var cast Cast
	var ext bool
	return errors.Join(
		s.functions(ctx, c),
		c.each(ctx, builtinSQL, func() { s.Builtin[name] = true }, &name),
		c.each(ctx, operatorsSQL, func() { n := f; s.Operators[n.Name] = append(s.Operators[n.Name], &n) }, &f.OID, &f.Schema, &f.Name, &f.Extension),
		c.each(ctx, builtinOpSQL, func() { s.BuiltinOp[name] = true }, &name),
		c.each(ctx, castsSQL, func() {
			n := cast
			n.Context, n.Extension = context[0], ext
			if f.Name != "" {
				n.Function = &Function{Schema: f.Schema, Name: f.Name}
			}
			s.Casts = append(s.Casts, &n)
		}, &cast.OID, &cast.Source, &cast.Target, &context, &f.Schema, &f.Name, &ext),
	)
}

func (s *reading) types(ctx context.Context, c source) error {
	var t Type
	var kind, category string
	err := c.each(ctx, typesSQL, func() {
		n := t
		n.Kind, n.Category = kind[0], category[0]
		s.Types[n.Name] = append(s.Types[n.Name], &n)
		s.TypeByOID[n.OID] = &n
	}, &t.OID, &t.Schema, &t.Name, &kind, &category, &t.Elem, &t.Base, &t.BaseName, &t.Default, &t.Extension)
	if err != nil {
		return err
	}
	var label string
	var f uint32
	return errors.Join(c.each(ctx, labelsSQL, func() {
		if e := s.TypeByOID[t.OID]; e != nil {
			e.Labels = append(e.Labels, label)
		}
	}, &t.OID, &label), c.each(ctx, runsSQL, func() {
		if e := s.TypeByOID[t.OID]; e != nil {
			e.Runs = append(e.Runs, f)
		}
	}, &t.OID, &f))
}

func (s *reading) constraints(ctx context.Context, c source) error {
	var rel, typ, other uint32
	var kind, expr string
	var key, points numbers
	var onDelete, cascades, onUpdate bool
	return c.each(ctx, constraintsSQL, func() {
		t, r, o := s.TypeByOID[typ], s.ByOID[rel], s.ByOID[other]
		switch {
		case kind == "c" && t != nil:
			t.Checks = append(t.Checks, expr)
			t.literals = t.literals || hasConstant(expr)
		case kind == "c" && r != nil:
			r.Checks = append(r.Checks, expr)
			r.literals.Constraints = r.literals.Constraints || hasConstant(expr)
		case kind == "p" && r != nil:
			r.PrimaryKey = s.names(rel, key)
		case kind == "f" && (r != nil || o != nil):
			f := &Reference{From: rel, To: other, Columns: s.names(rel, key), Points: s.names(other, points), OnDelete: onDelete, Cascades: cascades, OnUpdate: onUpdate}
			if r != nil {
				r.References = append(r.References, f)
			}
			if o != nil {
				o.Referenced = append(o.Referenced, f)
			}
		}
	}, &rel, &typ, &other, &kind, &expr, &onDelete, &cascades, &onUpdate, &key, &points)
}

// sumLiterals says of the snapshot what holds for any of its objects.
func (s *Snapshot) sumLiterals() {
	s.Literals = Literals{}
	for _, r := range s.ByOID {
		s.Literals.Indexes = s.Literals.Indexes || r.literals.Indexes
		s.Literals.Constraints = s.Literals.Constraints || r.literals.Constraints
		s.Literals.Defaults = s.Literals.Defaults || r.literals.Defaults
	}
	for _, t := range s.TypeByOID {
		s.Literals.Constraints = s.Literals.Constraints || t.literals
	}
}
