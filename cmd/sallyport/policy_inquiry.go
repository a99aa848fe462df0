package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// inquiry asks what would become of statements under a policy. It reads what their
// names mean from the databases that they are for, and runs nothing.
type inquiry struct {
	cfg    *config.Config
	policy *rules.Policy
	server string // as explain's flag; "": the resources' own addresses
	open   map[database]*analysis

	// prepared and cursors are a session's names, by what its texts did to them.
	prepared, cursors map[string]*query.Analysis
}

type database struct{ resource, name string }

func newInquiry(cfg *config.Config, p *rules.Policy, server string) *inquiry {
	q := &inquiry{cfg: cfg, policy: p, server: server, open: map[database]*analysis{}}
	q.begin()
	return q
}

func (q *inquiry) close() {
	for _, a := range q.open {
		a.close()
	}
}

// begin forgets the names of a session: another one's statements follow.
func (q *inquiry) begin() {
	q.prepared, q.cursors = map[string]*query.Analysis{}, map[string]*query.Analysis{}
}

// resource returns one of the configuration's, "" for the only one.
func (q *inquiry) resource(name string) (*config.Resource, error) {
	res, err := (&explainOptions{resource: name}).find(q.cfg)
	if err != nil {
		return nil, configError(err)
	}
	return res, nil
}

// analysis returns the analysis of a session's database.
func (q *inquiry) analysis(ctx context.Context, s *policy.Session) (*analysis, error) {
	at := database{s.Resource, s.Database}
	if a := q.open[at]; a != nil {
		return a, nil
	}
	res, err := q.resource(s.Resource)
	if err != nil {
		return nil, err
	}
	a, err := openAnalysis(ctx, q.cfg, &explainOptions{database: s.Database, server: q.server}, res)
	if err != nil {
		return nil, err
	}
	q.open[at] = a
	return a, nil
}

// ask says what would become of a session's login, and if that is allowed of a
// statement.
func (q *inquiry) ask(ctx context.Context, s *policy.Session, now time.Time, sql string) (*explanation, error) {
	x := q.login(s, now)
	if !x.runs() {
		return x, nil
	}
	return q.statement(ctx, s, now, sql, true)
}

func (q *inquiry) login(s *policy.Session, now time.Time) *explanation {
	x := &explanation{Request: "login"}
	x.decided(q.policy.Evaluate(&policy.Request{Session: s, Kind: policy.Login, Now: now, Scope: q.policy.Scope(s, now), Commands: []string{"login"}}), nil)
	return x
}

// statement says what would become of a text. simple: it came in a Query message,
// and may hold several statements.
func (q *inquiry) statement(ctx context.Context, s *policy.Session, now time.Time, sql string, simple bool) (*explanation, error) {
	p, sc := q.policy, q.policy.Scope(s, now)
	x := &explanation{Request: "statement"}
	r := &policy.Request{Session: s, Kind: policy.StatementReq, Now: now, Scope: sc, Number: 1, Text: sql}
	if sc.Opaque {
		x.Relayed = true
		r.Opaque = "it is relayed as it is"
		e := p.Evaluate(r)
		x.decided(e, nil)
		x.limits(e.Limits)
		return x, q.would(ctx, x, r, &e, simple)
	}
	a, err := q.analysis(ctx, s)
	if err != nil {
		return nil, err
	}
	an, err := a.analyzer.Analyze(ctx, query.Input{
		SQL: sql, Scope: sc, Simple: simple, Subjects: q.cfg.SubjectKey() != nil, Masks: q.cfg.MaskingKey() != nil,
		Prepared: func(name string) *query.Analysis { return q.prepared[name] },
		Cursor:   func(name string) *query.Analysis { return q.cursors[name] },
	})
	if err != nil {
		return nil, fmt.Errorf("the statement cannot be analysed: %w", err)
	}
	an.Describe(r)
	r.Normalized = normalized(sql)
	e := p.Evaluate(r)
	x.decided(e, an)
	x.limits(e.Limits)
	x.filters(sc, an.Filtered)
	x.masks(sc, an)
	x.shown(sc, an)
	x.reveals(p, s, now, an)
	x.detects(sc, an)
	x.names(an)
	x.Warnings = a.warnings(sc)
	if x.runs() {
		q.names(an)
	}
	return x, q.would(ctx, x, r, &e, simple)
}

// would adds what rules that only observe would do with a request.
func (q *inquiry) would(ctx context.Context, x *explanation, r *policy.Request, e *policy.Evaluation, simple bool) error {
	sc := r.Scope.Would
	if sc == nil {
		return nil
	}
	a, err := q.analysis(ctx, r.Session)
	if err != nil {
		return err
	}
	an, err := a.analyzer.Analyze(ctx, query.Input{SQL: r.Text, Scope: sc, Simple: simple, Masks: q.cfg.MaskingKey() != nil})
	if err != nil {
		return fmt.Errorf("the statement cannot be analysed: %w", err)
	}
	r.Would = &policy.Request{}
	an.Describe(r.Would)
	r.Would.Memo = nil // it is of the other scope
	w := policy.WouldBe(q.policy, r, e)
	if w.Verdict == 0 {
		return nil
	}
	what := slices.Concat(w.Filtered, nonEmpty(w.Reason))
	for _, f := range w.Masked {
		what = append(what, f.String())
	}
	x.Would = fmt.Sprintf("%s by %s: %s", w.Verdict, strings.Join(w.Rules, ", "), strings.Join(what, ", "))
	return nil
}

// shown notes what a statement that runs shows of protected fields.
func (x *explanation) shown(sc *policy.Scope, an *query.Analysis) {
	if !x.runs() {
		return
	}
	for _, f := range an.Masked {
		if k := sc.Mask(f).Kind; k == policy.MaskReveal {
			x.revealed = append(x.revealed, f.String())
		} else {
			x.masked = append(x.masked, f.String()+" ("+k+")")
		}
	}
}

// names does to the session's names what a text did.
func (q *inquiry) names(an *query.Analysis) {
	drop := func(m map[string]*query.Analysis, names []string) {
		for _, n := range names {
			if n == "*" {
				clear(m)
			}
			delete(m, n)
		}
	}
	drop(q.prepared, an.Deallocates)
	drop(q.cursors, an.Closes)
	for n, a := range an.Prepares {
		q.prepared[n] = a
	}
	for n, a := range an.Declares {
		q.cursors[n] = a
	}
}

// reveals tells which masked fields are shown in clear, and what it takes to see
// those that a rule could reveal.
func (x *explanation) reveals(p *rules.Policy, s *policy.Session, now time.Time, an *query.Analysis) {
	for _, f := range an.Masked {
		by := p.Revealing(s, now, f)
		if len(by) == 0 {
			continue
		}
		line := f.String()
		if p.Scope(s, now).Mask(f).Kind != policy.MaskReveal {
			var take []string
			for _, r := range by {
				what := fmt.Sprintf("%d characters for rule %q", r.Least, r.Rule)
				if r.Asks {
					what += " and an approval"
				}
				take = append(take, what)
			}
			line += ": with a justification only, of at least " + joined(take)
		} else if x.Verdict == "approve" && !slices.ContainsFunc(by, func(r rules.Revealing) bool { return r.Said && !r.Asks }) {
			line += ": with an approval only"
		}
		if !slices.Contains(x.Revealed, line) {
			x.Revealed = append(x.Revealed, line)
		}
	}
}

func joined(list []string) string {
	s := ""
	for i, v := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			s += " or "
		default:
			s += ", "
		}
		s += v
	}
	return s
}
