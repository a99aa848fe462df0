package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols"
)

// errUnread: the client begins TLS, which is to be the server's business.
var errUnread = errors.New("postgres: TLS with the server itself")

// Alerts (RFC 8446, 6): the only words for a client that awaits a server's part of
// a handshake.
const (
	alertAccessDenied  = 49
	alertInternalError = 80
	alertNoName        = 112
	alertNoProtocol    = 120
)

// unread serves a client that has begun TLS with the server itself. What it says
// is not read, but for the first message of its handshake. stop is called when what
// ends the session is the relay's business.
func (c *conn) unread(g *greeting, stop func() bool) error {
	door := c.s.Client()
	hello, err := readHello(c.ctx, door, g.direct)
	if err != nil {
		return gone("client", err)
	}
	switch named := c.s.PassUndecoded(hello.name); {
	case !named || hello.hidden:
		return c.unwelcome(alertNoName, "the client asks the server for a name that is not the resource's, or hides it",
			"dial a name of the resource (resources[].tls.names)")
	case g.direct != nil && !slices.Contains(hello.protocols, alpn):
		return c.unwelcome(alertNoProtocol, "direct TLS that does not name the protocol (ALPN)", "connect with a client that does (ALPN "+alpn+")")
	}
	r := policy.Request{Kind: policy.Undecoded, Now: time.Now(), Commands: []string{"undecoded"}, Writes: true}
	d, err := c.s.Decide(c.ctx, &r)
	if err != nil || !d.Allowed() {
		return c.dismiss(alertAccessDenied, err)
	}
	if err := c.s.Open(c.ctx, d); err != nil {
		return c.dismiss(alertInternalError, gone("server", err))
	}
	_ = c.s.SetServerDeadline(time.Now().Add(startupTime))
	if g.direct == nil {
		if err := c.asks(d); err != nil {
			return c.dismiss(alertInternalError, err)
		}
	}
	if err := c.s.Send(d, hello.bytes); err != nil {
		return err
	}
	stop()
	if err := c.s.Relay(c.ctx, d); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// asks has the server begin TLS.
func (c *conn) asks(d policy.Decision) error {
	if err := c.s.Send(d, sslRequest); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c.s.Server(), answer[:]); err != nil {
		return gone("server", err)
	}
	if answer[0] != 'S' {
		return fmt.Errorf("%w: it offers no TLS", protocols.ErrUntrusted)
	}
	return nil
}

// unwelcome refuses a client for its handshake.
func (c *conn) unwelcome(alert byte, reason, remedy string) error {
	return c.dismiss(alert, c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{"tls"}, Status: "error", Reason: reason, Remedy: remedy,
	}))
}

// dismiss ends a client's handshake.
func (c *conn) dismiss(alert byte, why error) error {
	_, err := c.s.Client().Write([]byte{21, 3, 3, 0, 2, 2, alert}) // fatal
	if why == nil && err != nil {
		why = gone("client", err)
	}
	return why
}

// hello is the first message of a client's handshake.
type hello struct {
	bytes     []byte // all that was read of the client
	name      string // that it asks for (SNI)
	protocols []string
	hidden    bool // it may ask for another in secret (encrypted ClientHello)
}

// encryptedHello is the extension of that (IANA: encrypted_client_hello).
const encryptedHello = 0xfe0d

var errHello = errors.New("postgres: what the client sent is no handshake of TLS")

// readHello reads a ClientHello and answers nothing. read is what was read of it
// already.
func readHello(ctx context.Context, client net.Conn, read []byte) (*hello, error) {
	in := &overheard{Conn: client, r: io.MultiReader(bytes.NewReader(read), client)}
	var h *hello
	err := tls.Server(in, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h = &hello{name: i.ServerName, protocols: i.SupportedProtos, hidden: slices.Contains(i.Extensions, encryptedHello)}
		return nil, errUnread
	}}).HandshakeContext(ctx)
	if in.err != nil {
		return nil, in.err
	}
	if h == nil {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	h.bytes = in.b
	return h, nil
}

// overheard keeps what is read of a connection, and says nothing to it.
type overheard struct {
	net.Conn

	r   io.Reader
	b   []byte
	err error // of the connection
}

func (h *overheard) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.b = append(h.b, b[:n]...)
	if n == 0 && err != nil {
		h.err = err
	}
	return n, err
}

func (h *overheard) Write(b []byte) (int, error) { return len(b), nil }

func (h *overheard) Close() error { return nil } // the caller's
