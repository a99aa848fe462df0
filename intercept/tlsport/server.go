package tlsport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Trust is what a server must prove, and what it is shown. All but Name is PEM.
type Trust struct {
	Roots            string // certificates that may vouch for it; "": the system's
	Certificate, Key string // of this client; "": none
	Name             string // in its certificate; "": the caller of Config sets ServerName
}

// Config returns what connections to such a server are secured with: TLS 1.2
// or later, its certificate and name verified.
func (t Trust) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Name}
	if t.Roots != "" {
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
