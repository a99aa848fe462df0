package postgres

import (
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// statementNamed and portalNamed look a name up as the server will have it
// when the next message arrives there.
func (c *conn) statementNamed(name []byte) *prepared {
	return lookUp(c, &c.queue.names.statements, name)
}

func (c *conn) portalNamed(name []byte) *portal {
	return lookUp(c, &c.queue.names.portals, name)
}

// lookUp waits first for changes of the name whose failure would not stop what
// uses it next.
func lookUp[T any, P sized[T]](c *conn, s *space[T, P], name []byte) *T {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	sl := s.find(name)
	if q.names.unsettled > 0 || !sl.settled(q.batch) {
		q.mu.Unlock()
		_ = c.barrier() // a server that is gone is noticed by the next Send
		q.mu.Lock()
		sl = s.find(name)
	}
	if sl == nil {
		return nil
	}
	return sl.value()
}

// unknown stands for a prepared statement whose text is not known. Only where
// everything is relayed may it be used.
func unknown(sc *policy.Scope) *prepared {
	return &prepared{st: &statement{
		copies: true, defines: true,
		an: &query.Analysis{Commands: []string{"unknown"}, Writes: true, ScopeID: sc.ID},
	}}
}

// crowded reports whether the session has too many names, when all that is
// under way has been answered.
func (c *conn) crowded() bool {
	q := &c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.names.crowded() && q.n > 0 {
		q.mu.Unlock()
		_ = c.barrier()
		q.mu.Lock()
	}
	return q.names.crowded()
}

// parse decides whether a statement may be prepared.
func (c *conn) parse(body []byte) error {
	m := cursor{b: body}
	name, sql := m.str(), m.str()
	n := m.count()
	if m.bad || len(m.b) != 4*n {
		return violation(malformed('P'))
	}
	var types []uint32
	for range n {
		types = append(types, uint32(m.int32()))
	}
	now := time.Now()
	if c.crowded() {
		return c.refuse(false, &refusal{code: codeBusy, message: "sallyport: refused: this session has too many prepared statements", hint: "Close some."})
	}
	if s, ok := saying(sql); ok {
		return c.parseSaying(&s, name, types, body[len(name)+len(sql)+2:])
	}
	if c.s.Speaks() && mentions(sql) {
		return c.refuseMention(false)
	}
	if s, ok := switches(sql); ok {
		return c.parseSwitch(s, name, types, body[len(name)+len(sql)+2:])
	}
	if j, ok := justifies(sql); ok {
		return c.parseJustify(j, name, types, body[len(name)+len(sql)+2:])
	}
	if namesExplain(sql) && !showsExplain(sql) {
		return c.refuseSwitch(false, sql)
	}
	sc := c.scope()
	st, err := c.analyze(sql, sc, false, types)
	if err != nil {
		c.number++
		return c.refuseUnanalysed(false, err, sql, nil)
	}
	if c.explains(st) {
		return c.explainParse(name, sql, types, st)
	}
	d, err := c.decideAhead(st, sc, sql, c.digests, now)
	if err != nil || !d.Allowed() {
		return c.refuseAhead(st, d, err, now, sql, nil)
	}
	p := &prepared{
		name: string(name), sql: string(sql), types: types, st: st, record: d.Record(),
		digests: append([]events.Digest(nil), c.digests...),
	}
	b, at := begin(c.msg[:0], 'P')
	b = append(append(b, name...), 0)
	from := len(b)
	b = st.appendSQL(b, sql, c.lits)
	p.sent = p.sql
	if st.an.SQL != "" {
		p.sent = string(b[from:])
	}
	b = append(append(b, 0), body[len(name)+len(sql)+2:]...)
	c.msg = finish(b, at)
	return c.push(&step{
		kind: stepParse, sanitize: st.an.Sanitize, rewritten: st.an.SQL != "",
		change: change{kind: ofStatement, name: p.name, stmt: p},
	}, d, c.msg)
}

// decideAhead decides whether a statement may be prepared, or whether what was
// decided at Bind still holds. It leaves an event only if not: of the statement
// that would come next.
func (c *conn) decideAhead(st *statement, sc *policy.Scope, sql []byte, digests []events.Digest, now time.Time) (policy.Decision, error) {
	c.number++
	d, err := c.decide(policy.PrepareReq, st, sc, sql, digests, 0, now)
	if err == nil && d.Allowed() {
		c.number--
	}
	return d, err
}

func (c *conn) refuseAhead(st *statement, d policy.Decision, err error, now time.Time, sql, binds []byte) error {
	if err == nil {
		if err := c.record(d.Record(), now, sql, binds); err != nil {
			return err
		}
	}
	return c.refuse(false, c.refused(d, err, st.an))
}

// fresh returns the analysis of a prepared statement under the scope, the
// catalog and the names of this moment; nil when what the server has is not
// what it would be sent now.
func (c *conn) fresh(p *prepared, sc *policy.Scope) (*statement, error) {
	an := p.st.an
	if an.ScopeID == sc.ID && sc.ID != "" && !an.Local {
		if sc.Opaque {
			return p.st, nil
		}
		if err := c.understood(); err != nil {
			return nil, err
		}
		if err := c.analysis(sc.ID); err != nil {
			return nil, err
		}
		if an.Version == c.analyzer.Version() {
			return p.st, nil
		}
	}
	if p.sent == "" {
		return nil, nil // SQL's PREPARE: its text is not known
	}
	st, err := c.analyze([]byte(p.sql), sc, false, p.types)
	if err != nil {
		return nil, err
	}
	if st.an.Opaque == "" && string(st.appendSQL(nil, []byte(p.sql), c.lits)) != p.sent {
		return nil, nil
	}
	return st, nil
}

// stale refuses what the server has as it was under another policy or catalog.
func (c *conn) stale(p *prepared, binds []byte) error {
	c.number++
	var sql []byte
	if p != nil {
		sql = []byte(p.sql)
	}
	return c.refuseOpaque(false, codeNoStatement, "the policy or the catalog has changed since it was prepared", "Prepare it again.", sql, binds)
}

// bind decides a statement with its parameters. The server may run code of it
// from here on (it plans with them), so its event is of now; the first Execute
// goes with it.
func (c *conn) bind(body []byte) error {
	m := cursor{b: body}
	pname, sname := m.str(), m.str()
	m.take(2 * m.count())
	port := c.newPortal()
	n := m.count()
	for range n {
		var v []byte
		if size := m.int32(); size >= 0 {
			v = m.take(int(size))
		} else if size != -1 {
			m.bad = true
		}
		if !m.bad && len(port.digests) <= maxDigests {
			port.digests = append(port.digests, c.p.o.Digest(v))
		}
	}
	formats := m.b
	m.take(2 * m.count())
	if !m.end() {
		return violation(malformed('B'))
	}
	p, sc := c.statementNamed(sname), c.scope()
	switch {
	case p == nil && sc.Opaque:
		p = unknown(sc)
	case p == nil:
		return c.refuse(false, notKnown(false, sname))
	}
	if c.crowded() {
		return c.refuse(false, &refusal{code: codeBusy, message: "sallyport: refused: this session has too many portals", hint: "Close some."})
	}
	if p.says != nil {
		return c.bindSaying(p, port, pname, body)
	}
	switch {
	case p.switches != nil:
		return c.bindOwn(p, port, voiceNone, pname, body)
	case p.justifies != nil:
		return c.bindOwn(p, port, voiceNone, pname, body)
	case p.explained != c.explains(p.st):
		return c.refuseMode(p, body)
	case p.explained:
		return c.explainBind(p, port, pname, body, formats)
	}
	now := time.Now()
	st, err := c.fresh(p, sc)
	if err == nil && st == nil {
		return c.stale(p, body)
	}
	c.number++
	if err != nil {
		return c.refuseUnanalysed(false, err, []byte(p.sql), body)
	}
	port.name, port.stmt, port.st = string(pname), p, st
	port.number, port.started, port.who = c.number, now, c.s.Principal()
	port.binds = append(port.binds[:0], body...)
	kind := policy.StatementReq
	if st.an.Local { // what the names in it stand for is looked up at Execute
		kind, port.number = policy.PrepareReq, 0
		c.number--
	}
	d, err := c.decidePortal(kind, port, st, sc, now)
	if err != nil || !d.Allowed() || kind == policy.StatementReq {
		if err := c.recordDecided(d, err, now, p, body); err != nil {
			return err
		}
	}
	if err != nil || !d.Allowed() {
		return c.refuse(false, c.refused(d, err, st.an))
	}
	port.looked, port.cover = kind == policy.StatementReq, d.Under()
	if st.an.Local {
		port.means = c.meanings()
	}
	b, at := begin(c.msg[:0], 'B')
	c.msg = finish(append(b, withFormats(body, formats, len(st.an.Subjects))...), at)
	s := c.step(stepBind, st, sc, d, now)
	s.change = change{kind: ofPortal, name: port.name, port: port}
	return c.push(s, d, c.msg)
}

// meanings are the analyses of what the latest text that was analysed names in the
// session. They are the same ones as long as the names stand for the same.
func (c *conn) meanings() (out []*query.Analysis) {
	add := func(an *query.Analysis) {
		if !slices.Contains(out, an) { // a text may be analysed twice
			out = append(out, an)
		}
	}
	for _, p := range c.named {
		add(p.st.an)
	}
	for _, p := range c.fetched {
		add(p.st.an)
	}
	return out
}

// recordDecided puts what an event tells of into the transcript.
func (c *conn) recordDecided(d policy.Decision, err error, now time.Time, p *prepared, binds []byte) error {
	if err != nil {
		return nil // there is no event
	}
	var sql []byte
	if p != nil {
		sql = bytesOf(p.sql)
	}
	return c.record(d.Record(), now, sql, binds)
}

// decidePortal decides what a portal stands for: st, with its literals and
// binds.
func (c *conn) decidePortal(kind policy.RequestKind, p *portal, st *statement, sc *policy.Scope, now time.Time) (policy.Decision, error) {
	var sql []byte
	c.digests = c.digests[:0]
	if p.stmt != nil {
		sql = bytesOf(p.stmt.sql)
		c.digests = append(c.digests, p.stmt.digests...)
	}
	c.digests = append(c.digests, p.digests...)
	c.wording.binds = p.binds
	if p.stmt != nil {
		c.wording.types, c.wording.sent = p.stmt.types, p.stmt.sent
	}
	if kind == policy.PrepareReq {
		return c.decideAhead(st, sc, sql, c.digests, now)
	}
	lookups := st.an.Lookups
	if p.looked {
		lookups = 0
	}
	if p.stmt != nil {
		c.observe(sc, sql, false, p.stmt.types)
	}
	return c.decide(kind, st, sc, sql, c.digests, lookups, now)
}

// newPortal returns a portal to fill, an old one where there is one.
func (c *conn) newPortal() *portal {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	spare := c.queue.names.spare
	if len(spare) == 0 {
		return &portal{}
	}
	p := spare[len(spare)-1]
	c.queue.names.spare = spare[:len(spare)-1]
	*p = portal{binds: p.binds[:0], digests: p.digests[:0]}
	return p
}

// describe passes a Describe on: its answer is held against what is protected.
func (c *conn) describe(body []byte) error {
	kind, name, ok := kindAndName(body)
	if !ok {
		return violation(malformed('D'))
	}
	sc := c.scope()
	st := step{kind: stepDescribeStatement, sanitize: sc.Protects(), guard: protects(sc), analyzer: c.analyzer}
	// Its columns belong to the result that most likely comes next.
	number := c.number + 1
	var p *prepared
	if kind == 'P' {
		st.kind = stepDescribePortal
		port := c.portalNamed(name)
		switch {
		case port == nil && !sc.Opaque:
			return c.refuse(false, notKnown(true, name))
		case port != nil:
			p = port.stmt
			st.shows(port.st.an)
			if c.ofAnother(port) {
				return c.refuseAnother(port)
			}
			if port.number == c.number {
				number = port.number
			}
		}
	} else if p = c.statementNamed(name); p == nil && !sc.Opaque {
		return c.refuse(false, notKnown(false, name))
	} else if p != nil && p.says == nil && !p.explained {
		st.shows(p.st.an)
	}
	if p != nil && p.explained && kind == 'S' {
		st.params, st.rewritten = p.params, true
	}
	if p != nil && p.sent != "" {
		st.number, st.record = number, p.record
	}
	b, at := begin(c.msg[:0], 'D')
	c.msg = finish(append(b, body...), at)
	return c.push(&st, c.login, c.msg)
}

// kindAndName reads the body of a Describe or a Close.
func kindAndName(body []byte) (kind byte, name []byte, ok bool) {
	m := cursor{b: body}
	kind, name = m.byte(), m.str()
	return kind, name, m.end() && (kind == 'S' || kind == 'P')
}

// execute decides one execution of a portal: its first is the statement that
// Bind began, unless another came between.
func (c *conn) execute(body []byte) error {
	m := cursor{b: body}
	name := m.str()
	m.int32()
	if !m.end() {
		return violation(malformed('E'))
	}
	p, sc := c.portalNamed(name), c.scope()
	switch {
	case p == nil && sc.Opaque:
		p = &portal{st: unknown(sc).st, who: c.s.Principal()}
	case p == nil:
		return c.refuse(false, notKnown(true, name))
	}
	if p.stmt != nil && p.stmt.says != nil {
		return c.executeSaying(p.stmt.says, body)
	}
	if c.ofAnother(p) {
		return c.refuseAnother(p)
	}
	switch explained := p.stmt != nil && p.stmt.explained; {
	case p.stmt != nil && p.stmt.switches != nil:
		return c.executeSwitch(p.stmt.switches, body)
	case p.stmt != nil && p.stmt.justifies != nil:
		return c.executeJustify(p.stmt.justifies, body)
	case explained && c.explain:
		return c.explainExecute(p, body)
	case explained || c.explains(p.st):
		return c.refuseMode(p.stmt, p.binds)
	}
	now := time.Now()
	st := p.st
	if st.an.ScopeID != sc.ID {
		return c.stale(p.stmt, p.binds)
	}
	if p.stmt != nil && !planned(st.an) {
		var err error
		if st, err = c.fresh(p.stmt, sc); err != nil {
			c.number++
			return c.refuseUnanalysed(false, err, []byte(p.stmt.sql), p.binds)
		} else if st == nil {
			return c.stale(p.stmt, p.binds)
		}
	}
	if st.an.Local && st.an.Opaque == "" && !slices.Equal(p.means, c.meanings()) {
		// Rows that it has left are of what was named before, and so are their columns.
		c.number++
		return c.refuseOpaque(false, codeUnsupported, "what it names has changed since it was bound", "Bind it again.", bytesOf(p.stmt.sql), p.binds)
	}
	kind, started := policy.StatementReq, now
	if p.number == c.number && p.number > 0 {
		kind, started = policy.PrepareReq, p.started
	} else {
		c.number++
	}
	p.number = 0
	c.under = underOf(p, kind)
	d, err := c.decidePortal(kind, p, st, sc, now)
	if err != nil || !d.Allowed() || kind == policy.StatementReq {
		if err := c.recordDecided(d, err, now, p.stmt, p.binds); err != nil {
			return err
		}
	}
	if err != nil || !d.Allowed() {
		return c.refuse(false, c.refused(d, err, st.an))
	}
	if len(st.an.Outputs)+len(st.an.Subjects) > 0 || searches(sc, st.an) != nil {
		if err := c.askColumns(name, st, sc, d); err != nil {
			return err
		}
	}
	b, at := begin(c.msg[:0], 'E')
	c.msg = finish(append(b, body...), at)
	c.fetched = append(c.fetched, p)
	s := c.marked(c.step(stepExecute, st, sc, d, started), st)
	if sc.Approves {
		if !st.an.Local { // what its text names may be another thing the next time
			p.cover = d.Under()
		}
		if p.stmt != nil && s.change.kind == bySQL {
			s.change.text = strings.Join(p.exact(), "\n")
		}
	}
	return c.run(s, st, d)
}

// close passes a Close on; closing what is not there is no error.
func (c *conn) close(body []byte) error {
	kind, name, ok := kindAndName(body)
	if !ok {
		return violation(malformed('C'))
	}
	st := step{kind: stepClose, change: change{kind: ofStatement, name: string(name)}}
	if kind == 'P' {
		st.change.kind = ofPortal
	}
	b, at := begin(c.msg[:0], 'C')
	c.msg = finish(append(b, body...), at)
	return c.push(&st, c.login, c.msg)
}
