package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/jackc/pgx/v5"
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

// load reads a snapshot in one read-only transaction.
func load(ctx context.Context, c *pgx.Conn) (*Snapshot, error) {
	s := newSnapshot()
	s.Database = c.Config().Database
	tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var conforming, encoding string
	if err := tx.QueryRow(ctx, settingsSQL).Scan(&s.Server, &conforming, &encoding); err != nil {
		return nil, err
	}
	if conforming != "on" || encoding != "UTF8" {
		return nil, fmt.Errorf("database %q has standard_conforming_strings=%s and encoding %s: only on and UTF8 can be analysed", s.Database, conforming, encoding)
	}
	return s, s.read(ctx, side{c})
}

func newSnapshot() *Snapshot {
	return &Snapshot{
		ByOID: map[uint32]*Relation{}, ByName: map[string][]*Relation{},
		Builtin: map[string]bool{}, Functions: map[string][]*Function{},
		BuiltinOp: map[string]bool{}, Operators: map[string][]*Function{},
		Types: map[string][]*Type{}, TypeByOID: map[uint32]*Type{},
	}
}

// read reads all that a source shows.
func (s *Snapshot) read(ctx context.Context, c source) error {
	for _, step := range []func(context.Context, source) error{s.relations, s.columns, s.views, s.code, s.types, s.constraints} {
		if err := step(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) relations(ctx context.Context, c source) error {
	var r Relation
	var kind string
	return c.each(ctx, relationsSQL, func() {
		n := r
		n.Kind = kind[0]
		s.ByOID[n.OID] = &n
		s.ByName[n.Name] = append(s.ByName[n.Name], &n)
	}, &r.OID, &r.Schema, &r.Name, &kind, &r.Temp, &r.RowSecurity, &r.RowType)
}

func (s *Snapshot) columns(ctx context.Context, c source) error {
	var rel, parent uint32
	var col Column
	err := c.each(ctx, columnsSQL, func() {
		if r := s.ByOID[rel]; r != nil {
			n := col
			r.Columns = append(r.Columns, &n)
			if !r.System() && hasConstant(n.Expr) {
				s.Literals.Defaults = true
			}
		}
	}, &rel, &col.Num, &col.Name, &col.Type, &col.TypeName, &col.Collation, &col.NotNull, &col.Generated, &col.Identity, &col.Expr)
	if err != nil {
		return err
	}
	return c.each(ctx, inheritsSQL, func() {
		// Neither is there for indexes; of what a transaction changed, one may be.
		if ch := s.ByOID[rel]; ch != nil {
			ch.Parents = append(ch.Parents, parent)
		}
		if p := s.ByOID[parent]; p != nil {
			p.Children = append(p.Children, rel)
		}
	}, &rel, &parent)
}

func (s *Snapshot) views(ctx context.Context, c source) error {
	var rel uint32
	var a, b, name string
	var unique, ordered, clustered bool
	var key []string
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
		c.each(ctx, triggersSQL, on(func(r *Relation) { r.Triggers = append(r.Triggers, &Function{Schema: a, Name: b}) }), &rel, &a, &b),
		c.each(ctx, policiesSQL, on(func(r *Relation) {
			for _, e := range []string{a, b} {
				if e != "" {
					r.Policies = append(r.Policies, e)
				}
			}
		}), &rel, &a, &b),
		c.each(ctx, indexesSQL, on(func(r *Relation) {
			r.Indexes = append(r.Indexes, &Index{
				Name: name, Unique: unique, Columns: slices.Clone(key), Expressions: a, Predicate: b, Ordered: ordered, Clustered: clustered,
			})
			s.Literals.Indexes = s.Literals.Indexes || hasConstant(a) || hasConstant(b)
		}), &rel, &unique, &key, &a, &b, &name, &ordered, &clustered),
		c.each(ctx, partitionsSQL, on(func(r *Relation) {
			r.Partitioned = &Partitioning{Columns: slices.Clone(key), Expressions: a}
		}), &rel, &key, &a),
	)
}

func (s *Snapshot) code(ctx context.Context, c source) error {
	var f Function
	var name, context string
	var cast Cast
	var ext bool
	return errors.Join(
		c.each(ctx, functionsSQL, func() { n := f; s.Functions[n.Name] = append(s.Functions[n.Name], &n) }, &f.OID, &f.Schema, &f.Name, &f.Extension),
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

func (s *Snapshot) types(ctx context.Context, c source) error {
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
	return c.each(ctx, labelsSQL, func() {
		if e := s.TypeByOID[t.OID]; e != nil {
			e.Labels = append(e.Labels, label)
		}
	}, &t.OID, &label)
}

func (s *Snapshot) constraints(ctx context.Context, c source) error {
	var rel, typ, other uint32
	var kind, expr string
	var key, points []string
	return c.each(ctx, constraintsSQL, func() {
		if t := s.TypeByOID[typ]; t != nil && kind == "c" {
			t.Checks = append(t.Checks, expr)
		}
		s.Literals.Constraints = s.Literals.Constraints || hasConstant(expr)
		r, o := s.ByOID[rel], s.ByOID[other]
		f := &Reference{From: rel, To: other, Columns: slices.Clone(key), Points: slices.Clone(points)}
		switch {
		case kind == "c" && r != nil:
			r.Checks = append(r.Checks, expr)
		case kind == "p" && r != nil:
			r.PrimaryKey = slices.Clone(key)
		case kind == "f":
			if r != nil {
				r.References = append(r.References, f)
			}
			if o != nil {
				o.Referenced = append(o.Referenced, f)
			}
		}
	}, &rel, &typ, &other, &kind, &expr, &key, &points)
}
