package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/wire"
)

// Where the passage logs in in the client's place, the client may still have to
// prove that it knows a password: of an agent, against a verifier that the
// configuration has. It is the server's side of SCRAM (RFC 5802).

// verifier is what is kept of a password, as PostgreSQL keeps it
// (pg_authid.rolpassword): SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY.
type verifier struct {
	iterations           int
	salt, stored, server []byte
}

// CheckVerifier says what is wrong with the text of a verifier. The error holds
// nothing of it.
func CheckVerifier(s string) error {
	_, err := parseVerifier(s)
	return err
}

func parseVerifier(s string) (v verifier, err error) {
	bad := errors.New("not a verifier of the form SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY")
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '$' || r == ':' })
	if len(parts) != 5 || parts[0] != scramPlain || s != fmt.Sprintf("%s$%s:%s$%s:%s", parts[0], parts[1], parts[2], parts[3], parts[4]) {
		return v, bad
	}
	if v.iterations, err = strconv.Atoi(parts[1]); err != nil || v.iterations < minIterations || v.iterations > maxIterations {
		return v, bad
	}
	for i, to := range []*[]byte{&v.salt, &v.stored, &v.server} {
		if *to, err = base64.StdEncoding.DecodeString(parts[2+i]); err != nil {
			return v, bad
		}
	}
	if len(v.salt) == 0 || len(v.salt) > maxSalt || len(v.stored) != sha256.Size || len(v.server) != sha256.Size {
		return v, bad
	}
	return v, nil
}

// noVerifier is of a user that there is not: it answers as another does, and
// nothing proves it. Its salt stays the same, as a true one does.
func (p *Protocol) noVerifier(user string) verifier {
	v := verifier{iterations: minIterations, salt: mac(p.mock[:], []byte(user))[:16], stored: make([]byte, sha256.Size), server: make([]byte, sha256.Size)}
	_, _ = rand.Read(v.stored)
	_, _ = rand.Read(v.server)
	return v
}

// noting returns cfg for a client's door whose certificate a login may be bound
// to: c.leaf is what the client was shown.
func (c *conn) noting(cfg *tls.Config) *tls.Config {
	if a := c.s.Account(); cfg == nil || a == nil || a.Agents == nil {
		return cfg
	}
	cfg = cfg.Clone()
	all, get := cfg.Certificates, cfg.GetCertificate
	cfg.Certificates, cfg.SessionTicketsDisabled = nil, true // one that is taken up again shows none
	cfg.GetCertificate = func(h *tls.ClientHelloInfo) (cert *tls.Certificate, err error) {
		if get != nil {
			cert, err = get(h)
		} else if len(all) > 0 {
			cert = &all[0]
		}
		if err != nil || cert == nil {
			return cert, err
		}
		c.leaf, err = x509.ParseCertificate(cert.Certificate[0])
		return cert, err
	}
	return cfg
}

// errAgent: the client has not proved that it is the agent it names.
var errAgent = errors.New("postgres: the client did not prove that it knows the password of the agent that it names")

// challenge has the client prove that it knows the password of the agent that it
// names. Unless it does, that is on the record and its session is over.
func (c *conn) challenge(user string, agents map[string]string) error {
	c.client = wire.NewReader(c.s.Client())
	err := c.proveAgent(user, agents)
	if !errors.Is(err, errAgent) {
		return err
	}
	r := &refusal{
		code: codePassword, message: "password authentication failed for user \"" + clip(user) + "\"",
		hint: "sallyport asks for the password of an agent here (resources[].agents), not for the database's.",
	}
	return &ending{r, errors.Join(err, c.s.Event(&events.Event{
		Kind: events.Login, Time: time.Now(), Verdict: events.Blocked, Rules: []string{"agent"}, Status: "error", Reason: err.Error(), Remedy: r.hint,
	}))}
}

func (c *conn) proveAgent(user string, agents map[string]string) error {
	text, known := agents[user]
	v := c.p.noVerifier(user)
	if known {
		var err error
		if v, err = parseVerifier(text); err != nil {
			return err
		}
	}
	var binding []byte
	offer := scramPlain + "\x00\x00"
	if c.leaf != nil {
		binding = endPoint(c.leaf)
	}
	if binding != nil {
		offer = scramPlus + "\x00" + offer
	}
	if err := c.authRequest(authSASL, []byte(offer)); err != nil {
		return err
	}
	first, err := c.saslResponse()
	if err != nil {
		return err
	}
	m := cursor{b: first}
	mechanism := string(m.str())
	if n := m.int32(); m.bad || int(n) != len(m.b) {
		return violation(malformed('p'))
	}
	e, err := readFirst(m.b, mechanism, binding)
	if err != nil {
		return err
	}
	nonce := make([]byte, 18)
	_, _ = rand.Read(nonce)
	e.nonce += base64.StdEncoding.EncodeToString(nonce)
	challenge := fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(v.salt), v.iterations)
	if err := c.authRequest(authSASLContinue, []byte(challenge)); err != nil {
		return err
	}
	final, err := c.saslResponse()
	if err != nil {
		return err
	}
	sign, err := e.verify(&v, challenge, final)
	if err == nil && !known {
		err = errAgent
	}
	if err != nil {
		return err
	}
	return c.authRequest(authSASLFinal, []byte("v="+base64.StdEncoding.EncodeToString(sign)))
}

func (c *conn) authRequest(kind uint32, body []byte) error {
	b, at := begin(nil, 'R')
	b = append(binary.BigEndian.AppendUint32(b, kind), body...)
	if _, err := c.s.Client().Write(finish(b, at)); err != nil {
		return gone("client", err)
	}
	return nil
}

// saslResponse returns the body of the client's next message.
func (c *conn) saslResponse() ([]byte, error) {
	for {
		w := c.client.Window()
		typ, n, ok, err := head(w)
		switch {
		case err != nil:
			return nil, violation(err)
		case ok && (typ != 'p' || n > maxAuth):
			return nil, violation(fmt.Errorf("postgres: a message of type %q during the login", typ))
		case ok && len(w) >= n:
			body := bytes.Clone(w[headLen:n])
			c.client.Advance(n)
			return body, nil
		}
		if err := c.client.Fill(); err != nil {
			return nil, gone("client", err)
		}
	}
}

// exchange is the server's side of one.
type exchange struct {
	gs2     string
	binding []byte
	bare    string // client-first-message-bare
	nonce   string
}

// readFirst reads a client-first-message. A client that could have bound the
// exchange, and says that nobody offered it, did not see what was offered.
func readFirst(b []byte, mechanism string, binding []byte) (*exchange, error) {
	bad := violation(errors.New("postgres: the client's SCRAM message is not understood"))
	parts := strings.SplitN(string(b), ",", 3) // flag, authzid, the rest
	if len(parts) != 3 || parts[1] != "" {
		return nil, bad
	}
	e := &exchange{gs2: parts[0] + ",,", bare: parts[2]}
	switch {
	case mechanism == scramPlus && binding != nil && parts[0] == "p=tls-server-end-point":
		e.binding = binding
	case mechanism == scramPlain && parts[0] == "n", mechanism == scramPlain && parts[0] == "y" && binding == nil:
	case mechanism == scramPlain && parts[0] == "y":
		return nil, errAgent
	default:
		return nil, bad
	}
	user, nonce, ok := strings.Cut(e.bare, ",r=")
	if !ok || !strings.HasPrefix(user, "n=") || nonce == "" || strings.ContainsAny(nonce, ",") || strings.ContainsAny(user, ",") {
		return nil, bad
	}
	for _, ch := range []byte(nonce) {
		if ch < 0x21 || ch > 0x7e {
			return nil, bad
		}
	}
	e.nonce = nonce
	return e, nil
}

// verify holds a client-final-message against a verifier, and returns what
// proves to the client that this side has it.
func (e *exchange) verify(v *verifier, challenge string, final []byte) ([]byte, error) {
	without, proof, ok := bytes.Cut(final, []byte(",p="))
	want := "c=" + base64.StdEncoding.EncodeToString(append([]byte(e.gs2), e.binding...)) + ",r=" + e.nonce
	shown, err := base64.StdEncoding.DecodeString(string(proof))
	if !ok || err != nil || len(shown) != sha256.Size || !hmac.Equal(without, []byte(want)) {
		return nil, errAgent
	}
	message := []byte(e.bare + "," + challenge + "," + want)
	clientKey := mac(v.stored, message)
	subtle.XORBytes(clientKey, clientKey, shown)
	stored := sha256.Sum256(clientKey)
	clear(clientKey)
	if !hmac.Equal(stored[:], v.stored) {
		return nil, errAgent
	}
	return mac(v.server, message), nil
}
