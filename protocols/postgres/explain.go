package postgres

import (
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
)

// mode notes whether the next message's statement is explained, and what it is
// justified by: what may change that is waited for.
func (c *conn) mode() error {
	if !c.switched {
		return nil
	}
	o := c.queue.ownSettings()
	if o.unsettled {
		if err := c.barrier(); err != nil {
			return err
		}
		o = c.queue.ownSettings()
	}
	c.explain = o.explain
	c.pol.Justify(o.why)
	c.switched = o.explain || o.explainOpen || o.why != "" || o.whyOpen
	return nil
}

// explains reports whether a statement is explained, in place of being run.
func (c *conn) explains(st *statement) bool {
	if !c.explain {
		return false
	}
	_, runs := markOf(st)
	return !runs
}

// marked notes what a statement that runs does to the mode.
func (c *conn) marked(s *step, st *statement) *step {
	if c.switched {
		s.mark, _ = markOf(st)
	}
	return s
}

// strays reports that a text of several statements may change the mode in its
// middle, or a savepoint to which it goes back.
func (c *conn) strays(st *statement) bool {
	if !c.switched || len(st.an.Commands) < 2 {
		return false
	}
	return c.queue.ownSettings().explainOpen && slices.ContainsFunc(st.an.Commands, func(cmd string) bool { return turning[cmd] })
}

// turning are the commands that may.
var turning = map[string]bool{
	"begin": true, "start": true, "commit": true, "end": true, "rollback": true, "abort": true, "savepoint": true, "release": true,
	"transaction": true, "prepare_transaction": true, "prepare": true, "call": true, "do": true, "discard": true, "reset": true, "unknown": true,
}

// ask asks what would be decided about a statement, c.number: sql is the client's
// text, binds the body of its Bind.
func (c *conn) ask(st *statement, sc *policy.Scope, sql, binds []byte, now time.Time) (*answered, policy.Recording, error) {
	c.req = policy.Request{
		Kind: policy.StatementReq, Scope: sc, Now: now, Number: c.number, Text: unsafeString(sql),
		Normalized: st.normalized, Fingerprint: st.fingerprint, Literals: c.digests,
	}
	describe(&c.req, st.an)
	c.req.Memo = nil // a question leaves nothing that a statement goes by
	x, err := c.s.Explain(c.ctx, &c.req)
	c.req.Text = "" // borrowed
	if err != nil {
		return nil, policy.Recording{}, err
	}
	return c.explained(&x, st, sc), x.Record, c.record(x.Record, now, sql, binds)
}

// carries describes a carrier that is about to be sent.
func (c *conn) carries(kind stepKind, number uint64, rec policy.Recording, now time.Time) *step {
	s := &c.current
	*s = step{kind: kind, statement: number > 0, number: number, record: rec, started: now, rewritten: true, event: c.pol.Event}
	return s
}

// unasked answers when the question could not be put on the record.
func (c *conn) unasked(simple bool, err error) error {
	return c.refuse(simple, c.refused(policy.Decision{}, err, plain))
}

// explainQuery answers a Query.
func (c *conn) explainQuery(st *statement, sc *policy.Scope, sql []byte, now time.Time) error {
	a, rec, err := c.ask(st, sc, sql, nil, now)
	if a == nil {
		return c.unasked(true, err)
	} else if err != nil {
		return err
	}
	b, at := begin(c.msg[:0], 'Q')
	c.msg = finish(append(a.appendSQL(b), 0), at)
	return c.push(c.carries(stepQuery, c.number, rec, now), c.login, c.msg)
}

// explainParse prepares a carrier under the statement's name.
func (c *conn) explainParse(name, sql []byte, types []uint32, st *statement) error {
	p := &prepared{name: string(name), sql: string(sql), types: types, st: st, explained: true, params: paramTypes(types, sql)}
	b, at := begin(c.msg[:0], 'P')
	b = appendString(append(append(b, name...), 0), carrier)
	c.msg = finish(append(b, 0, 0), at)
	return c.push(&step{kind: stepParse, rewritten: true, change: change{kind: ofStatement, name: p.name, stmt: p}}, c.login, c.msg)
}

// explainBind binds a carrier to the answer. formats are the client's, of the
// result's columns.
func (c *conn) explainBind(p *prepared, port *portal, pname, body, formats []byte) error {
	now, sc := time.Now(), c.scope()
	c.number++
	st, err := c.analyze([]byte(p.sql), sc, false, p.types)
	if err != nil {
		return c.refuseUnanalysed(false, err, []byte(p.sql), body)
	}
	c.digests = append(c.digests, port.digests...)
	a, rec, err := c.ask(st, sc, bytesOf(p.sql), body, now)
	if a == nil {
		return c.unasked(false, err)
	} else if err != nil {
		return err
	}
	port.name, port.stmt, port.st = string(pname), p, carried
	port.number, port.started, port.who, port.record = c.number, now, c.s.Principal(), rec
	b, at := begin(c.msg[:0], 'B')
	c.msg = finish(a.appendBind(b, port.name, p.name, formats), at)
	s := c.carries(stepBind, c.number, rec, now)
	s.change = change{kind: ofPortal, name: port.name, port: port}
	return c.push(s, c.login, c.msg)
}

// explainExecute shows the answer. Whoever has it shown again learns nothing new.
func (c *conn) explainExecute(p *portal, body []byte) error {
	b, at := begin(c.msg[:0], 'E')
	c.msg = finish(append(b, body...), at)
	s := c.carries(stepExecute, p.number, p.record, p.started)
	p.number = 0
	return c.push(s, c.login, c.msg)
}

// refuseMode refuses what was prepared or bound while statements were explained,
// and now are not, or the other way round: its answer would be of another form.
func (c *conn) refuseMode(p *prepared, binds []byte) error {
	c.number++
	var sql []byte
	if p != nil {
		sql = bytesOf(p.sql)
	}
	return c.refuseOpaque(false, codeNoStatement, "sallyport.explain has changed since it was prepared", "Prepare it again.", sql, binds)
}

// refuseSwitch refuses a text that names the setting in a form that is not
// understood: whoever sent it may believe that nothing of what follows is run.
func (c *conn) refuseSwitch(simple bool, sql []byte) error {
	c.number++
	return c.refuseOpaque(simple, codeUnsupported, "it names sallyport.explain in a form that is not understood",
		"Send SET sallyport.explain = on as a statement of its own, without comments and quoted names.", sql, nil)
}

// switchNow decides a text that changes the mode.
func (c *conn) switchNow(s *switching, now time.Time) (st *statement, d policy.Decision, r *refusal, err error) {
	c.number++
	sc := c.scope()
	st = s.statement(sc)
	d, r, err = c.decideOwn(st, sc, s.text, now)
	return st, d, r, err
}

// sendSwitch sends c.msg, which changes the setting at the server.
func (c *conn) sendSwitch(kind stepKind, s *switching, st *statement, d policy.Decision, now time.Time) error {
	step := c.step(kind, st, c.scope(), d, now)
	step.mark = mark{kind: markSet, explain: setTo[bool]{to: s.on, local: s.local, is: true}}
	c.switched = true
	return c.run(step, st, d)
}

// simpleSwitch answers a Query that changes the mode.
func (c *conn) simpleSwitch(s *switching) error {
	now := time.Now()
	st, d, r, err := c.switchNow(s, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(true, r)
	}
	c.queryOwn(s.text)
	return c.sendSwitch(stepQuery, s, st, d, now)
}

// parseSwitch prepares such a text. It is decided when it is executed.
func (c *conn) parseSwitch(s switching, name []byte, types []uint32, rest []byte) error {
	p := &prepared{name: string(name), sql: s.text, sent: s.text, types: types, st: s.statement(c.scope()), switches: &s}
	return c.parseOwn(p, voiceNone, rest)
}

// executeSwitch executes it.
func (c *conn) executeSwitch(s *switching, body []byte) error {
	now := time.Now()
	st, d, r, err := c.switchNow(s, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(false, r)
	}
	c.executeOwn(body)
	return c.sendSwitch(stepExecute, s, st, d, now)
}
