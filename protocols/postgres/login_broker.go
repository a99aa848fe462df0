package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/wire"
)

// accountTime bounds what a source of accounts may take.
const accountTime = 30 * time.Second

// enter logs in at the server in the client's place, as the session's account,
// and lets the client in: who it is was proved before, and its own user and
// password go nowhere. A server that refuses is asked once more, with what the
// source then has.
func (c *conn) enter(g *greeting, a *protocols.Account) (ready bool, err error) {
	if err := c.become(g, a); err != nil {
		return false, err
	}
	if c.client == nil {
		c.client = wire.NewReader(c.s.Client())
	}
	var no *loginRefused
	for {
		l, err := c.fetch(a, no != nil)
		switch {
		case err != nil && no != nil:
			return false, no.ending(err)
		case err != nil:
			return false, c.noAccount(err)
		}
		if no != nil {
			err = c.reopen()
		}
		if err == nil {
			err = c.logIn(g, l)
		}
		l.Wipe()
		again := no != nil
		switch {
		case err == nil:
			if err := c.s.LoggedIn(l.User); err != nil {
				return false, unrecorded(err)
			}
			return c.welcome(true)
		case !errors.As(err, &no):
			return false, err
		case again:
			return false, no.ending(nil)
		}
	}
}

// fetch asks the source; again when the server has refused what it gave.
func (c *conn) fetch(a *protocols.Account, again bool) (*protocols.Login, error) {
	ctx, cancel := context.WithTimeout(c.ctx, accountTime)
	defer cancel()
	return a.Login(ctx, again)
}

// noAccount ends a session whose account's source has nothing to give.
func (c *conn) noAccount(err error) error {
	return &ending{&refusal{
		code: codeUnavailable, message: "sallyport: the account that this connection is given cannot be had",
		hint: "Try again later, or ask the administrator of this host to look at sallyport's record of session " + c.pol.Event.ID + ".",
	}, fmt.Errorf("postgres: account: %w", err)}
}

func (c *conn) reopen() error {
	if err := c.s.Reopen(c.ctx, c.login); err != nil {
		return unreachable(err)
	}
	return nil
}

// become puts the account's name into the greeting that the server gets, and
// takes out what is not the client's to choose. The role is a setting of the
// start: a later RESET ROLE or DISCARD ALL comes back to it.
func (c *conn) become(g *greeting, a *protocols.Account) error {
	if c.pol.Database == "" { // the server would take the account's name
		return violation(errors.New("the startup message names neither a user nor a database"))
	}
	g.set("database", c.pol.Database)
	if a.Role == "" {
		return nil
	}
	g.params = slices.DeleteFunc(g.params, func(p parameter) bool {
		return strings.EqualFold(p.name, "role") || strings.EqualFold(p.name, "session_authorization")
	})
	g.params = append(g.params, parameter{"role", a.Role}) // the last counts, "options" come before all
	return nil
}

// logIn is one try. When it returns nil the server has let the passage in, and
// the client knows.
func (c *conn) logIn(g *greeting, l *protocols.Login) error {
	g.set("user", l.User)
	if err := c.s.Send(c.login, g.append(nil)); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	_ = c.s.SetServerDeadline(time.Now().Add(startupTime))
	if c.server != nil {
		c.server.Release()
	}
	c.server = wire.NewReader(c.s.Server())
	p := proof{c: c, login: l}
	for {
		w := c.server.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return garbled(err)
		case ok && n > maxAuth:
			return errUnexpected
		case !ok || len(w) < n:
			if err := c.server.Fill(); err != nil {
				return gone("server", err)
			}
			continue
		}
		msg, done := w[:n], false
		switch typ {
		case 'R':
			done, err = p.answer(msg[headLen:])
		case 'E':
			err = c.refusedBy(msg)
		case 'v':
			c.settleMinor(msg[headLen:])
			err = c.tell(msg)
		case 'N':
		default:
			err = errUnexpected
		}
		c.server.Advance(n)
		if err != nil {
			return err
		}
		if done {
			return c.tell([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 0})
		}
	}
}

// loginRefused: the server does not take the account.
type loginRefused struct{ code string }

func (e *loginRefused) Error() string {
	return "postgres: the server refused the account with SQLSTATE " + e.code
}

// ending is what the client hears: nothing of what the server said, which is
// about a user that is not the client's. source is why it was not asked again.
func (e *loginRefused) ending(source error) error {
	why := error(e)
	if source != nil {
		why = fmt.Errorf("%w; %w", e, source)
	}
	return &ending{&refusal{
		code: codeIdentity, message: "sallyport: the server refuses the account that this connection is given (" + e.code + ")",
		hint: "Ask the administrator of this host: the account's secret may have been changed at the server only (resources[].accounts).",
	}, why}
}

// refusedBy reads the server's ErrorResponse during a login. What is not about
// the account is the client's to read.
func (c *conn) refusedBy(msg []byte) error {
	e, err := readReport(msg[headLen:])
	if err != nil {
		return garbled(err)
	}
	if strings.HasPrefix(e.m.Code, "28") { // invalid authorization
		return &loginRefused{clip(e.m.Code)}
	}
	if err := c.tell(msg); err != nil {
		return err
	}
	return errors.New("postgres: the server refused the login")
}
