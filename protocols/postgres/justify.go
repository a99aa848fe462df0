package postgres

import (
	"bytes"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// A client says why it needs to see what is masked from it, by setting
// sallyport.justification. Rules that reveal ask for one; see policy.Session.
// The server is sent a setting of the same kind without the words, so that
// whether it may be set just now is the server's own to say.

const (
	justifySetting = "sallyport.justification"
	// maxJustification is in bytes.
	maxJustification = 500
)

// justifying is a text that says why.
type justifying struct {
	why   string // "": no more
	local bool   // for the transaction
	text  string // what the server is sent
}

// justifies reads
//
//	SET [ SESSION | LOCAL ] sallyport.justification { = | TO } { 'text' | DEFAULT }
//	RESET sallyport.justification
//
// with a quote in the text doubled, and no other form: what names the setting in
// another one is a SET that is not understood.
func justifies(sql []byte) (j justifying, ok bool) {
	w := words{bytes.TrimRight(sql, " \t\r\n")}
	w.b = bytes.TrimRight(bytes.TrimSuffix(w.b, []byte(";")), " \t\r\n")
	if w.word("reset") {
		j.text = "RESET " + justifySetting
		return j, w.word(justifySetting) && len(w.b) == 0
	}
	if !w.word("set") {
		return j, false
	}
	j.text = "SET "
	if w.word("local") {
		j.local, j.text = true, "SET LOCAL "
	} else {
		w.word("session")
	}
	if !w.word(justifySetting) || !w.char('=') && !w.word("to") {
		return j, false
	}
	j.text += justifySetting
	if w.word("default") {
		j.text += " TO DEFAULT"
		return j, len(w.b) == 0
	}
	if !w.char('\'') || len(w.b) == 0 || w.b[len(w.b)-1] != '\'' {
		return j, false
	}
	body := w.b[:len(w.b)-1]
	for i := 0; i < len(body); i++ {
		if body[i] == '\'' {
			if i++; i == len(body) || body[i] != '\'' {
				return j, false
			}
		}
	}
	j.why = string(bytes.TrimSpace(bytes.ReplaceAll(body, []byte("''"), []byte("'"))))
	j.text += " = 'given'"
	if j.why == "" {
		j.text = j.text[:len(j.text)-len("'given'")] + "''"
	}
	return j, true
}

// unfit is why words are no justification, "" if they are one, or none.
func (j *justifying) unfit() string {
	switch {
	case len(j.why) > maxJustification:
		return "a justification has at most 500 bytes"
	case !utf8.ValidString(j.why) || bytes.IndexFunc(bytesOf(j.why), unicode.IsControl) >= 0:
		return "a justification is text without control characters"
	}
	return ""
}

// statement is its analysis. It is of one use: its verdict is not kept.
func (j *justifying) statement(sc *policy.Scope) *statement {
	norm, _ := token.Normalize(nil, j.text, nil)
	an := &query.Analysis{Commands: []string{token.Command(norm)}, ScopeID: sc.ID}
	return &statement{an: an, normalized: string(norm), fingerprint: token.Fingerprint(norm)}
}

// unjustify has nothing that follows be justified.
func (c *conn) unjustify() {
	c.pol.Justify("")
	c.queue.unjustify()
}

// unjustifies reports that nobody can tell what a text leaves of a justification: it
// has several statements, of which one ends what it was given for, or is not known.
func (c *conn) unjustifies(st *statement) bool {
	if c.pol.Justification() == "" {
		return false
	}
	several := len(st.an.Commands) > 1
	for _, cmd := range st.an.Commands {
		switch cmd {
		case "unknown", "call", "do":
			return true
		case "rollback":
			if several {
				return true
			}
		}
	}
	return several && (st.resets() || c.queue.ownSettings().whyOpen && mayEnd(st.an.Commands))
}

// justifyNow decides a text that says why.
func (c *conn) justifyNow(j *justifying, now time.Time) (st *statement, d policy.Decision, r *refusal, err error) {
	c.number++
	c.pol.Justify("") // its own record is not justified by what was said before
	sc := c.scope()
	st = j.statement(sc)
	if d, r, err = c.decideOwn(st, sc, j.text, now); r != nil {
		c.unjustify()
	}
	return st, d, r, err
}

// refuseJustification refuses words that are no justification.
func (c *conn) refuseJustification(simple bool, why string) error {
	c.unjustify()
	c.number++
	return c.refuseOpaque(simple, codeUnsupported, why, "Say in a sentence what it is needed for.", nil, nil)
}

// simpleJustify answers a Query that says why.
func (c *conn) simpleJustify(j *justifying) error {
	if why := j.unfit(); why != "" {
		return c.refuseJustification(true, why)
	}
	now := time.Now()
	st, d, r, err := c.justifyNow(j, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(true, r)
	}
	c.queryOwn(j.text)
	return c.sendJustify(stepQuery, j, st, d, now)
}

// sendJustify sends c.msg, which sets it at the server.
func (c *conn) sendJustify(kind stepKind, j *justifying, st *statement, d policy.Decision, now time.Time) error {
	step := c.step(kind, st, c.scope(), d, now)
	step.mark = mark{kind: markSet, why: setTo[string]{to: j.why, local: j.local, is: true}}
	c.switched = true
	return c.run(step, st, d)
}

// parseJustify prepares such a text. It is decided when it is executed.
func (c *conn) parseJustify(j justifying, name []byte, types []uint32, rest []byte) error {
	if why := j.unfit(); why != "" {
		return c.refuseJustification(false, why)
	}
	p := &prepared{name: string(name), sql: j.text, sent: j.text, types: types, st: j.statement(c.scope()), justifies: &j}
	return c.parseOwn(p, voiceNone, rest)
}

// executeJustify executes it.
func (c *conn) executeJustify(j *justifying, body []byte) error {
	now := time.Now()
	st, d, r, err := c.justifyNow(j, now)
	if err != nil {
		return err
	}
	if r != nil {
		return c.refuse(false, r)
	}
	c.executeOwn(body)
	return c.sendJustify(stepExecute, j, st, d, now)
}
