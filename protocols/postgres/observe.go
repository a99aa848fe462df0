package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/postgres/token"
	"sallyport.dev/sallyport/protocols/wire"
)

// observer reads what a client sends and tells what would have been decided.
// It has no door to the server and sees no answer, so a name means what it
// would mean if everything had succeeded.
type observer struct {
	conn
	w *protocols.Watch
}

var errEncrypted = errors.New("it is encrypted between client and server")

// Observe implements protocols.Observer.
func (p *Protocol) Observe(ctx context.Context, w *protocols.Watch, client io.Reader) error {
	o := &observer{conn: conn{p: p, pol: w.Policy(), ctx: ctx}, w: w}
	o.queue.init()
	defer func() {
		if o.release != nil {
			o.release()
		}
	}()
	ear := &ear{r: client, fresh: true}
	g := greeting{conn: ear}
	if err := g.read(ctx); err != nil {
		switch {
		case ear.tls:
			return errEncrypted
		case errors.Is(err, io.EOF):
			return nil // a probe
		}
		return err
	}
	if g.cancel != nil {
		return nil
	}
	if err := o.login(&g); err != nil {
		return err
	}
	o.client = wire.NewReader(client)
	defer o.client.Release()
	return o.listen()
}

// ear lets a greeting be read where nobody can answer it: the server does.
type ear struct {
	net.Conn // nil: nothing else of it is used
	r        io.Reader
	fresh    bool // the next byte begins a message of the greeting
	tls      bool // it began a TLS record instead
}

func (e *ear) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if e.fresh && n > 0 {
		e.fresh, e.tls = false, b[0] == 0x16 // handshake, RFC 8446, 5.1
	}
	return n, err
}

func (e *ear) Write(b []byte) (int, error) {
	e.fresh = true
	return len(b), nil
}

func (o *observer) login(g *greeting) error {
	p := o.pol
	p.User, p.Database, p.Application = g.get("user"), g.get("database"), g.get(applicationName)
	if p.Database == "" {
		p.Database = p.User
	}
	p.Event.User, p.Event.Database, p.Event.Application = p.User, p.Database, p.Application
	o.req = loginRequest(g, o.w.Scope())
	_, err := o.w.Observe(o.ctx, &o.req)
	return err
}

// listen walks the client's messages.
func (o *observer) listen() error {
	for {
		w := o.client.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return err
		case ok && (n > maxMessage || typ == 'd'):
			err = o.pass(typ, n)
		case ok && len(w) >= n:
			o.client.Advance(n)
			err = o.message(typ, w[headLen:n])
		default:
			o.msg, o.key = thrift(o.msg), thrift(o.key)
			if err = o.client.Fill(); errors.Is(err, io.EOF) {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// pass passes over a message that is data, or too large to be looked at.
func (o *observer) pass(typ byte, n int) error {
	if typ != 'd' {
		if err := o.opaque(fmt.Sprintf("a message of %d bytes is larger than what is analysed (%d)", n, maxMessage), nil, nil); err != nil {
			return err
		}
	}
	for n > 0 {
		k := min(n, len(o.client.Window()))
		o.client.Advance(k)
		if n -= k; n > 0 {
			if err := o.client.Fill(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *observer) message(typ byte, body []byte) error {
	switch typ {
	case 'Q':
		sql, ok := text(body)
		if !ok {
			return malformed(typ)
		}
		sql = o.heard(sql)
		st, sc, err := o.understand(sql, true, nil)
		if err != nil {
			return o.opaque(unanalysed(err), sql, nil)
		}
		return o.statement(st, sc, sql, nil)
	case 'P':
		return o.parse(body)
	case 'B':
		return o.bind(body)
	case 'C':
		if kind, name, ok := kindAndName(body); ok && kind == 'S' {
			o.queue.names.statements.set(string(name), nil)
		}
	case 'F':
		o.number++
		o.req = policy.Request{
			Kind: policy.FunctionCall, Now: time.Now(), Number: o.number, Commands: []string{"function_call"}, Writes: true,
			Opaque: "a function call by number is not understood",
		}
		_, err := o.w.Observe(o.ctx, &o.req)
		return err
	case 'X', 'S', 'H', 'D', 'E', 'c', 'f', 'p': // a password is not looked at
	default:
		return fmt.Errorf("postgres: a message of type %q is not of this protocol", typ)
	}
	return nil
}

// heard is what is looked at of a text that says for whom the next statements
// are. Nothing is decided here for anybody, but its token is for no record.
func (o *observer) heard(sql []byte) []byte {
	if s, ok := saying(sql); ok {
		return bytesOf(s.text)
	}
	if o.pol.Identity.SpeaksFor && mentions(sql) {
		return bytesOf(saysSet)
	}
	return sql
}

// understand analyses a text under what would be protected at this moment.
func (o *observer) understand(sql []byte, simple bool, types []uint32) (*statement, *policy.Scope, error) {
	sc := o.w.Scope()
	if o.ddl.open && o.analyzer != nil {
		if err := o.analyzer.Refresh(o.ctx); err != nil {
			return nil, sc, err
		}
	}
	o.ddl = ddl{}
	st, err := o.analyze(sql, sc, simple, types)
	return st, sc, err
}

// statement tells of a statement, and takes it for done.
func (o *observer) statement(st *statement, sc *policy.Scope, sql, binds []byte) error {
	o.number++
	an := st.an
	o.req = policy.Request{
		Kind: policy.StatementReq, Scope: sc, Now: time.Now(), Number: o.number, Text: unsafeString(sql),
		Normalized: st.normalized, Fingerprint: st.fingerprint, Literals: o.digests,
	}
	describe(&o.req, an)
	rec, err := o.w.Observe(o.ctx, &o.req)
	o.req.Text = "" // borrowed
	if err != nil {
		return err
	}
	o.ddl.open = an.DDL
	if !o.queue.names.crowded() {
		o.queue.names.apply(&change{sql: st})
	}
	return o.transcript(rec, sql, binds)
}

// opaque tells of what is not understood.
func (o *observer) opaque(why string, sql, binds []byte) error {
	o.number++
	norm, _ := token.Normalize(nil, unsafeString(sql), nil)
	o.req = policy.Request{
		Kind: policy.StatementReq, Now: time.Now(), Number: o.number, Commands: []string{"unknown"},
		Normalized: string(norm), Fingerprint: token.Fingerprint(norm), Opaque: why, Writes: true,
	}
	rec, err := o.w.Observe(o.ctx, &o.req)
	if err != nil {
		return err
	}
	return o.transcript(rec, sql, binds)
}

func unanalysed(err error) string {
	var set *unsafeSetting
	if errors.As(err, &set) {
		return set.why
	}
	return "the statement could not be analysed"
}

func (o *observer) transcript(r policy.Recording, sql, binds []byte) error {
	if r.Level == policy.RecordEvents {
		return nil
	}
	if o.pol.Identity.SpeaksFor {
		sql, binds = withoutTokens(sql), withoutTokens(binds)
	}
	o.chunk = events.Chunk{Number: o.number, Kind: events.ChunkStatement, Time: time.Now(), Data: sql, Later: true}
	if err := o.w.Record(&o.chunk); err != nil {
		return unrecorded(err)
	}
	if len(binds) == 0 {
		return nil
	}
	o.chunk.Kind, o.chunk.Data = events.ChunkBinds, binds
	if err := o.w.Record(&o.chunk); err != nil {
		return unrecorded(err)
	}
	return nil
}

// parse keeps a prepared statement's text: its analysis is of the moment in
// which it is bound.
func (o *observer) parse(body []byte) error {
	m := cursor{b: body}
	name, sql := m.str(), m.str()
	n := m.count()
	if m.bad || len(m.b) != 4*n {
		return malformed('P')
	}
	var types []uint32
	for range n {
		types = append(types, uint32(m.int32()))
	}
	if o.queue.names.crowded() {
		return errors.New("postgres: too many prepared statements")
	}
	sql = o.heard(sql)
	p := &prepared{name: string(name), sql: string(sql), types: types, st: &statement{an: &query.Analysis{}}}
	if st, _, err := o.understand(sql, false, types); err == nil {
		p.st = st
	}
	o.queue.names.statements.set(p.name, p)
	return nil
}

// bind tells of a statement with its parameters, executed or not.
func (o *observer) bind(body []byte) error {
	m := cursor{b: body}
	m.str()
	sname := m.str()
	m.take(2 * m.count())
	var digests []events.Digest
	n := m.count()
	for range n {
		var v []byte
		if size := m.int32(); size >= 0 {
			v = m.take(int(size))
		} else if size != -1 {
			m.bad = true
		}
		if !m.bad && len(digests) <= maxDigests {
			digests = append(digests, o.p.o.Digest(v))
		}
	}
	m.take(2 * m.count())
	if !m.end() {
		return malformed('B')
	}
	p := o.statementNamed(sname)
	if p == nil || p.sql == "" && p.name != "" {
		// Of SQL's PREPARE the text is not known, of others nothing.
		return o.opaque("a prepared statement whose text was not seen", nil, body)
	}
	sql := []byte(p.sql)
	st, sc, err := o.understand(sql, false, p.types)
	if err != nil {
		return o.opaque(unanalysed(err), sql, body)
	}
	o.digests = append(o.digests, digests...)
	return o.statement(st, sc, sql, body)
}

var _ protocols.Observer = (*Protocol)(nil)
