package postgres

import (
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// statement is a saying's analysis. It is of one use: its verdict is not kept.
func (s *says) statement(sc *policy.Scope) *statement {
	norm, _ := token.Normalize(nil, s.text, nil)
	an := &query.Analysis{Commands: []string{"set"}, ScopeID: sc.ID}
	if s.text == saysReset {
		an.Commands[0] = "reset"
	}
	return &statement{an: an, normalized: string(norm), fingerprint: token.Fingerprint(norm)}
}

// say decides a text that says for whom the next statements are, and has them be
// for that person, or for nobody if it is refused: r says why.
func (c *conn) say(s *says, now time.Time) (st *statement, d policy.Decision, r *refusal, err error) {
	c.number++
	why := ""
	switch {
	case !c.s.Speaks():
		why = protocols.ErrMute.Error()
	case s.token == nil:
	default:
		if err := c.s.Speak(c.ctx, s.token); err != nil {
			why = "the person that it acts for is not proved: " + err.Error()
		}
	}
	sc := c.scope()
	st = s.statement(sc)
	c.req = policy.Request{
		Kind: policy.StatementReq, Now: now, Number: c.number, Scope: sc, Commands: st.an.Commands, Text: s.text,
		Normalized: st.normalized, Fingerprint: st.fingerprint, Unproved: why,
	}
	if why != "" {
		c.req.Remedy = "set sallyport.principal to a valid token of theirs, in a workload that serves many people"
	}
	d, derr := c.s.Decide(c.ctx, &c.req)
	if derr == nil {
		err = c.record(d.Record(), now, bytesOf(s.text), nil)
	}
	if !d.Allowed() {
		r = c.refused(d, derr, st.an)
	}
	if r != nil {
		c.silence()
	}
	return st, d, r, err
}

// silence has what follows be for nobody but the workload.
func (c *conn) silence() {
	c.s.Silence()
	c.voiced = false
}

// settle holds who is spoken for against what became of the transaction in which
// that was said, before anything else is decided. What may have ended it is
// waited for.
func (c *conn) settle() error {
	if !c.voiced {
		return nil
	}
	over, open, turns := c.queue.heard()
	if turns && !over {
		if err := c.barrier(); err != nil {
			return err
		}
		over, open, _ = c.queue.heard()
	}
	if over {
		c.silence()
	} else if !open {
		c.voiced = false
	}
	return nil
}

// unsaid looks at a message that the server skips: one that would have said for
// whom the next statements are silences who was spoken for before.
func (c *conn) unsaid(typ byte, body []byte) {
	if !c.s.Speaks() {
		return
	}
	m := cursor{b: body}
	said := false
	switch typ {
	case 'Q':
		said = saysOrMentions(m.str())
	case 'P':
		m.str()
		said = saysOrMentions(m.str())
	case 'B':
		m.str()
		p := c.statementNamed(m.str())
		said = p != nil && p.says != nil
	case 'E':
		p := c.portalNamed(m.str())
		said = p != nil && p.stmt != nil && p.stmt.says != nil
	}
	if said {
		c.silence()
	}
}

// refuseMention refuses a text that names the setting in a form that is not
// understood. It may have a token in it: nothing of it is on the record.
func (c *conn) refuseMention(simple bool) error {
	c.silence()
	c.number++
	return c.refuseOpaque(simple, codeUnsupported, "it names sallyport.principal in a form that is not understood",
		"Send SET sallyport.principal = 'TOKEN' as a statement of its own, without comments and quoted names.",
		[]byte("a statement that names sallyport.principal"), nil)
}

// simpleSaying answers a Query that says for whom the next statements are.
func (c *conn) simpleSaying(s *says) error {
	now := time.Now()
	st, d, r, err := c.say(s, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(true, r)
	}
	c.queryOwn(s.text)
	return c.sendSaying(stepQuery, s, st, d, now)
}

// sendSaying sends c.msg, which says so at the server.
func (c *conn) sendSaying(kind stepKind, s *says, st *statement, d policy.Decision, now time.Time) error {
	step := c.step(kind, st, c.scope(), d, now)
	if s.token != nil {
		c.voiced, step.voice = true, voiceSession
		if s.local {
			step.voice = voiceTransaction
		}
	}
	err := c.run(step, st, d)
	if s.token == nil {
		c.silence() // its own record is of whom it was for until now
	}
	return err
}

// parseSaying prepares such a text. What it says holds once it is executed:
// until then there is nothing to decide. rest is of the message, behind the text.
func (c *conn) parseSaying(s *says, name []byte, types []uint32, rest []byte) error {
	if !c.s.Speaks() {
		_, _, r, err := c.say(s, time.Now())
		if err != nil {
			return err
		}
		return c.refuse(false, r)
	}
	own := *s
	own.token = slices.Clone(s.token)
	p := &prepared{name: string(name), sql: s.text, sent: s.text, types: types, st: s.statement(c.scope()), says: &own}
	c.voiced = true
	return c.parseOwn(p, voiceAhead, rest)
}

// bindSaying binds it.
func (c *conn) bindSaying(p *prepared, port *portal, name, body []byte) error {
	c.voiced = true
	return c.bindOwn(p, port, voiceAhead, name, body)
}

// executeSaying executes it.
func (c *conn) executeSaying(s *says, body []byte) error {
	now := time.Now()
	st, d, r, err := c.say(s, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(false, r)
	}
	c.executeOwn(body)
	return c.sendSaying(stepExecute, s, st, d, now)
}

// ofAnother reports that a portal was opened for another person than the next
// statements are for. What it will show was decided for them.
func (c *conn) ofAnother(p *portal) bool {
	return c.s != nil && p.who != c.s.Principal() && (p.stmt == nil || p.stmt.says == nil)
}

func (c *conn) refuseAnother(p *portal) error {
	c.number++
	var sql []byte
	if p.stmt != nil {
		sql = bytesOf(p.stmt.sql)
	}
	return c.refuseOpaque(false, codeIdentity, "it was opened for another person than this statement is for", "Open it again.", sql, p.binds)
}

// resets reports whether a text may reset all settings.
func (st *statement) resets() bool {
	text := bytesOf(st.normalized)
	return containsFold(text, "discard all") || containsFold(text, "reset all")
}

// outlives reports that a text of several statements ends what somebody is spoken
// for, and may go on: it is decided as one, for them.
func (c *conn) outlives(st *statement) bool {
	return c.s.Principal() != "" && len(st.an.Commands) > 1 && (st.resets() || c.voiced && mayEnd(st.an.Commands))
}
