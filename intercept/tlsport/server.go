package tlsport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Trust is what a server must prove, and what it is shown. All but Name is PEM.
type Trust struct {
	Roots            string // certificates that may vouch for it; "": the system's
	Certificate, Key string // of this client; "": none
	Name             string // in its certificate; "": the caller of Config sets ServerName
}

// notOurs refuses a server that only authorities of hosts with sallyport vouch
// for. They stand among the system's roots for agents, which is no reason to
// believe them here: whoever has such a key could be the server.
func notOurs(c tls.ConnectionState) error {
	for _, chain := range c.VerifiedChains {
		if s := chain[len(chain)-1].Subject; strings.Join(s.Organization, "") != organization {
			return nil
		}
	}
	return errors.New("only the authority of a host with sallyport vouches for it: name who does in tls.ca")
}

// Config returns what connections to such a server are secured with: TLS 1.2
// or later, its certificate and name verified.
func (t Trust) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Name}
	if t.Roots == "" {
		cfg.VerifyConnection = notOurs
	} else {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(t.Roots)) {
			return nil, errors.New("no certificate in PEM form")
		}
	}
	if t.Certificate != "" {
		c, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.Key))
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{c}
	}
	return cfg, nil
}
