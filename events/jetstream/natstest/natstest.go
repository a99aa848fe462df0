// Package natstest has NATS servers that prove who they are by an authority of their
// own, and ask the same of clients; for tests.
package natstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sallyport.dev/sallyport/events/jetstream"
)

// Authority signs certificates of servers and clients. Its files are in Dir: ca.pem,
// NAME.pem with NAME.key.pem, and what its servers store.
type Authority struct {
	Dir string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one whose files are in a folder; those of another that was there
// are overwritten, as who renews certificates does.
func NewAuthority(t testing.TB, dir string) *Authority {
	t.Helper()
	a := &Authority{Dir: dir}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, "ca.pem", "")
	return a
}

// Issue makes a certificate that is valid until a time, for a client and for a server on
// loopback or at addresses, and returns how a client shows it.
func (a *Authority) Issue(t testing.TB, name string, until time.Time, addresses ...net.IP) jetstream.TLS {
	t.Helper()
	a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: until, IPAddresses: append(addresses, net.IPv4(127, 0, 0, 1)),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, name+".pem", name+".key.pem")
	file := func(s string) string { return filepath.Join(a.Dir, s) }
	return jetstream.TLS{CA: file("ca.pem"), Cert: file(name + ".pem"), Key: file(name + ".key.pem")}
}

// Client is Issue of a certificate that is good for the test.
func (a *Authority) Client(t testing.TB, name string) jetstream.TLS {
	t.Helper()
	return a.Issue(t, name, time.Now().Add(time.Hour))
}

func (a *Authority) sign(t testing.TB, c *x509.Certificate, certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	c.NotBefore = time.Now().Add(-time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	must(os.WriteFile(filepath.Join(a.Dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	if keyFile != "" {
		must(os.WriteFile(filepath.Join(a.Dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	}
	cert, err := x509.ParseCertificate(der)
	must(err)
	return cert, key
}

// Start starts a server with JetStream at a port of loopback, -1 for any: it asks
// clients for certificates of the authority.
func (a *Authority) Start(t testing.TB, port int) *server.Server {
	t.Helper()
	own := a.Client(t, "server")
	pair, err := tls.LoadX509KeyPair(own.Cert, own.Key)
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	known.AddCert(a.cert)
	return Start(t, port, filepath.Join(a.Dir, "jetstream"), &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known, MinVersion: tls.VersionTLS12})
}

// Start starts a server with JetStream in a folder; without c it has no TLS.
func Start(t testing.TB, port int, dir string, c *tls.Config) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true, TLSConfig: c, TLSTimeout: 10})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	return s
}

// URL is where a server with TLS is.
func URL(s *server.Server) string { return "tls://" + s.Addr().String() }

// Port is that of a server.
func Port(s *server.Server) int { return s.Addr().(*net.TCPAddr).Port }
