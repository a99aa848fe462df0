package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"
	"unsafe"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// unsafeSetting: a setting of the session makes texts mean something else than
// they are analysed to mean.
type unsafeSetting struct{ why, remedy string }

func (e *unsafeSetting) Error() string { return "postgres: " + e.why }

// understood reports whether texts mean what they are analysed to mean.
func (c *conn) understood() error {
	if p := c.unsafe.Load(); p != nil {
		return p
	}
	return nil
}

// analyze returns what is known of a text: from the cache, by its shape or as
// it is, or by analysing it. c.lits and c.digests then hold its literals.
func (c *conn) analyze(sql []byte, sc *policy.Scope, simple bool, types []uint32) (*statement, error) {
	c.unnoted.note(sc)
	version := uint64(0)
	if !sc.Opaque {
		if err := c.understood(); err != nil {
			return nil, err
		}
		if err := c.analysis(sc.ID); err != nil {
			return nil, err
		}
		version = c.analyzer.Version()
	}
	c.key = c.key[:0]
	c.key = binary.BigEndian.AppendUint64(c.key, version)
	c.key = append(binary.BigEndian.AppendUint32(c.key, uint32(len(sc.ID))), sc.ID...)
	c.key = append(c.key, b2i(simple)|b2i(sc.Opaque)<<1|b2i(c.p.keys() != nil)<<2|b2i(c.p.subjectKey() != nil)<<3, byte(len(types)), byte(len(types)>>8))
	for _, t := range types {
		c.key = binary.BigEndian.AppendUint32(c.key, t)
	}
	prefix := len(c.key)
	var ok bool
	c.key, c.lits, ok = shape(append(c.key, 'S'), sql, c.lits[:0])
	if ok {
		st := c.p.cache.get(c.key)
		if st == nil {
			var err error
			if st, err = c.analyzeShape(sql, sc, version, simple, types); err != nil {
				return nil, err
			}
		}
		if !st.exact {
			c.digestLiterals(sql)
			return st, nil
		}
	}
	c.key = append(append(c.key[:prefix], 'X'), sql...)
	st := c.p.cache.get(c.key)
	if st == nil {
		var err error
		if st, err = c.analyzeText(sql, string(sql), sc, simple, types); err != nil {
			return nil, err
		}
		c.keep(st, sc, version)
	}
	_, lits := token.Normalize(c.msg[:0], unsafeString(sql), nil)
	c.lits = c.lits[:0]
	for _, l := range lits[:min(len(lits), maxDigests+1)] {
		c.lits = append(c.lits, span{start: l.Start, end: l.End})
	}
	c.digestLiterals(sql)
	return st, nil
}

func b2i(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// keep puts an analysis into the cache under c.key, unless it is of this
// session, of another catalog than the key says, or of a scope without a name.
func (c *conn) keep(st *statement, sc *policy.Scope, version uint64) {
	if !st.an.Local && st.an.Version == version && sc.ID != "" {
		c.p.cache.put(c.key, st)
	}
}

// analyzeShape analyses the shape whose key is c.key. What depends on the
// literals after all is marked exact.
func (c *conn) analyzeShape(sql []byte, sc *policy.Scope, version uint64, simple bool, types []uint32) (*statement, error) {
	st, err := c.analyzeText(sql, string(canonical(sql, c.lits)), sc, simple, types)
	if err != nil {
		return nil, err
	}
	an := st.an
	exact := an.Opaque != "" || an.ByValue || an.Local
	if !exact && an.SQL != "" {
		var ok bool
		if st.pieces, ok = template(an.SQL, sql, c.lits); !ok {
			exact = true
		}
	}
	if exact {
		st = &statement{exact: true, an: &query.Analysis{Version: version}}
	}
	c.keep(st, sc, version)
	return st, nil
}

// analyzeText analyses a text that stands for what the client sent.
func (c *conn) analyzeText(sql []byte, text string, sc *policy.Scope, simple bool, types []uint32) (*statement, error) {
	norm, _ := token.Normalize(nil, unsafeString(sql), nil)
	st := &statement{normalized: string(norm), fingerprint: token.Fingerprint(norm)}
	if sc.Opaque {
		st.an = relayed(norm, sql, sc)
		st.copies = slices.Contains(st.an.Commands, "copy")
		st.defines = mayDefine(norm, st.an.Commands)
		return st, nil
	}
	var err error
	st.an, err = c.analyzer.Analyze(c.ctx, query.Input{
		SQL: text, Scope: sc, Simple: simple, ParamTypes: types, Masks: c.p.keys() != nil, Subjects: c.p.subjectKey() != nil,
		Prepared: c.preparedAnalysis, Cursor: c.cursorAnalysis,
	})
	st.copies = err == nil && slices.Contains(st.an.Commands, "copy_from")
	st.defines = err == nil && st.an.DDL
	return st, err
}

// preparedAnalysis and cursorAnalysis are the session's names for an analysis;
// what is under way is waited for first.
func (c *conn) preparedAnalysis(name string) *query.Analysis {
	if c.would.asked {
		return c.would.prepared[name]
	}
	p := c.statementNamed([]byte(name))
	if p == nil {
		return nil
	}
	if p.says != nil { // it says so by the protocol's Execute only
		c.silence()
		return nil
	}
	if p.switches != nil || p.explained && !c.explain { // the server has something else
		return nil
	}
	c.named = append(c.named, p)
	return p.st.an
}

func (c *conn) cursorAnalysis(name string) *query.Analysis {
	if c.would.asked {
		return c.would.cursors[name]
	}
	p := c.portalNamed([]byte(name))
	if p == nil || c.ofAnother(p) {
		return nil
	}
	if p.stmt != nil && !planned(p.st.an) {
		return &query.Analysis{
			ScopeID: p.st.an.ScopeID,
			Opaque:  "it is bound to what is looked up, or planned, when its first row is taken",
			Remedy:  "execute it with an Execute message",
		}
	}
	c.fetched = append(c.fetched, p)
	return p.st.an
}

// planned reports that a portal has the plan it was bound with: what it does is what
// was analysed then. The server runs all other commands as it finds things at the
// first row (PORTAL_UTIL_SELECT in pquery.c), EXECUTE and FETCH by what their names
// stand for then.
func planned(an *query.Analysis) bool {
	if an.Local || len(an.Commands) == 0 {
		return false
	}
	switch an.Commands[0] {
	case "select", "insert", "update", "delete", "merge":
		return true
	}
	return false
}

// maxDigests bounds the literals that an event tells of.
const maxDigests = 256

func (c *conn) digestLiterals(sql []byte) {
	c.digests = c.digests[:0]
	for _, l := range c.lits[:min(len(c.lits), maxDigests+1)] {
		c.digests = append(c.digests, c.p.o.Digest(literalValue(sql[l.start:l.end])))
	}
}

// literalValue is a literal without its quotes, so that it has the digest of a
// bound parameter of the same value.
func literalValue(lit []byte) []byte {
	n := len(lit)
	if n < 2 || lit[0] != '\'' || lit[n-1] != '\'' {
		return lit
	}
	lit = lit[1 : n-1]
	for i, b := range lit {
		if b == '\'' { // doubled quotes: rare enough to copy
			out := append([]byte(nil), lit[:i]...)
			for ; i < len(lit); i++ {
				out = append(out, lit[i])
				if lit[i] == '\'' {
					i++
				}
			}
			return out
		}
	}
	return lit
}

// decide asks for a decision on a statement: text is the client's own, and lookups
// are those that this run of it is the first to have.
func (c *conn) decide(kind policy.RequestKind, st *statement, sc *policy.Scope, text []byte, digests []events.Digest, lookups int64, now time.Time) (policy.Decision, error) {
	c.req = policy.Request{
		Kind: kind, Scope: sc, Now: now, Number: c.number, Text: unsafeString(text),
		Normalized: st.normalized, Fingerprint: st.fingerprint, Literals: digests,
		Would: c.would.take(),
	}
	describe(&c.req, st.an)
	c.req.Lookups = lookups
	c.mayAsk(sc, st)
	c.wording.text = text
	d, err := c.s.Decide(c.ctx, &c.req)
	if sc.Approves {
		c.early.Store(earlyNone)
	}
	c.req.Text, c.wording, c.under = "", wording{}, nil // borrowed
	return d, err
}

// describe says in a request what a statement does, as it may stand on the record.
func describe(r *policy.Request, an *query.Analysis) {
	an.Describe(r)
	r.Opaque = recordable(an)
}

// recordable is why a text is not understood, for the record. What the grammar
// says of a text quotes it, and is for the client only.
func recordable(an *query.Analysis) string {
	switch an.Code {
	case "":
		return an.Opaque
	case query.NoTable, query.NoFunction, query.NoType, query.NoStatement, query.NoCursor:
		return "something that it names does not exist"
	}
	return "the server's grammar refuses it"
}

// refuseOpaque refuses, and records, what is not understood or could not be
// looked at. sql and binds are what the client sent, nil where that is too much.
func (c *conn) refuseOpaque(simple bool, code, why, remedy string, sql, binds []byte) error {
	now := time.Now()
	norm, _ := token.Normalize(nil, unsafeString(sql), nil)
	c.req = policy.Request{
		Kind: policy.StatementReq, Now: now, Number: c.number, Commands: []string{"unknown"},
		Normalized: string(norm), Fingerprint: token.Fingerprint(norm), Opaque: why, Remedy: remedy, Writes: true,
	}
	d, err := c.s.Decide(c.ctx, &c.req)
	r := c.refused(d, err, opaque)
	if err == nil {
		if sql != nil {
			if err := c.record(d.Record(), now, sql, binds); err != nil {
				return err
			}
		}
		if d.Allowed() || slices.Contains(d.Rules(), "opaque") {
			// Where only an unconditional allow can match it is refused for want
			// of understanding all the same, which its outcome tells.
			r.code, r.message, r.hint, r.rules, r.fails = code, "sallyport: refused: "+why, remedy, nil, d.Allowed()
		}
	}
	return c.refuse(simple, r)
}

// Why what is in a transaction can't be told that is not READ COMMITTED.
const (
	unseenReason = "another session has changed the catalog since this transaction began, which has changed it too"
	unseenRemedy = "Roll back and begin again, or begin with ISOLATION LEVEL READ COMMITTED."
)

// refuseUnanalysed refuses a statement whose analysis failed.
func (c *conn) refuseUnanalysed(simple bool, cause error, sql, binds []byte) error {
	var end *ending
	var set *unsafeSetting
	switch {
	case errors.Is(cause, query.ErrUnseen):
		return c.refuseOpaque(simple, codeUnsupported, unseenReason, unseenRemedy, sql, binds)
	case errors.As(cause, &end), c.ctx.Err() != nil, errors.Is(cause, context.Canceled):
		return cause
	case errors.As(cause, &set):
		return c.refuseOpaque(simple, codeUnsupported, set.why, set.remedy, sql, binds)
	}
	return c.refuseOpaque(simple, codeUnavailable, "the statement could not be analysed",
		"Try again; if it stays, ask the administrator of this host whether sallyport can read the database's catalog.", sql, binds)
}

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf views a string as bytes, to be read only.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
