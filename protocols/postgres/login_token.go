package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols"
)

// A workload's token may come in band: as the password that its client sends.
// It is asked for here, before anything is decided or dialled, and ends here.

// authCleartext asks for a password in clear text (AuthenticationCleartextPassword).
const authCleartext = 3

// token has the client prove who it is by the token that it has for a password.
// Unless it does, that is on the record and its session is over.
func (c *conn) token(g *greeting) error {
	if g.secured == nil && !local(c.s.Client()) {
		return c.unproved(g, codeIdentity, &protocols.Unproved{
			Rule: "tls", Reason: "a token is taken in clear from this host only", Remedy: "connect with sslmode=verify-full, or sslmode=require",
		})
	}
	if err := c.authRequest(authCleartext, nil); err != nil {
		return err
	}
	body, err := c.passwordMessage()
	if err != nil {
		return err
	}
	defer clear(body)
	token, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) > 0 {
		return violation(malformed('p'))
	}
	var no *protocols.Unproved
	switch err := c.s.Present(c.ctx, token); {
	case err == nil:
		return nil
	case !errors.As(err, &no):
		return err
	case no.Rule == "identity":
		return c.unproved(g, codePassword, no)
	}
	return c.unproved(g, codeIdentity, no)
}

// local reports that what comes in by a door was sent on this host: the passage
// is reached on loopback, each network namespace's own, and by unix sockets.
func local(door net.Conn) bool {
	switch a := door.LocalAddr().(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// passwordMessage reads a PasswordMessage in exact pieces, so that no buffer is
// left with it. The body is the caller's, to be wiped.
func (c *conn) passwordMessage() ([]byte, error) {
	door := c.s.Client()
	var h [headLen]byte
	if _, err := io.ReadFull(door, h[:]); err != nil {
		return nil, gone("client", err)
	}
	typ, n, _, err := head(h[:])
	switch {
	case err != nil:
		return nil, violation(err)
	case typ != 'p' || n > maxToken:
		return nil, violation(fmt.Errorf("postgres: a message of type %q and %d bytes in place of a password", typ, n))
	}
	body := make([]byte, n-headLen)
	if _, err := io.ReadFull(door, body); err != nil {
		clear(body)
		return nil, gone("client", err)
	}
	return body, nil
}

// maxToken is of the message with it: what is no token by its size alone is
// refused as such up to here.
const maxToken = 2 * maxAuth

// unproved records that a client has not proved who it is, and ends its session.
func (c *conn) unproved(g *greeting, code string, no *protocols.Unproved) error {
	c.describeClient(g)
	err := c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{no.Rule}, Status: "error", Reason: no.Reason, Remedy: no.Remedy,
	})
	return &ending{&refusal{code: code, message: "sallyport: refused: " + no.Reason, hint: no.Remedy}, errors.Join(no, err)}
}

// asked refuses a server that asks for a password where the client has sent its
// token: many clients would send that again.
func (c *conn) asked() error {
	return &ending{&refusal{
		code: codeUnsupported, message: "sallyport: the server asks for a password, and this workload's is its token, which is not for the server",
		hint: "Have the administrator of this host give the resource accounts of its own (resources[].accounts).",
	}, errors.New("postgres: the server asks for a password, and the client's is its token (in_band)")}
}

// sameProcess reports that a cancel request, with which no token comes, is of the
// process whose session it names.
func sameProcess(from, to *conn) bool {
	x, y := &from.pol.Peer, &to.pol.Peer
	return from.s.Asks() && to.s.Asks() && from.event.Workload == to.event.Workload &&
		x.TGID == y.TGID && x.Start == y.Start && x.PidInode == y.PidInode && x.PidNS == y.PidNS
}
