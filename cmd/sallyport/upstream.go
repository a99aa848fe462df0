package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/tlsport"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/all"
)

// upstream opens a resource's server's door.
type upstream struct {
	resource *config.Resource
	trust    tlsport.Trust
	tls      *tls.Config
	secure   protocols.Secure
}

// readTLS reads the files that resources[].tls name.
func readTLS(cfg *config.Config) (map[string][]byte, error) {
	out := map[string][]byte{}
	var errs []error
	for i, r := range cfg.Resources {
		for _, f := range [][2]string{{"ca", r.TLS.CA}, {"certificate", r.TLS.Certificate}, {"key", r.TLS.Key}} {
			if f[1] == "" {
				continue
			}
			var err error
			if out[f[1]], err = readFile(f[1], maxSecret); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", cfg.At("resources", i, "tls", f[0]), err))
			}
		}
	}
	return out, errors.Join(errs...)
}

// newUpstreams takes files by the names that the configuration has for them. Of
// old it keeps those that are as they were.
func newUpstreams(cfg *config.Config, files map[string][]byte, old map[string]*upstream) (map[string]*upstream, error) {
	out := map[string]*upstream{}
	var errs []error
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		t := tlsport.Trust{
			Roots: string(files[r.TLS.CA]), Certificate: string(files[r.TLS.Certificate]), Key: string(files[r.TLS.Key]),
			Name: r.ServerName(),
		}
		if was := old[r.Name]; was != nil && was.trust == t && reflect.DeepEqual(was.resource.TLS, r.TLS) {
			out[r.Name] = was
			continue
		}
		c, err := t.Config()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cfg.At("resources", i, "tls"), err))
		}
		out[r.Name] = &upstream{resource: r, trust: t, tls: c, secure: all.Secure(r.Protocol)}
	}
	return out, errors.Join(errs...)
}

// dial connects to an address of the resource. Unless the configuration says
// that it may be in clear, the server has proved who it is.
func (u *upstream) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return u.dialAs(ctx, network, address, func(context.Context) (*tls.Certificate, error) { return nil, nil })
}

// dialAs is dial with another certificate to show than the resource's, where
// there is one.
func (u *upstream) dialAs(ctx context.Context, network, address string, certificate func(context.Context) (*tls.Certificate, error)) (net.Conn, error) {
	cert, err := certificate(ctx)
	if err != nil {
		return nil, fmt.Errorf("certificate of the account: %w", err)
	}
	inTLS := u.resource.Secured(network, address)
	if cert != nil && !inTLS {
		return nil, fmt.Errorf("%w: the account has a certificate, and this connection would be in clear: set tls.server to %s", protocols.ErrUntrusted, config.VerifyFull)
	}
	dialer := net.Dialer{Timeout: dialTime}
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil || !inTLS {
		return c, err
	}
	cfg := u.tls.Clone()
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(address)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	secured, err := u.secure(ctx, c, cfg)
	if err != nil {
		c.Close()
		return nil, err
	}
	return secured, nil
}

// dialer is dial to one address, for libraries that name another.
func (u *upstream) dialer(network, address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return u.dial(ctx, network, address) }
}
