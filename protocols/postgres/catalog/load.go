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

// each runs a query and calls row for each row, after scanning into dst.
func each(ctx context.Context, c *pgx.Conn, sql string, row func(), dst ...any) error {
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, dst, func() error { row(); return nil })
	return err
}

// load reads a snapshot in one read-only transaction.
func load(ctx context.Context, c *pgx.Conn) (*Snapshot, error) {
	s := &Snapshot{
		Database: c.Config().Database,
		ByOID:    map[uint32]*Relation{}, ByName: map[string][]*Relation{},
		Builtin: map[string]bool{}, Functions: map[string][]*Function{},
		BuiltinOp: map[string]bool{}, Operators: map[string][]*Function{},
		Types: map[string][]*Type{}, TypeByOID: map[uint32]*Type{},
	}
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
	for _, step := range []func(context.Context, *pgx.Conn) error{s.relations, s.columns, s.views, s.code, s.types, s.constraints} {
		if err := step(ctx, c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Snapshot) relations(ctx context.Context, c *pgx.Conn) error {
	var r Relation
	var kind string
	return each(ctx, c, relationsSQL, func() {
		n := r
		n.Kind = kind[0]
		s.ByOID[n.OID] = &n
		s.ByName[n.Name] = append(s.ByName[n.Name], &n)
	}, &r.OID, &r.Schema, &r.Name, &kind, &r.Temp, &r.RowSecurity, &r.RowType)
}

func (s *Snapshot) columns(ctx context.Context, c *pgx.Conn) error {
	var rel, parent uint32
	var col Column
	err := each(ctx, c, columnsSQL, func() {
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
	return each(ctx, c, inheritsSQL, func() {
		ch, p := s.ByOID[rel], s.ByOID[parent]
		if ch != nil && p != nil { // not for indexes
			ch.Parents = append(ch.Parents, parent)
			p.Children = append(p.Children, rel)
		}
	}, &rel, &parent)
}

func (s *Snapshot) views(ctx context.Context, c *pgx.Conn) error {
	var rel uint32
	var a, b string
	var unique bool
	var key []string
	on := func(f func(*Relation)) func() {
		return func() {
			if r := s.ByOID[rel]; r != nil {
				f(r)
			}
		}
	}
	return errors.Join(
		each(ctx, c, viewsSQL, on(func(r *Relation) { r.Definition = a }), &rel, &a),
		each(ctx, c, rulesSQL, on(func(r *Relation) { r.Rules = append(r.Rules, a) }), &rel, &a),
		each(ctx, c, triggersSQL, on(func(r *Relation) { r.Triggers = append(r.Triggers, &Function{Schema: a, Name: b}) }), &rel, &a, &b),
		each(ctx, c, policiesSQL, on(func(r *Relation) {
			for _, e := range []string{a, b} {
				if e != "" {
					r.Policies = append(r.Policies, e)
				}
			}
		}), &rel, &a, &b),
		each(ctx, c, indexesSQL, on(func(r *Relation) {
			r.Indexes = append(r.Indexes, &Index{Unique: unique, Columns: slices.Clone(key), Expressions: a, Predicate: b})
			s.Literals.Indexes = s.Literals.Indexes || hasConstant(a) || hasConstant(b)
		}), &rel, &unique, &key, &a, &b),
	)
}

func (s *Snapshot) code(ctx context.Context, c *pgx.Conn) error {
	var f Function
	var name, context string
	var cast Cast
	var ext bool
	return errors.Join(
		each(ctx, c, functionsSQL, func() { n := f; s.Functions[n.Name] = append(s.Functions[n.Name], &n) }, &f.Schema, &f.Name, &f.Extension),
		each(ctx, c, builtinSQL, func() { s.Builtin[name] = true }, &name),
		each(ctx, c, operatorsSQL, func() { n := f; s.Operators[n.Name] = append(s.Operators[n.Name], &n) }, &f.Schema, &f.Name, &f.Extension),
		each(ctx, c, builtinOpSQL, func() { s.BuiltinOp[name] = true }, &name),
		each(ctx, c, castsSQL, func() {
			n := cast
			n.Context, n.Extension = context[0], ext
			if f.Name != "" {
				n.Function = &Function{Schema: f.Schema, Name: f.Name}
			}
			s.Casts = append(s.Casts, &n)
		}, &cast.Source, &cast.Target, &context, &f.Schema, &f.Name, &ext),
	)
}

func (s *Snapshot) types(ctx context.Context, c *pgx.Conn) error {
	var t Type
	var kind, category string
	err := each(ctx, c, typesSQL, func() {
		n := t
		n.Kind, n.Category = kind[0], category[0]
		s.Types[n.Name] = append(s.Types[n.Name], &n)
		s.TypeByOID[n.OID] = &n
	}, &t.OID, &t.Schema, &t.Name, &kind, &category, &t.Elem, &t.Base, &t.BaseName, &t.Default, &t.Extension)
	if err != nil {
		return err
	}
	var label string
	return each(ctx, c, labelsSQL, func() {
		if e := s.TypeByOID[t.OID]; e != nil {
			e.Labels = append(e.Labels, label)
		}
	}, &t.OID, &label)
}

func (s *Snapshot) constraints(ctx context.Context, c *pgx.Conn) error {
	var rel, typ, other uint32
	var kind, expr string
	var key, points []string
	return each(ctx, c, constraintsSQL, func() {
		if t := s.TypeByOID[typ]; t != nil && kind == "c" {
			t.Checks = append(t.Checks, expr)
		}
		s.Literals.Constraints = s.Literals.Constraints || hasConstant(expr)
		r := s.ByOID[rel]
		if r == nil {
			return
		}
		switch kind {
		case "c":
			r.Checks = append(r.Checks, expr)
		case "p":
			r.PrimaryKey = slices.Clone(key)
		case "f":
			if o := s.ByOID[other]; o != nil {
				f := &Reference{From: rel, To: other, Columns: slices.Clone(key), Points: slices.Clone(points)}
				r.References = append(r.References, f)
				o.Referenced = append(o.Referenced, f)
			}
		}
	}, &rel, &typ, &other, &kind, &expr, &key, &points)
}
