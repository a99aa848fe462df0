package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// selfSigned makes a certificate and its key, in PEM form.
func selfSigned(t *testing.T, name string, usage x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

// An account is proved by its own certificate or by this host's SVID, each new
// connection by the one of then, and never in clear.
func TestAccountCertificate(t *testing.T) {
	s, err := postgrestest.Start("CREATE ROLE batch LOGIN; CREATE ROLE host LOGIN")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	serverCert, serverKey := selfSigned(t, "db.test", x509.ExtKeyUsageServerAuth)
	cert, key := selfSigned(t, "batch", x509.ExtKeyUsageClientAuth)
	own, ownKey := selfSigned(t, "host", x509.ExtKeyUsageClientAuth)
	clients := filepath.Join(s.Dir, "clients.pem")
	if err := os.WriteFile(clients, append(append([]byte{}, cert...), own...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Exec(t.Context(), "ALTER SYSTEM SET ssl_ca_file = '"+clients+"'"); err != nil {
		t.Fatal(err)
	}
	if err := s.UseTLS(serverCert, serverKey, "hostssl all all 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 reject"); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`host: test
resources:
  - name: clinic
    protocol: postgres
    addresses: ["%s"]
    tls: {server: verify-full, ca: /f/ca, name: db.test}
    accounts:
      - {workloads: [batch], user: batch, certificate: {certificate: /f/batch.pem, key: /f/batch.key}}
      - {workloads: [host], user: host, svid: true}
identity:
  issuers: [{url: "https://one.test", audience: sallyport}]
  spiffe: {agent: "unix:///run/a.sock", admin: "unix:///run/b.sock", trust_domains: [one.test]}
`, s.Addr)
	secrets := func(cert, key []byte) map[string][]byte {
		return map[string][]byte{"/f/batch.pem": cert, "/f/batch.key": key}
	}
	login := func(b *brokers, text, workload string) (string, error) {
		cfg, err := config.Parse([]byte(text), "/f/sallyport.yaml")
		if err != nil {
			t.Fatal(err)
		}
		ups, err := newUpstreams(cfg, map[string][]byte{"/f/ca": serverCert}, nil)
		if err != nil {
			t.Fatal(err)
		}
		set := &setting{cfg: cfg}
		if set.secrets = secrets(append([]byte{}, cert...), append([]byte{}, key...)); workload == "broken" {
			set.secrets = secrets([]byte("x"), []byte("y"))
			workload = "batch"
		}
		b.commit(set)
		g, err := b.choose(&cfg.Resources[0], &intercept.Identity{Workload: workload})
		if err != nil {
			return "", err
		}
		l, err := g.account().Login(t.Context(), false)
		if err != nil || len(l.Password) != 0 {
			t.Fatalf("%v, %d bytes of password", err, len(l.Password))
		}
		pc, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres sslmode=disable", s.Addr.Port(), l.User))
		if err != nil {
			t.Fatal(err)
		}
		pc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return ups["clinic"].dialAs(ctx, network, addr, g.certificate)
		}
		c, err := pgconn.ConnectConfig(t.Context(), pc)
		if err != nil {
			return "", err
		}
		defer c.Close(context.Background())
		r := c.ExecParams(t.Context(), "SELECT session_user", nil, nil, nil, nil).Read()
		if r.Err != nil {
			return "", r.Err
		}
		return string(r.Rows[0][0]), nil
	}
	b := &brokers{svid: func(context.Context) (*tls.Certificate, error) {
		c, err := tls.X509KeyPair(own, ownKey)
		return &c, err
	}}
	for _, workload := range []string{"batch", "host"} {
		if user, err := login(b, text, workload); err != nil || user != workload {
			t.Errorf("%s: %q, %v", workload, user, err)
		}
	}
	if _, err := login(b, text, "other"); err == nil || !strings.Contains(err.Error(), "no account") {
		t.Errorf("nobody: %v", err)
	}
	if _, err := login(b, text, "broken"); err == nil || !strings.Contains(err.Error(), "client certificate /f/batch.pem with key /f/batch.key") {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := login(b, strings.Replace(text, "server: verify-full, ca: /f/ca, name: db.test", "agent: 'off'", 1), "batch"); !errors.Is(err, protocols.ErrUntrusted) {
		t.Errorf("in clear: %v", err)
	}
	b.svid = func(context.Context) (*tls.Certificate, error) { return nil, errors.New("the agent is away") }
	if _, err := login(b, text, "host"); err == nil || !strings.Contains(err.Error(), "the agent is away") {
		t.Errorf("without the agent: %v", err)
	}
}
