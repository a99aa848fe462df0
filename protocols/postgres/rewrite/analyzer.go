package rewrite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/catalog"
	"sallyport.dev/sallyport/protocols/postgres/parser"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// Options of an Analyzer; Parser and Catalog are needed and stay the caller's to close.
type Options struct {
	Parser  *parser.Pool
	Catalog Catalog
	Before  Pins // of an earlier Analyzer of the same database; may be nil
}

// Catalog is what an Analyzer needs of catalog.Catalog.
type Catalog interface {
	Snapshot() *catalog.Snapshot // the latest; never nil
	Refresh(ctx context.Context) error
}

// refreshEvery bounds how often an unknown relation makes the catalog be
// looked at.
const refreshEvery = 200 * time.Millisecond

// Analyzer analyses the statements of one database. It implements
// query.Analyzer.
type Analyzer struct {
	o     Options
	outer *Analyzer // of what is committed; nil but within a transaction

	mu       sync.Mutex
	bindings map[string]*binding // by scope; of the latest snapshot
	snap     *catalog.Snapshot   // of the bindings
	pins     map[events.Field]pin
	looked   time.Time
}

// New returns an Analyzer.
func New(o Options) *Analyzer {
	a := &Analyzer{o: o, bindings: map[string]*binding{}, pins: map[events.Field]pin{}}
	maps.Copy(a.pins, o.Before)
	return a
}

// Version implements query.Analyzer.
func (a *Analyzer) Version() uint64 { return a.o.Catalog.Snapshot().Version }

// Refresh implements query.Analyzer.
func (a *Analyzer) Refresh(ctx context.Context) error { return a.o.Catalog.Refresh(ctx) }

// Analyze implements query.Analyzer.
func (a *Analyzer) Analyze(ctx context.Context, in query.Input) (*query.Analysis, error) {
	if in.Scope == nil {
		return nil, errors.New("rewrite: no scope")
	}
	tree, err := a.o.Parser.Parse(ctx, in.SQL)
	var syntax *parser.SyntaxError
	switch {
	case errors.As(err, &syntax):
		an := a.refusal(in, syntax.Message)
		an.Code, an.Position = query.SyntaxError, syntax.Position
		return an, nil
	case errors.Is(err, parser.ErrTooLarge), errors.Is(err, parser.ErrText):
		return a.refusal(in, err.Error()), nil
	case err != nil:
		return nil, err
	}
	b, err := a.binding(ctx, in.Scope)
	if err != nil {
		return nil, err
	}
	an, unknown := b.analyze(&in, tree)
	if unknown && a.look(ctx) {
		// The relation may be new. The tree was walked, but nothing of a
		// refused statement is kept: parse it again.
		if tree, err = a.o.Parser.Parse(ctx, in.SQL); err != nil {
			return nil, err
		}
		if b, err = a.binding(ctx, in.Scope); err != nil {
			return nil, err
		}
		an, _ = b.analyze(&in, tree)
	}
	if an.Opaque == "" && an.changed {
		sql, err := a.o.Parser.Deparse(ctx, tree)
		switch {
		case errors.As(err, &syntax):
			// The message quotes what was generated.
			return a.refusal(in, "the statement cannot be rewritten"), nil
		case err != nil:
			return nil, err
		}
		an.SQL = sql
	}
	return &an.Analysis, nil
}

func (a *Analyzer) refusal(in query.Input, why string) *query.Analysis {
	return &query.Analysis{Opaque: why, Sanitize: true, Writes: true, Version: a.Version(), ScopeID: in.Scope.ID}
}

// look reads the catalog again, not too often, and reports whether it changed.
func (a *Analyzer) look(ctx context.Context) bool {
	a.mu.Lock()
	if time.Since(a.looked) < refreshEvery {
		a.mu.Unlock()
		return false
	}
	a.looked = time.Now()
	a.mu.Unlock()
	before := a.o.Catalog.Snapshot()
	return a.Refresh(ctx) == nil && a.o.Catalog.Snapshot() != before
}

// analysis is an Analysis in the making.
type analysis struct {
	query.Analysis
	changed bool
	bodies  bodies
}

// analyze walks the statements of a text. unknown reports that a relation was
// not in the snapshot.
func (b *binding) analyze(in *query.Input, tree *pg.ParseResult) (an *analysis, unknown bool) {
	an = &analysis{Analysis: query.Analysis{Version: b.snap.Version, ScopeID: b.scope.ID}}
	if major := b.snap.Server / 10000; major < query.OldestServer || major > query.NewestServer {
		an.Opaque = fmt.Sprintf("the server is PostgreSQL %d: statements are understood for %d to %d", major, query.OldestServer, query.NewestServer)
		an.Writes, an.Sanitize = true, true
		return an, false
	}
	if b.cast != "" && !ends(tree) {
		an.Opaque, an.Remedy = b.cast, "have the function declared in the policy, or the cast made explicit"
		an.Writes, an.Sanitize = true, true
		return an, false
	}
	masked, matched, filtered := map[events.Field]bool{}, map[events.Field]bool{}, map[policy.Relation]bool{}
	for _, oid := range in.ParamTypes {
		if oid == 0 {
			continue
		}
		w := newWalker(b, in)
		if t := b.snap.TypeByOID[oid]; t != nil {
			w.useType(t)
		} else {
			w.refuse("parameter type %d is not known", oid)
		}
		an.add(w, in.SQL)
	}
	defines := false // what is behind it may find something else by its names
	for _, s := range tree.Stmts {
		w := newWalker(b, in)
		w.outermost = in.Masks && len(tree.Stmts) == 1
		if w.major() < 15 && laterNumber(in.SQL, s.Stmt) {
			w.refuse("PostgreSQL %d reads a number of this form as another one", w.major())
		}
		w.outermost = len(tree.Stmts) == 1
		w.statement(s.Stmt, an)
		w.finish()
		w.target.check(w)
		w.storesNothingRevealed()
		w.overlooked()
		if defines && slices.ContainsFunc(w.objects, func(o policy.Object) bool { return o.Access != policy.Define && o.Access != policy.Lock }) {
			w.refuse("what a text names behind a definition in it may be something else by then")
			w.remedy = "send its statements one by one"
		}
		defines = defines || w.ddl
		unknown = unknown || w.unknown
		an.take(w, masked, in.SQL)
		an.Plain = len(tree.Stmts) == 1 && w.plain()
		maps.Copy(filtered, w.filtered)
		maps.Copy(matched, w.matched)
	}
	if unknown {
		an.Version = 0 // of no snapshot: worth another look
	}
	if len(tree.Stmts) == 0 {
		an.Commands = []string{"empty"}
	}
	b.meaning(an)
	an.Masked = sorted(masked)
	an.Matched = sorted(matched)
	an.Filtered = sortedRelations(filtered)
	return an, unknown
}

// ends reports a text that does nothing but to begin transactions or to undo them:
// whatever is there, these may be said.
func ends(tree *pg.ParseResult) bool {
	for _, s := range tree.Stmts {
		switch s.Stmt.GetTransactionStmt().GetKind() {
		case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START,
			pg.TransactionStmtKind_TRANS_STMT_ROLLBACK, pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		default:
			return false
		}
	}
	return true
}

// add takes over why something is refused; the first reason counts.
func (an *analysis) add(w *walker, sql string) {
	if an.Opaque == "" && w.opaque != "" {
		an.Opaque, an.Remedy, an.Code = w.opaque, w.remedy, w.code
		if w.at > 0 && w.at <= len(sql) {
			an.Position = utf8.RuneCountInString(sql[:w.at]) + 1
		}
	}
}

// take adds what a statement was found to do.
func (an *analysis) take(w *walker, masked map[events.Field]bool, sql string) {
	an.Commands = append(an.Commands, w.commands...)
	for _, o := range w.objects {
		an.object(o)
		w.eachKin(o, func(k policy.Object) {
			if k != o && !slices.Contains(an.Kin, k) {
				an.Kin, an.Via = append(an.Kin, k), append(an.Via, o)
			}
		})
	}
	an.Renames = append(an.Renames, w.becoming...)
	for f := range w.masked {
		masked[f] = true
	}
	an.bodies.join(w.bodies)
	an.Calls = an.Calls || w.calls
	an.add(w, sql)
	opaque := w.opaque != ""
	an.Writes = an.Writes || w.writes || opaque
	an.DDL = an.DDL || w.ddl || opaque
	an.Sanitize = an.Sanitize || w.sanitize || opaque
	an.changed = an.changed || w.changed
	an.Copies = append(an.Copies, w.copies...)
	an.Outputs, an.Origins, an.Width = w.outputs, w.origins, w.width // of the only statement
	an.Subjects = w.sights.shown
	if why := w.sights.untold(); an.Untold == "" || why == "" {
		an.Untold += why
	} else {
		an.Untold += "; " + why
	}
	an.Lookups += w.lookups
	an.Local = an.Local || w.local
	an.ByValue = an.ByValue || w.byValue
}

func (an *analysis) object(o policy.Object) {
	for _, have := range an.Objects {
		if have == o {
			return
		}
	}
	an.Objects = append(an.Objects, o)
}

func sorted(m map[events.Field]bool) []events.Field {
	if len(m) == 0 {
		return nil
	}
	out := make([]events.Field, 0, len(m))
	for f := range m {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out
}

func sortedRelations(m map[policy.Relation]bool) []policy.Relation {
	if len(m) == 0 {
		return nil
	}
	out := slices.Collect(maps.Keys(m))
	slices.SortFunc(out, func(a, b policy.Relation) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
	})
	return out
}

// binding returns the scope applied to the latest snapshot.
func (a *Analyzer) binding(ctx context.Context, sc *policy.Scope) (*binding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.o.Catalog.Snapshot()
	if s != a.snap {
		clear(a.bindings)
		a.snap = s
	}
	// Equal IDs mean equal scopes, except for the zero ID.
	if b := a.bindings[sc.ID]; b != nil && (b.scope == sc || sc.ID != "") {
		return b, nil
	}
	if err := a.pinOuter(ctx, sc); err != nil {
		return nil, err
	}
	if len(a.bindings) > 1000 {
		clear(a.bindings)
	}
	b, err := a.bind(ctx, s, sc)
	if err != nil {
		return nil, err
	}
	a.bindings[sc.ID] = b
	return b, nil
}

// Protected reports whether a column, by what a RowDescription says of it, is
// protected in the scope: its stored value must not go out. What is not known
// is protected wherever anything is; table 0 is no column of a relation.
func (a *Analyzer) Protected(table uint32, attnum int16, sc *policy.Scope) bool {
	if table == 0 || sc != nil && len(sc.Masks) == 0 {
		return false
	}
	if sc == nil {
		return true
	}
	b, err := a.binding(context.Background(), sc)
	if err != nil {
		return true
	}
	r := b.snap.ByOID[table]
	if r == nil || b.cast != "" {
		return true
	}
	g := b.guard(r)
	if g.opaque != "" {
		return true
	}
	for _, c := range r.Columns {
		if c.Num == attnum {
			p := g.columns[c.Name]
			return p != nil && (p.derived || p.mask.Kind != policy.MaskReveal)
		}
	}
	return len(g.columns) > 0 && attnum > 0
}

// Column implements query.Analyzer.
func (a *Analyzer) Column(table uint32, attnum int16) events.Field {
	if r := a.o.Catalog.Snapshot().ByOID[table]; r != nil {
		for _, c := range r.Columns {
			if c.Num == attnum {
				return events.Field{Schema: r.Schema, Relation: r.Name, Column: c.Name}
			}
		}
	}
	return events.Field{}
}

// Unbound lists the fields that the policy protects on relations which have
// no such column: policy and catalog have drifted apart. Statements on these
// relations are refused. A relation that does not exist is no drift.
func (a *Analyzer) Unbound(sc *policy.Scope) []events.Field {
	b, err := a.binding(context.Background(), sc)
	if err != nil {
		return nil // every statement fails with that error
	}
	return b.unbound
}

var _ query.Analyzer = (*Analyzer)(nil)
