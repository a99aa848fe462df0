package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols"
)

// alpn is the protocol's name in TLS (IANA; src/include/libpq/pqcomm.h,
// PostgreSQL 17).
const alpn = "postgresql"

// tlsRecord begins a handshake (RFC 8446, 5.1). No greeting in clear begins so.
const tlsRecord = 0x16

// named is cfg for this protocol.
func named(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{alpn}
	return cfg
}

// secure puts TLS onto the client's door.
func (g *greeting) secure(ctx context.Context, read []byte, need bool) error {
	c, err := protocols.Handshake(ctx, g.conn, named(g.tls), read, need)
	if err != nil {
		return err
	}
	g.conn, g.secured = c, c
	return nil
}

// stuffed reports whether more has arrived, which a client that waits for an
// answer does not send.
func stuffed(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return cerr != nil || err == nil && n > 0
}

// sslRequest asks for TLS.
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// Secure has the server begin TLS (SSLRequest, protocol documentation 55.2.10),
// and verifies it as cfg says. It is a protocols.Secure.
func Secure(ctx context.Context, server net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	if d, ok := ctx.Deadline(); ok {
		_ = server.SetDeadline(d)
	} else {
		_ = server.SetDeadline(time.Now().Add(startupTime))
	}
	stop := context.AfterFunc(ctx, func() { _ = server.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := server.Write(sslRequest); err != nil {
		return nil, gone("server", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(server, answer[:]); err != nil {
		return nil, gone("server", err)
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("%w: it offers no TLS", protocols.ErrUntrusted)
	}
	c := tls.Client(server, named(cfg))
	if err := c.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, gone("server", errors.Join(ctx.Err(), err))
		}
		return nil, fmt.Errorf("%w: %w", protocols.ErrUntrusted, err)
	}
	if !stop() {
		return nil, gone("server", ctx.Err())
	}
	return c, server.SetDeadline(time.Time{})
}

var _ protocols.Secure = Secure

// plus is the SCRAM mechanism that binds a login to the TLS around it (RFC 5929).
const plus = "SCRAM-SHA-256-PLUS"

// withoutBinding returns an AuthenticationSASL message without the offer of
// channel binding, false if it makes none. The TLS that a client sees is not the
// server's, so that a login that is bound to it would fail.
func withoutBinding(msg []byte) ([]byte, bool) {
	m := cursor{b: msg[headLen:]}
	if m.int32() != 10 {
		return nil, false
	}
	out, offered := append([]byte(nil), msg[:headLen+4]...), false
	for {
		name := m.str()
		if m.bad || len(name) == 0 {
			break
		}
		if string(name) == plus {
			offered = true
			continue
		}
		out = append(append(out, name...), 0)
	}
	return finish(append(out, 0), 1), offered
}

// binding refuses an answer to withoutBinding's message by which a client says
// that it could bind its login to the TLS around it and saw no offer (RFC 5802,
// 6: gs2 flag "y"): the server, which made one, would take that for an attack.
func binding(msg []byte) error {
	m := cursor{b: msg[headLen:]}
	m.str()
	m.int32()
	if m.bad || len(m.b) == 0 || m.b[0] != 'y' {
		return nil
	}
	return &ending{&refusal{
		code: codeUnsupported, message: "sallyport: this login would be bound to the TLS of one door, and there are two",
		hint: "Connect with channel_binding=disable, or have the administrator give the resource accounts of its own (resources[].accounts).",
	}, errBinding}
}

var errBinding = errors.New("postgres: the client asks for channel binding")

// errSilent: the client agreed on TLS, and went when it had seen the certificate.
var errSilent = fmt.Errorf("%w: the client ended it before it said anything", protocols.ErrHandshake)

// unsecured records that TLS with the client failed.
func (c *conn) unsecured(why error) error {
	c.s.Unsecured()
	return errors.Join(why, c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{"tls"}, Status: "error",
		Reason: why.Error() + " (a client that trusts another authority only ends it so)",
		Remedy: "have the client trust this host's authority (sallyport trust), or let it have TLS with the server itself (docs/tls.md: tls.undecoded)",
	}))
}

// mutual refuses a client that has shown a certificate.
func (c *conn) mutual(g *greeting) error {
	c.s.Unsecured()
	c.describeClient(g)
	r := refusal{
		code: codeIdentity, message: "sallyport: a client certificate ends here: the server would not see it, and it proves nobody",
		hint:  "Connect without one (sslcertmode=disable, or sslcert of a file that is not there), or have the administrator decide what becomes of it (resources[].tls.client_certificates, resources[].tls.undecoded).",
		rules: []string{"tls"}, session: c.pol.Event.ID,
	}
	err := c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{"tls"}, Status: "error",
		Reason: "the client showed a certificate of its own", Remedy: r.hint,
	})
	return c.farewellEarly(&r, err)
}

// inClear refuses a client that did not ask for TLS.
func (c *conn) inClear(g *greeting) error {
	c.describeClient(g)
	r := refusal{
		code: codeIdentity, message: "sallyport: this server is reached by TLS only",
		hint: "Connect with sslmode=verify-full, or sslmode=require.",
	}
	err := c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{"tls"}, Status: "error",
		Reason: "the client did not ask for TLS", Remedy: r.hint,
	})
	return c.farewellEarly(&r, err)
}
