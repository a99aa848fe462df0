package postgres

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"sallyport.dev/sallyport/protocols"
)

// Kinds of AuthenticationRequest (protocol documentation 55.7).
const (
	authOK           = 0
	authClear        = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// proof answers the server's AuthenticationRequests with an account's secret.
type proof struct {
	c     *conn
	login *protocols.Login
	scram *scramClient
	asked bool  // for anything
	next  int32 // the kind that must come next, once something was asked
}

// answer reads one request and answers it; done when the server has let the
// account in. All that may follow it is another one of the same exchange.
func (p *proof) answer(body []byte) (done bool, err error) {
	m := cursor{b: body}
	kind := m.int32()
	if m.bad || p.asked && kind != p.next || !p.asked && (kind == authSASLContinue || kind == authSASLFinal) {
		return false, errUnexpected
	}
	switch kind {
	case authOK:
		if !p.asked && p.login.Password != nil {
			err = p.may(protocols.None)
		}
		return err == nil, err
	case authClear:
		err = p.clear()
		p.next = authOK
	case authMD5:
		err = p.md5(m.take(4))
		p.next = authOK
	case authSASL:
		err = p.begin(&m)
		p.next = authSASLContinue
	case authSASLContinue:
		err = p.prove(m.b)
		p.next = authSASLFinal
	case authSASLFinal:
		if err = p.scram.verify(m.b); err != nil {
			err = distrusted(err)
		}
		p.next = authOK
	default:
		_, _, err = authentication(body, false)
		if err == nil { // it is one that has its place above
			err = errUnexpected
		}
	}
	p.asked = true
	return false, err
}

// methods are how the configuration names them.
var methods = [...]string{
	protocols.Bound: "scram-sha-256-plus", protocols.Mutual: "scram-sha-256", protocols.Hashed: "md5",
	protocols.Clear: "password", protocols.None: "none",
}

// may refuses a way that is weaker than the account goes along with, before
// anything of the secret is said.
func (p *proof) may(m protocols.Method) error {
	switch {
	case m > p.login.Weakest:
		why := fmt.Errorf("postgres: the server offers %s, the account asks for %s at least", methods[m], methods[p.login.Weakest])
		return &ending{&refusal{
			code: codeIdentity, message: "sallyport: the server wants the account of this connection to be proved in a weaker way than is allowed (" + methods[m] + ")",
			hint: "Have the server use scram-sha-256 for it, or allow the weaker way (resources[].accounts[].auth).",
		}, why}
	case m != protocols.None && len(p.login.Password) == 0:
		return &ending{&refusal{
			code: codeIdentity, message: "sallyport: the server asks for a password, and the account of this connection has none",
			hint: "Have the server accept the account's certificate (cert in pg_hba.conf), or give the account a password.",
		}, errors.New("postgres: the server asks for a password that the account does not have")}
	}
	return nil
}

// clear shows the secret itself, to a server that TLS has proved.
func (p *proof) clear() error {
	if err := p.may(protocols.Clear); err != nil {
		return err
	}
	if _, ok := p.c.s.ServerTLS(); !ok {
		return &ending{&refusal{
			code: codeIdentity, message: "sallyport: the server asks for the password of this connection's account in clear text, outside of TLS",
			hint: "Have the passage use TLS towards this server, or the server use scram-sha-256.",
		}, errors.New("postgres: the server asks for a clear-text password outside of TLS")}
	}
	return p.send(p.login.Password, []byte{0})
}

// md5 is what crypt-md5 is: md5(md5(password + user) + salt).
func (p *proof) md5(salt []byte) error {
	if len(salt) != 4 {
		return errUnexpected
	}
	if err := p.may(protocols.Hashed); err != nil {
		return err
	}
	h := md5.New()
	h.Write(p.login.Password)
	h.Write([]byte(p.login.User))
	inner := hex.AppendEncode(nil, h.Sum(nil))
	defer clear(inner)
	h.Reset()
	h.Write(inner)
	h.Write(salt)
	return p.send([]byte("md5"), hex.AppendEncode(nil, h.Sum(nil)), []byte{0})
}

// begin chooses among the mechanisms that the server offers. In TLS the exchange
// is bound to the channel. Where that is not offered the server is told that it
// could have been (RFC 5802, 6): one that has offered it does then not go on.
func (p *proof) begin(m *cursor) error {
	var offered []string
	for {
		name := string(m.str())
		if m.bad {
			return errUnexpected
		}
		if name == "" {
			break
		}
		offered = append(offered, name)
	}
	mechanism, method, gs2 := scramPlain, protocols.Bound, "n,,"
	var binding []byte
	if tls, ok := p.c.s.ServerTLS(); ok {
		method = protocols.Mutual
		if len(tls.PeerCertificates) > 0 {
			binding = endPoint(tls.PeerCertificates[0])
		}
		switch {
		case binding != nil && slices.Contains(offered, scramPlus):
			mechanism, method, gs2 = scramPlus, protocols.Bound, "p=tls-server-end-point,,"
		case binding != nil:
			gs2, binding = "y,,", nil
		}
	}
	if !slices.Contains(offered, mechanism) {
		return &ending{&refusal{
			code: codeUnsupported, message: "sallyport: the server asks for an authentication that is not understood",
			hint: "Use scram-sha-256 for this account.",
		}, errors.New("postgres: the server offers no SASL mechanism that is known")}
	}
	if err := p.may(method); err != nil {
		return err
	}
	p.scram = newScram(gs2, binding)
	first := p.scram.initial()
	n := len(first)
	return p.send([]byte(mechanism), []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, first)
}

func (p *proof) prove(challenge []byte) error {
	final, err := p.scram.final(challenge, p.login.Password)
	if err != nil {
		return distrusted(err)
	}
	return p.send(final)
}

// send sends a PasswordMessage or a SASL response, and overwrites it.
func (p *proof) send(parts ...[]byte) error {
	n := headLen
	for _, b := range parts {
		n += len(b)
	}
	msg, at := begin(make([]byte, 0, n), 'p') // never moved: no copy is left behind
	for _, b := range parts {
		msg = append(msg, b...)
	}
	defer clear(msg)
	if err := p.c.s.Prove(p.c.login, finish(msg, at)); err != nil {
		return gone("server", err)
	}
	return nil
}

// distrusted ends the session: whoever answers is not the server that the
// account is of.
func distrusted(why error) error {
	return &ending{&refusal{
		code: codeIdentity, message: "sallyport: the server did not prove that it knows the account of this connection",
		hint: "Ask the administrator of this host: another server may stand at its address.",
	}, why}
}

// endPoint is the channel binding data of a server's certificate (RFC 5929,
// 4.1): its hash by its own signature's hash function, SHA-256 where that is
// weaker; nil where the signature has none.
func endPoint(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		h := sha256.Sum256(cert.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return bytes.Clone(h[:])
	}
	return nil
}
