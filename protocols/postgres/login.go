package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/query"
	"sallyport.dev/sallyport/protocols/wire"
)

// start decides the login and carries it out. Unless it is ready for
// statements the session is over, and err says why.
func (c *conn) start(g *greeting) (ready bool, err error) {
	if c.s.Asks() {
		if err := c.token(g); err != nil {
			return false, err
		}
	}
	c.describeClient(g)
	if a := c.s.Account(); a != nil && a.Agents != nil {
		if err := c.challenge(g.get("user"), a.Agents); err != nil {
			return false, err
		}
	}
	sc := c.scope()
	c.req = loginRequest(g, sc)
	d, err := c.s.Decide(c.ctx, &c.req)
	if err != nil || !d.Allowed() {
		return false, c.farewellEarly(c.refused(d, err, &query.Analysis{Opaque: c.req.Opaque}), err)
	}
	if !sc.Opaque {
		if err := c.analysis(sc.ID); err != nil {
			return false, c.farewellEarly(&refusal{
				code: codeUnavailable, message: "sallyport: the database's catalog cannot be read, so nothing can be allowed",
				hint: "Ask the administrator of this host to look at sallyport's log (resources.catalog).",
			}, fmt.Errorf("postgres: catalog: %w", err))
		}
	}
	c.login, c.minor = d, uint16(g.version)
	if err := c.s.Open(c.ctx, d); err != nil {
		if errors.Is(err, policy.ErrUnrecorded) {
			return false, c.farewellEarly(c.refused(policy.Decision{}, err, plain), err)
		}
		return false, unreachable(err)
	}
	if a := c.s.Account(); a != nil {
		return c.enter(g, a)
	}
	if err := c.s.Send(d, g.append(nil)); err != nil {
		return false, err
	}
	if err := c.flush(); err != nil {
		return false, err
	}
	_ = c.s.SetServerDeadline(time.Now().Add(startupTime))
	c.server = wire.NewReader(c.s.Server())
	c.client = wire.NewReader(c.s.Client())
	return c.welcome(false)
}

// unreachable is what a client hears when the server's door does not open.
func unreachable(err error) error {
	r := refusal{code: codeUnavailable, message: "sallyport: the server cannot be reached", hint: "Try again later."}
	if errors.Is(err, protocols.ErrUntrusted) {
		r.message = "sallyport: the server did not prove who it is, so nothing was sent to it"
		r.hint = "Ask the administrator of this host to look at sallyport's log (resources[].tls)."
	}
	return &ending{&r, gone("server", err)}
}

// loginRequest is what a greeting asks for, in a scope.
func loginRequest(g *greeting, sc *policy.Scope) policy.Request {
	r := policy.Request{Kind: policy.Login, Now: time.Now(), Commands: []string{"login"}}
	if v := g.get("replication"); v != "" && v != "false" && v != "off" && v != "no" && v != "0" {
		r.Kind, r.Commands = policy.Replication, []string{"replication"}
		r.Opaque = "a replication session is not understood"
	}
	if !sc.Opaque && r.Opaque == "" {
		settings, err := g.settings()
		if err == nil {
			err = allowed(settings)
		}
		if err != nil {
			r.Opaque = err.Error()
			r.Remedy = "connect without it, or have the administrator set it for the role or the database"
		}
	}
	return r
}

// describeClient notes what the client says of itself, and puts the session's
// id into the name that the server's log shows.
func (c *conn) describeClient(g *greeting) {
	c.pol.User = g.get("user")
	c.pol.Database = g.get("database")
	if c.pol.Database == "" {
		c.pol.Database = c.pol.User
	}
	c.pol.Application = g.get(applicationName)
	if ps, err := g.settings(); err == nil {
		for _, p := range ps {
			c.readings.note(p.name, p.value)
		}
	}
	e := c.pol.Event
	e.User, e.Database, e.Application = c.pol.User, c.pol.Database, c.pol.Application
	if a := c.s.Account(); a != nil { // what the client calls itself is its claim only
		c.pol.User, e.Account, e.Role = a.User, a.User, a.Role
	}
	sc := c.scope()
	if c.unnoted.note(sc); sc.Opaque {
		return
	}
	// The server shortens the name to 63 bytes and replaces what is not ASCII.
	c.shown = ascii(c.pol.Application, 63)
	mark := "sallyport:" + e.ID
	c.sent = ascii(strings.TrimSpace(mark+" "+c.shown), 63)
	g.set(applicationName, c.sent)
}

func ascii(s string, n int) string {
	b := []byte(s[:min(len(s), n)])
	for i, ch := range b {
		if ch < 32 || ch > 126 {
			b[i] = '?'
		}
	}
	return string(b)
}

// allowed holds the settings of a greeting against those that may be set.
func allowed(ps []parameter) error {
	for _, p := range ps {
		if strings.EqualFold(p.name, "client_encoding") && strings.EqualFold(p.value, "SQL_ASCII") {
			continue // whether it is harmless the server's own encoding says
		}
		if !query.SettingAllowed(p.name, p.value) {
			return fmt.Errorf("setting %s may not be set to this value", clip(p.name))
		}
	}
	return nil
}

// farewellEarly ends a session in which nothing is under way yet.
func (c *conn) farewellEarly(r *refusal, why error) error {
	_, err := c.s.Client().Write(r.append(nil, "FATAL"))
	if why == nil && err != nil {
		why = gone("client", err)
	}
	return why
}

// welcome relays the login up to the first ReadyForQuery; done when the server
// has let the user in already.
func (c *conn) welcome(done bool) (ready bool, err error) {
	for {
		w := c.server.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return false, garbled(err)
		case ok && n > maxAuth:
			return false, errUnexpected
		case !ok || len(w) < n:
			if err := c.server.Fill(); err != nil {
				return false, gone("server", err)
			}
			continue
		}
		msg := w[:n]
		asks, unbound := false, false
		switch typ {
		case 'R':
			if asks, done, err = authentication(msg[headLen:], done); err != nil {
				return false, err
			}
			if asks && c.s.Asks() {
				return false, c.asked()
			}
			var list []byte
			if list, unbound = withoutBinding(msg); unbound {
				msg = list
			}
		case 'S':
			act, err := c.parameterStatus(msg)
			if err != nil {
				return false, err
			}
			if act == replaced {
				msg = c.reply.buf
			}
		case 'K':
			if c.cancel != nil {
				return false, errUnexpected
			}
			c.p.remember(c, msg[headLen:])
		case 'v':
			c.settleMinor(msg[headLen:])
		case 'E', 'N':
		case 'Z':
			if !done || len(msg) != headLen+1 {
				return false, errUnexpected
			}
			if c.minor > newestMinor {
				return false, &ending{&refusal{
					code: codeUnsupported, message: fmt.Sprintf("sallyport: protocol 3.%d is not understood", c.minor),
					hint: fmt.Sprintf("Connect with protocol 3.%d at most (libpq: max_protocol_version).", newestMinor),
				}, fmt.Errorf("postgres: client and server settled on protocol 3.%d", c.minor)}
			}
			if n := c.s.Notice(); n != "" {
				notice, _ := (&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: n}).Encode(nil)
				msg = append(notice, msg...)
			}
			c.queue.idle = true
			c.s.Rest()
		default:
			return false, errUnexpected
		}
		if err := c.tell(msg); err != nil {
			return false, err
		}
		c.server.Advance(n)
		switch {
		case typ == 'E':
			return false, errors.New("postgres: the server refused the login")
		case typ == 'Z':
			return true, c.s.SetServerDeadline(time.Time{})
		case asks:
			if err := c.password(c.client, unbound); err != nil {
				return false, err
			}
		}
	}
}

// settleMinor notes the newest minor version that the server offers (the body of
// NegotiateProtocolVersion), where that is less than the client asked for.
func (c *conn) settleMinor(body []byte) {
	if len(body) >= 4 {
		c.minor = min(c.minor, binary.BigEndian.Uint16(body[2:]))
	}
}

// authentication reads an AuthenticationRequest: whether the client is to
// answer it, and whether it is the last.
func authentication(body []byte, done bool) (asks, ok bool, err error) {
	m := cursor{b: body}
	kind := m.int32()
	switch {
	case m.bad || done:
		return false, false, errUnexpected
	case kind == 0:
		return false, true, nil
	case kind == 3, kind == 5, kind == 10, kind == 11: // clear text, MD5, SASL
		return true, false, nil
	case kind == 12:
		return false, false, nil
	}
	why := fmt.Errorf("postgres: authentication method %d is not understood", kind)
	return false, false, &ending{&refusal{
		code: codeUnsupported, message: "sallyport: the server asks for an authentication that is not understood",
		hint: "Use scram-sha-256, md5, password or trust for this host.",
	}, why}
}

// password relays the client's answer to an AuthenticationRequest. It is not
// recorded. unbound: the request was stripped of channel binding.
func (c *conn) password(r *wire.Reader, unbound bool) error {
	for {
		w := r.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return violation(err)
		case ok && (typ != 'p' || n > maxAuth):
			return violation(fmt.Errorf("postgres: a message of type %q during the login", typ))
		case !ok || len(w) < n:
			if err := r.Fill(); err != nil {
				return gone("client", err)
			}
			continue
		}
		if unbound {
			if err := binding(w[:n]); err != nil {
				return err
			}
		}
		if err := c.s.Send(c.login, w[:n]); err != nil {
			return err
		}
		r.Advance(n)
		return c.flush()
	}
}
