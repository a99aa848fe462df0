package policy

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// Amount is how much may go out, or be asked; zero fields have no limit. Lookups
// are values that stored ones are compared with; see Mask.Match.
type Amount struct{ Rows, Bytes, Statements, Lookups int64 }

// Limits are what one rule lets through of the statements that it is about.
type Limits struct {
	Statement, Session Amount
	Minute, Hour       Amount        // of an identity at a resource, over all its sessions
	Length             time.Duration // of a session; 0: any
}

// Limited is a rule's Limits, by the rule's name.
type Limited struct {
	Rule   string
	Limits *Limits
}

// Over is a limit that is reached.
type Over struct{ Rule, Reason, Remedy string }

// Allowance is what is left for a statement, by all rules that limit it. Its
// methods are safe for concurrent use; nil allows everything.
type Allowance struct {
	parts []part
	began time.Time // of the session
	now   func() time.Time
}

type part struct {
	Limited
	session, both *meter // of the session, and of the identity
}

// Row takes a row of size bytes off what is left, of a statement of which rows
// and bytes went out before. nil lets the row go out.
func (a *Allowance) Row(rows, bytes, size int64) *Over {
	if a == nil {
		return nil
	}
	now := a.now()
	for i := range a.parts {
		p := &a.parts[i]
		l := p.Limits
		switch {
		case l.Statement.Rows > 0 && rows >= l.Statement.Rows:
			return p.over(l.Statement.Rows, "rows of a statement")
		case l.Statement.Bytes > 0 && bytes+size > l.Statement.Bytes:
			return p.over(l.Statement.Bytes, "bytes of a statement's result")
		}
		if o := p.outlasts(a.began, now); o != nil {
			return o
		}
		if o := p.take(now, Amount{Rows: 1, Bytes: size}); o != nil {
			return o
		}
	}
	return nil
}

// begin takes a statement, and the values that it looks up, off what is left.
func (a *Allowance) begin(lookups int64) *Over {
	now := a.now()
	for i := range a.parts {
		p := &a.parts[i]
		if o := p.outlasts(a.began, now); o != nil {
			return o
		}
		if o := p.many(lookups); o != nil {
			return o
		}
		if o := p.take(now, Amount{Statements: 1, Lookups: lookups}); o != nil {
			return o
		}
	}
	return nil
}

// reached reports a limit that leaves nothing for another statement. It takes
// nothing.
func (a *Allowance) reached(lookups int64) *Over {
	if a == nil {
		return nil
	}
	now, one := a.now(), Amount{Statements: 1, Lookups: lookups}
	for i := range a.parts {
		p := &a.parts[i]
		if o := p.outlasts(a.began, now); o != nil {
			return o
		}
		if o := p.many(lookups); o != nil {
			return o
		}
		if what, n := p.session.look(now, one, &p.Limits.Session, nil, nil); n > 0 {
			return p.over(n, what+" a session")
		}
		if what, n := p.both.look(now, one, nil, &p.Limits.Minute, &p.Limits.Hour); n > 0 {
			return p.over(n, what)
		}
	}
	return nil
}

// asked takes a statement off what is left that is explained, and not run.
func (a *Allowance) asked(lookups int64) *Over {
	if o := a.reached(lookups); o != nil || a == nil {
		return o
	}
	now := a.now()
	for i := range a.parts {
		if o := a.parts[i].take(now, Amount{Statements: 1}); o != nil {
			return o
		}
	}
	return nil
}

// many reports that one statement looks too many values up.
func (p *part) many(lookups int64) *Over {
	if n := p.Limits.Statement.Lookups; n > 0 && lookups > n {
		return p.over(n, "look-ups of masked values of a statement")
	}
	return nil
}

func (p *part) outlasts(began, now time.Time) *Over {
	if l := p.Limits.Length; l > 0 && now.Sub(began) > l {
		return &Over{p.Rule, fmt.Sprintf("rule %q lets a session last %s", p.Rule, l), "connect again"}
	}
	return nil
}

func (p *part) over(n int64, what string) *Over {
	o := &Over{
		Rule: p.Rule, Reason: fmt.Sprintf("rule %q lets at most %d %s through", p.Rule, n, what),
		Remedy: "ask for less (WHERE, LIMIT), or ask whoever keeps the policy",
	}
	if strings.HasSuffix(what, "an hour") || strings.HasSuffix(what, "a minute") {
		o.Remedy = "wait, or ask whoever keeps the policy"
	}
	return o
}

// take takes an amount off every window that the rule limits.
func (p *part) take(now time.Time, a Amount) *Over {
	if what, n := p.session.take(now, a, &p.Limits.Session, nil, nil); n > 0 {
		return p.over(n, what+" a session")
	}
	if what, n := p.both.take(now, a, nil, &p.Limits.Minute, &p.Limits.Hour); n > 0 {
		return p.over(n, what)
	}
	return nil
}

// meter counts what went out.
type meter struct {
	mu     sync.Mutex
	all    Amount
	minute window // of seconds
	hour   window // of minutes
	used   time.Time
}

// take adds an amount unless it would go beyond a limit: then it says which.
func (m *meter) take(now time.Time, a Amount, all, minute, hour *Amount) (what string, limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = now
	if what, limit = m.room(now, a, all, minute, hour); limit > 0 {
		return what, limit
	}
	if all != nil {
		m.all = m.all.plus(a)
	} else {
		m.minute.add(a)
		m.hour.add(a)
	}
	return "", 0
}

// look is take without adding anything.
func (m *meter) look(now time.Time, a Amount, all, minute, hour *Amount) (what string, limit int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room(now, a, all, minute, hour)
}

// room says which limit an amount would go beyond; m.mu is held.
func (m *meter) room(now time.Time, a Amount, all, minute, hour *Amount) (what string, limit int64) {
	if all != nil {
		return beyond(m.all, a, all)
	}
	m.minute.to(now.Unix())
	m.hour.to(now.Unix() / 60)
	if what, limit = beyond(m.minute.sum, a, minute); limit > 0 {
		return what + " a minute", limit
	}
	if what, limit = beyond(m.hour.sum, a, hour); limit > 0 {
		return what + " an hour", limit
	}
	return "", 0
}

func (a Amount) plus(b Amount) Amount {
	return Amount{a.Rows + b.Rows, a.Bytes + b.Bytes, a.Statements + b.Statements, a.Lookups + b.Lookups}
}

// beyond reports the limit that have and more would go beyond.
func beyond(have, more Amount, l *Amount) (what string, limit int64) {
	switch {
	case l.Rows > 0 && more.Rows > 0 && have.Rows+more.Rows > l.Rows:
		return "rows", l.Rows
	case l.Bytes > 0 && more.Bytes > 0 && have.Bytes+more.Bytes > l.Bytes:
		return "bytes", l.Bytes
	case l.Statements > 0 && more.Statements > 0 && have.Statements+more.Statements > l.Statements:
		return "statements", l.Statements
	case l.Lookups > 0 && more.Lookups > 0 && have.Lookups+more.Lookups > l.Lookups:
		return "look-ups of masked values", l.Lookups
	}
	return "", 0
}

// window sums what came in the last 60 ticks.
type window struct {
	at  int64 // the latest tick
	n   [60]Amount
	sum Amount
}

// to moves the window on to a tick; one that is back in time is the latest.
func (w *window) to(tick int64) {
	if tick-w.at >= int64(len(w.n)) {
		*w = window{at: tick}
	}
	for w.at < tick {
		w.at++
		old := &w.n[w.at%int64(len(w.n))]
		w.sum = Amount{w.sum.Rows - old.Rows, w.sum.Bytes - old.Bytes, w.sum.Statements - old.Statements, w.sum.Lookups - old.Lookups}
		*old = Amount{}
	}
}

// add counts in the latest tick, which holds no more than full.
func (w *window) add(a Amount) {
	n := &w.n[w.at%int64(len(w.n))]
	a = Amount{
		min(a.Rows, full.Rows-n.Rows), min(a.Bytes, full.Bytes-n.Bytes),
		min(a.Statements, full.Statements-n.Statements), min(a.Lookups, full.Lookups-n.Lookups),
	}
	*n, w.sum = n.plus(a), w.sum.plus(a)
}

// meters are those of all identities.
type meters struct {
	mu    sync.Mutex
	by    map[string]*meter
	swept time.Time
	lost  time.Time // when it was found that what was counted before is not known; zero: it is
}

// of returns the meter of a rule for an identity at a resource.
func (m *meters) of(id *intercept.Identity, resource, rule string, now time.Time) *meter {
	// The parts can't run together: each has its length in front.
	key := ""
	for _, s := range []string{id.Workload, id.Issuer, id.Actor(), id.PrincipalIssuer(), id.Principal(), resource, rule} {
		key += fmt.Sprintf("%d:%s", len(s), s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.swept) > time.Hour {
		m.swept = now
		for k, x := range m.by {
			x.mu.Lock()
			idle := now.Sub(x.used) > time.Hour
			x.mu.Unlock()
			if idle {
				delete(m.by, k)
			}
		}
	}
	x := m.by[key]
	if x == nil {
		if m.by == nil {
			m.by = map[string]*meter{}
		}
		x = m.fresh(now)
		m.by[key] = x
	}
	return x
}

// allowance returns what is left for a request that is allowed.
func (g *Gate) allowance(r *Request, limits []Limited, now time.Time) *Allowance {
	if len(limits) == 0 {
		return nil
	}
	s := r.Session
	if s.meters == nil {
		s.meters = map[string]*meter{}
	}
	a := &Allowance{began: s.began, now: g.now}
	for _, l := range limits {
		if s.meters[l.Rule] == nil {
			s.meters[l.Rule] = &meter{}
		}
		a.parts = append(a.parts, part{l, s.meters[l.Rule], g.meters.of(&s.Identity, s.Resource, l.Rule, now)})
	}
	return a
}
