package protocols

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// Secure asks a server for TLS in its protocol's own way, before anything else
// is said, and returns the connection once the server has proved who it is. It
// never returns one in clear. The error is or wraps ErrUntrusted unless the
// connection failed. It closes nothing.
type Secure func(ctx context.Context, server net.Conn, cfg *tls.Config) (*tls.Conn, error)

// ErrUntrusted: a server did not prove who it is.
var ErrUntrusted = errors.New("protocols: the server did not prove who it is")

// ErrHandshake: TLS with the client came to nothing. It may trust another
// authority only.
var ErrHandshake = errors.New("protocols: TLS with the client failed")

// Handshake puts TLS onto a client's door. read is what was read of it already.
// The client is asked for a certificate, and need not have one. It must agree on one of cfg's protocols if need says so (RFC 7301). The
// error is or wraps ErrHandshake.
func Handshake(ctx context.Context, client net.Conn, cfg *tls.Config, read []byte, need bool) (*tls.Conn, error) {
	if len(read) > 0 {
		client = &replay{Conn: client, read: read}
	}
	cfg = cfg.Clone()
	cfg.ClientAuth = tls.RequestClientCert
	c := tls.Server(client, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if need && c.ConnectionState().NegotiatedProtocol == "" {
		farewell(c)
		return nil, fmt.Errorf("%w: it named no protocol (ALPN)", ErrHandshake)
	}
	return c, nil
}

// TLS is what the client's door may be secured with; nil: with nothing. only:
// a client that does not ask for it is refused.
func (s *Session) TLS() (cfg *tls.Config, only bool) { return s.o.TLS, s.o.TLSOnly }

// Secured says that the client's door has been put into TLS, by Handshake,
// before anything of the session was said.
func (s *Session) Secured(c *tls.Conn) {
	flow := *s.o.Flow
	flow.Conn = c
	s.o.Flow = &flow
	state := c.ConnectionState()
	s.o.Policy.Event.ClientTLS = described(state)
	if len(state.PeerCertificates) > 0 {
		c := state.PeerCertificates[0]
		sum := sha256.Sum256(c.Raw)
		s.o.Policy.Event.ClientCertificate = events.Certificate{
			Subject: c.Subject.String(), Issuer: c.Issuer.String(), SHA256: hex.EncodeToString(sum[:]),
		}
	}
}

// Mutual reports whether the client is to be refused for the certificate that it
// showed: its server would not see it, and it proves nobody to the passage.
func (s *Session) Mutual() bool {
	return s.o.Policy.Event.ClientCertificate.SHA256 != "" && !s.o.IgnoreCertificates
}

// InClear says that the client did not ask for TLS. It or Secured is called
// before the session's first event.
func (s *Session) InClear() { s.o.Policy.Event.ClientClear = s.o.TLS != nil }

// described is what the record says of a door.
func described(c tls.ConnectionState) events.TLS {
	return events.TLS{
		Version: strings.TrimPrefix(tls.VersionName(c.Version), "TLS "), Cipher: tls.CipherSuiteName(c.CipherSuite),
		Name: c.ServerName, Verified: len(c.VerifiedChains) > 0,
	}
}

// ClientTLS returns what was agreed on with the client, false without TLS.
func (s *Session) ClientTLS() (tls.ConnectionState, bool) { return state(s.o.Flow.Conn) }

// ServerTLS returns what was agreed on with the server, false without TLS or
// before Open.
func (s *Session) ServerTLS() (tls.ConnectionState, bool) { return state(s.server) }

func state(c net.Conn) (tls.ConnectionState, bool) {
	if c, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return c.ConnectionState(), true
	}
	return tls.ConnectionState{}, false
}

// farewell says that nothing more comes (RFC 8446, 6.1), so that what came can
// be told from what was cut off. It waits for nobody.
func farewell(c net.Conn) {
	if c, ok := c.(*tls.Conn); ok {
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_ = c.CloseWrite()
	}
}

// replay gives back what was read of a connection before the rest.
type replay struct {
	net.Conn

	read []byte
}

func (r *replay) Read(b []byte) (int, error) {
	n := copy(b, r.read)
	r.read = r.read[n:]
	if n > 0 {
		return n, nil
	}
	return r.Conn.Read(b)
}
