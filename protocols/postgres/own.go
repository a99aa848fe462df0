package postgres

import (
	"time"

	"sallyport.dev/sallyport/policy"
)

// A setting of the passage's own (sallyport.principal, sallyport.justification,
// sallyport.explain) is set at the server too, by the client's own text, and holds
// here once that is executed.

// decideOwn decides the text c.number of such a setting; r is why it is refused.
func (c *conn) decideOwn(st *statement, sc *policy.Scope, text string, now time.Time) (d policy.Decision, r *refusal, err error) {
	d, derr := c.decide(policy.StatementReq, st, sc, bytesOf(text), nil, 0, now)
	if derr == nil {
		err = c.record(d.Record(), now, bytesOf(text), nil)
	}
	if !d.Allowed() {
		r = c.refused(d, derr, st.an)
	}
	return d, r, err
}

// queryOwn makes c.msg a Query of the text.
func (c *conn) queryOwn(text string) {
	b, at := begin(c.msg[:0], 'Q')
	c.msg = finish(appendString(b, text), at)
}

// executeOwn makes c.msg the client's Execute.
func (c *conn) executeOwn(body []byte) {
	b, at := begin(c.msg[:0], 'E')
	c.msg = finish(append(b, body...), at)
}

// parseOwn prepares the text. rest is of the client's message, behind it.
func (c *conn) parseOwn(p *prepared, v voice, rest []byte) error {
	b, at := begin(c.msg[:0], 'P')
	b = appendString(appendString(b, p.name), p.sent)
	c.msg = finish(append(b, rest...), at)
	return c.push(&step{kind: stepParse, voice: v, change: change{kind: ofStatement, name: p.name, stmt: p}}, c.login, c.msg)
}

// bindOwn binds it.
func (c *conn) bindOwn(p *prepared, port *portal, v voice, name, body []byte) error {
	port.name, port.stmt, port.st, port.who = string(name), p, p.st, c.s.Principal()
	b, at := begin(c.msg[:0], 'B')
	c.msg = finish(append(b, body...), at)
	return c.push(&step{kind: stepBind, voice: v, change: change{kind: ofPortal, name: port.name, port: port}}, c.login, c.msg)
}
