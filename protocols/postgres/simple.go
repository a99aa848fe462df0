package postgres

import (
	"bytes"
	"time"

	"sallyport.dev/sallyport/policy"
)

// text returns a message's one string, which must be all of its body.
func text(body []byte) ([]byte, bool) {
	n := len(body) - 1
	if n < 0 || bytes.IndexByte(body, 0) != n {
		return nil, false
	}
	return body[:n], true
}

// query decides a Query and sends it, what was generated in its place, or a
// decoy.
func (c *conn) query(body []byte) error {
	sql, ok := text(body)
	if !ok {
		return violation(malformed('Q'))
	}
	if s, ok := saying(sql); ok {
		return c.simpleSaying(&s)
	}
	if c.s.Speaks() && mentions(sql) {
		return c.refuseMention(true)
	}
	if s, ok := switches(sql); ok {
		return c.simpleSwitch(&s)
	}
	if j, ok := justifies(sql); ok {
		return c.simpleJustify(&j)
	}
	if namesExplain(sql) && !showsExplain(sql) {
		return c.refuseSwitch(true, sql)
	}
	now := time.Now()
	c.number++
	sc := c.scope()
	st, err := c.analyze(sql, sc, true, nil)
	if err != nil {
		return c.refuseUnanalysed(true, err, sql, nil)
	}
	if len(st.an.Commands) > 1 && c.unjustifies(st) {
		c.unjustify()
		if sc = c.scope(); sc.ID != st.an.ScopeID {
			if st, err = c.analyze(sql, sc, true, nil); err != nil {
				return c.refuseUnanalysed(true, err, sql, nil)
			}
		}
	}
	if c.outlives(st) {
		return c.refuseOpaque(true, codeUnsupported, "it goes on behind the end of what sallyport.principal was set for", "Send its statements one by one.", sql, nil)
	}
	if c.explains(st) {
		return c.explainQuery(st, sc, sql, now)
	}
	if c.strays(st) {
		return c.refuseOpaque(true, codeUnsupported, "it goes on behind the end of what sallyport.explain was set for", "Send its statements one by one.", sql, nil)
	}
	if c.reverts(st.an) {
		return c.refuseOpaque(true, codeUnsupported, "it goes on behind a ROLLBACK of what the transaction has defined", "Send its statements one by one.", sql, nil)
	}
	c.observe(sc, sql, true, nil)
	c.wording.simple = true
	d, err := c.decide(policy.StatementReq, st, sc, sql, c.digests, st.an.Lookups, now)
	if err == nil {
		if err := c.record(d.Record(), now, sql, nil); err != nil {
			return err
		}
	}
	if !d.Allowed() {
		return c.refuse(true, c.refused(d, err, st.an))
	}
	b, at := begin(c.msg[:0], 'Q')
	c.msg = finish(append(st.appendSQL(b, sql, c.lits), 0), at)
	s := c.marked(c.step(stepQuery, st, sc, d, now), st)
	if sc.Approves && s.change.kind == bySQL {
		s.change.text = string(sql)
	}
	c.keepTexts(s, st.an, sql, c.msg[headLen:len(c.msg)-1])
	return c.run(s, st, d)
}

// step describes a statement that is about to be bound or run, until the next.
func (c *conn) step(kind stepKind, st *statement, sc *policy.Scope, d policy.Decision, now time.Time) *step {
	an := st.an
	s := &c.current
	*s = step{
		kind: kind, statement: true, number: c.number, record: d.Record(), started: now,
		sanitize: an.Sanitize, rewritten: an.SQL != "", guard: protects(sc), analyzer: c.analyzer, event: c.pol.Event,
	}
	if kind == stepBind {
		return s // it does not run yet
	}
	s.copies, s.left = st.copies, d.Allowance()
	s.shows(an)
	s.search = searches(sc, an)
	s.commits = mayEnd(an.Commands)
	s.ends = kind == stepExecute && s.commits
	if s.left != nil {
		c.counted(s, an)
	}
	if an.Prepares != nil || an.Declares != nil || an.Deallocates != nil || an.Closes != nil {
		s.change = change{kind: bySQL, sql: st, who: c.s.Principal(), from: c.opens(s, an), cover: d.Under()}
	}
	return s
}

// run sends c.msg, the message of a statement that was decided.
func (c *conn) run(s *step, st *statement, d policy.Decision) error {
	c.latest = d
	c.ddl.note(st.an)
	s.defines = st.defines
	c.input = inputRecord{number: c.number, record: d.Record()}
	err := c.push(s, d, c.msg)
	if err == nil && s.left != nil && !s.copies {
		err = c.limited(s)
	}
	if c.unjustifies(st) {
		c.unjustify()
	}
	if c.s.Speaks() && st.resets() {
		c.silence()
	}
	return err
}

// functionCall decides a FunctionCall: nothing is known of what it does.
func (c *conn) functionCall(body []byte) error {
	now := time.Now()
	c.number++
	if c.explain {
		return c.refuseOpaque(true, codeUnsupported, "a function call by number can't be explained, and sallyport.explain is on", "Call the function in a statement.", nil, nil)
	}
	sc := c.scope()
	c.req = policy.Request{
		Kind: policy.FunctionCall, Now: now, Number: c.number, Commands: []string{"function_call"}, Writes: true,
		Opaque: "a function call by number is not understood", Remedy: "call the function in a statement",
	}
	d, err := c.s.Decide(c.ctx, &c.req)
	if !d.Allowed() {
		return c.refuse(true, c.refused(d, err, opaque))
	}
	if err := c.record(d.Record(), now, []byte("function call"), body); err != nil {
		return err
	}
	b, at := begin(c.msg[:0], 'F')
	c.msg = finish(append(b, body...), at)
	c.latest = d
	c.ddl.open, c.ddl.unread, c.ddl.by = true, true, "" // it may do anything
	return c.push(&step{
		kind: stepFunction, statement: true, number: c.number, record: d.Record(), started: now,
		sanitize: true, guard: protects(sc), analyzer: c.analyzer, event: c.pol.Event, defines: true,
	}, d, c.msg)
}
