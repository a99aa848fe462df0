package postgres

import (
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// statementNamed and portalNamed look a name up as the server will have it
// when the next message arrives there.
func (c *conn) statementNamed(name []byte) *prepared {
	c.settle(false, name)
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.names.statements[string(name)]
}

func (c *conn) portalNamed(name []byte) *portal {
	c.settle(true, name)
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.names.portals[string(name)]
}

// settle waits for changes of a name whose failure would not stop what uses
// it next.
func (c *conn) settle(portal bool, name []byte) {
	c.queue.mu.Lock()
	ok := c.queue.names.settled(portal, name, c.queue.batch)
	c.queue.mu.Unlock()
	if !ok {
		_ = c.barrier() // a server that is gone is noticed by the next Send
	}
}

// crowded reports whether the session has too many names.
func (c *conn) crowded() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return len(c.queue.names.statements) >= maxNames || len(c.queue.names.portals) >= maxNames
}

// parse decides whether a statement may be prepared.
func (c *conn) parse(body []byte) error {
	m := cursor{b: body}
	name, sql := m.str(), m.str()
	n := m.int16()
	if m.bad || n < 0 || len(m.b) != 4*n {
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
	sc := c.scope()
	st, err := c.analyze(sql, sc, false, types)
	if err != nil {
		c.number++
		return c.refuseUnanalysed(false, err)
	}
	d, err := c.decideAhead(st, sc, sql, nil, now)
	if err != nil || !d.Allowed() {
		return c.refuseAhead(st, d, err, now, sql, nil)
	}
	p := &prepared{name: string(name), sql: string(sql), types: types, st: st, record: d.Record(),
		digests: append([]events.Digest(nil), c.digests...)}
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
	return c.push(&step{kind: stepParse, sanitize: st.an.Sanitize, rewritten: st.an.SQL != "",
		change: change{kind: defineStatement, name: p.name, stmt: p}}, d, c.msg)
}

// decideAhead decides whether a statement may be prepared or bound. Its number
// is that of the statement which would come next.
func (c *conn) decideAhead(st *statement, sc *policy.Scope, sql []byte, digests []events.Digest, now time.Time) (policy.Decision, error) {
	c.number++
	d, err := c.decide(policy.PrepareReq, st, sc, sql, digests, now)
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

// fresh returns the analysis of a prepared statement under the scope and the
// catalog of this moment; nil when what the server has is not what it would
// be sent now.
func (c *conn) fresh(p *prepared, sc *policy.Scope) (*statement, error) {
	an := p.st.an
	if an.ScopeID == sc.ID && sc.ID != "" {
		if sc.Opaque {
			return p.st, nil
		}
		if c.unsafe.Load() != nil {
			return nil, errUnsafe
		}
		if err := c.analysis(); err != nil {
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

var errStale = &refusal{code: codeNoStatement,
	message: "sallyport: refused: the policy or the catalog has changed since the statement was prepared", hint: "Prepare it again."}

// bind notes what a portal stands for, with its parameters.
func (c *conn) bind(body []byte) error {
	m := cursor{b: body}
	pname, sname := m.str(), m.str()
	m.take(2 * max(m.int16(), 0))
	p := c.statementNamed(sname)
	port := c.newPortal()
	n := m.int16()
	for range n {
		var v []byte
		if size := m.int32(); size >= 0 {
			v = m.take(int(size))
		} else if size != -1 {
			m.bad = true
		}
		if !m.bad && p != nil && len(port.digests) <= maxDigests {
			port.digests = append(port.digests, c.p.o.Digest(v))
		}
	}
	m.take(2 * max(m.int16(), 0))
	if n < 0 || !m.end() {
		return violation(malformed('B'))
	}
	if p == nil {
		return c.refuse(false, notKnown(false, sname))
	}
	if c.crowded() {
		return c.refuse(false, &refusal{code: codeBusy, message: "sallyport: refused: this session has too many portals", hint: "Close some."})
	}
	now := time.Now()
	sc := c.scope()
	st, err := c.fresh(p, sc)
	switch {
	case err != nil:
		c.number++
		return c.refuseUnanalysed(false, err)
	case st == nil:
		return c.refuse(false, errStale)
	}
	d, err := c.decideAhead(st, sc, bytesOf(p.sql), port.digests, now)
	if err != nil || !d.Allowed() {
		return c.refuseAhead(st, d, err, now, []byte(p.sql), body)
	}
	port.name, port.stmt, port.st = string(pname), p, st
	port.binds = append(port.binds[:0], body...)
	b, at := begin(c.msg[:0], 'B')
	c.msg = finish(append(b, body...), at)
	return c.push(&step{kind: stepBind, sanitize: st.an.Sanitize, rewritten: st.an.SQL != "",
		change: change{kind: definePortal, name: port.name, port: port}}, d, c.msg)
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
	var p *prepared
	if kind == 'P' {
		port := c.portalNamed(name)
		if port == nil {
			return c.refuse(false, notKnown(true, name))
		}
		st.kind, p = stepDescribePortal, port.stmt
	} else if p = c.statementNamed(name); p == nil {
		return c.refuse(false, notKnown(false, name))
	}
	if p != nil && p.sent != "" {
		// Its columns belong to the result that most likely comes next.
		st.number, st.record = c.number+1, p.record
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

// execute decides one execution of a portal.
func (c *conn) execute(body []byte) error {
	m := cursor{b: body}
	name := m.str()
	m.int32()
	if !m.end() {
		return violation(malformed('E'))
	}
	p := c.portalNamed(name)
	if p == nil {
		return c.refuse(false, notKnown(true, name))
	}
	now := time.Now()
	sc := c.scope()
	if p.st.an.ScopeID != sc.ID {
		return c.refuse(false, errStale)
	}
	c.number++
	var sql []byte
	c.digests = c.digests[:0]
	if p.stmt != nil {
		sql = bytesOf(p.stmt.sql)
		c.digests = append(c.digests, p.stmt.digests...)
	}
	c.digests = append(c.digests, p.digests...)
	d, err := c.decide(policy.StatementReq, p.st, sc, sql, c.digests, now)
	if err == nil {
		if err := c.record(d.Record(), now, sql, p.binds); err != nil {
			return err
		}
	}
	if err != nil || !d.Allowed() {
		return c.refuse(false, c.refused(d, err, p.st.an))
	}
	b, at := begin(c.msg[:0], 'E')
	c.msg = finish(append(b, body...), at)
	return c.run(c.step(stepExecute, p.st, sc, d, now), p.st, d)
}

// close passes a Close on; closing what is not there is no error.
func (c *conn) close(body []byte) error {
	kind, name, ok := kindAndName(body)
	if !ok {
		return violation(malformed('C'))
	}
	st := step{kind: stepClose, change: change{kind: closeStatement, name: string(name)}}
	if kind == 'P' {
		st.change.kind = closePortal
	}
	b, at := begin(c.msg[:0], 'C')
	c.msg = finish(append(b, body...), at)
	return c.push(&st, c.login, c.msg)
}
