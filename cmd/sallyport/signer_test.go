package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/tlsport"
)

// startTestSigner starts a signer on an authority's files, with its order. What
// it is asked goes through the connection; it ends with the order's pipe.
func startTestSigner(t *testing.T, at authorityFiles, making bool, o signingOrder) (*privsep.Child, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	asks := os.NewFile(uintptr(fds[0]), "asks")
	defer asks.Close()
	conn, err := net.FileConn(asks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	files, err := signerFiles(fds[1], at, making)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	child, err := privsep.StartHelper(privsep.Options{
		Path: "/proc/self/exe", Args: []string{"sallyport", signerCommand}, UID: daemonUID, GID: daemonUID, Files: files, Stderr: os.Stderr,
	}, privsep.SignerGroup, theirs, null)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ours.Close()
		_ = child.Signal(os.Kill)
		_ = child.Wait()
	})
	if err := json.NewEncoder(ours).Encode(o); err != nil {
		t.Fatal(err)
	}
	return child, conn
}

func testAuthority(t *testing.T) authorityFiles {
	t.Helper()
	at := authorityAt(filepath.Join(t.TempDir(), "state"))
	if err := os.Mkdir(at.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return at
}

// The process that has had a root's key in its memory does not live on, and the
// next has the intermediate's alone.
func TestSignerMakesAnAuthorityAndEnds(t *testing.T) {
	at := testAuthority(t)
	db := tlsport.Permitted{Names: []string{"db"}}
	order := signingOrder{Host: "h", Limits: db, Sign: db}
	maker, _ := startTestSigner(t, at, true, order)
	select {
	case <-maker.Done():
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if err := maker.Wait(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(at.root)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no root: %s", text)
	}
	again, conn := startTestSigner(t, at, false, order)
	a, b := net.Pipe()
	defer a.Close()
	cfg := tlsport.NewLeaves(conn, time.Now).Config(func(n string) bool { return n == "db" }, "")
	go func() {
		defer b.Close()
		_ = tls.Server(b, cfg).Handshake()
	}()
	c := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: "db"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if chain := c.ConnectionState().VerifiedChains[0]; len(chain) != 3 {
		t.Errorf("%d certificates from leaf to root", len(chain))
	}
	select {
	case <-again.Done():
		t.Error("the second has ended too")
	default:
	}
	key, err := os.ReadFile(at.key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tlsport.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := tlsport.ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	if root.PublicKey.(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Error("the root's key is kept")
	}
}

// earlier puts an authority there as earlier versions made it: a root that signs
// leaves itself.
func earlier(t *testing.T, at authorityFiles, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sallyport on " + host, Organization: []string{"sallyport"}},
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(3, 0, 0), KeyUsage: x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, PermittedDNSDomainsCritical: true,
		PermittedDNSDomains: []string{"localhost"}, PermittedIPRanges: []*net.IPNet{{IP: net.IP{127, 0, 0, 1}, Mask: net.CIDRMask(32, 32)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(at.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{at.root: {Type: "CERTIFICATE", Bytes: der}, at.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(at.root, 0o644); err != nil {
		t.Fatal(err)
	}
}

// An authority of an earlier version signs nothing any more, all say what to do,
// and after trust renew, which keeps its root beside the new one, all is well.
func TestAuthorityOfAnEarlierVersion(t *testing.T) {
	const why = "made by an earlier version"
	at := testAuthority(t)
	earlier(t, at, "h")
	if child, _ := startTestSigner(t, at, true, signingOrder{}); child.Wait() == nil {
		t.Error("the signer has it")
	}

	server := startPostgres(t)
	h := newHost(t, server)
	h.catalog = ", catalog: {user: postgres}, tls: {names: [localhost]}"
	h.more = "authority: {enabled: true}\n"
	h.configure()
	at = authorityAt(filepath.Join(h.dir, "state"))
	earlier(t, at, "test")
	old, err := os.ReadFile(at.root)
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	if code := h.wait(); code != 2 || !strings.Contains(h.log.String(), why) || !strings.Contains(h.log.String(), "sallyport trust renew") {
		t.Errorf("run: exit code %d; log:\n%s", code, h.log)
	}
	for _, args := range [][]string{{"trust", "show"}, {"trust", "install", "--dry-run"}} {
		if out, err := command(append(args, "--root", h.dir, "-c", h.config)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	if out, err := command("trust", "renew", "-c", h.config); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := command("trust", "show", "--root", h.dir, "-c", h.config)
	if before := parseAll(old)[0]; err != nil || !strings.Contains(out, "before       "+tlsport.Fingerprint(before)) {
		t.Errorf("%v\n%s", err, out)
	}
	h.serve()
	trusted := filepath.Join(h.dir, "trusted.pem")
	if text, err := os.ReadFile(at.root); err != nil || os.WriteFile(trusted, text, 0o644) != nil {
		t.Fatal(err)
	}
	got, _ := h.agent(h.token("agent-a"), "psql", "-X", "-At", "host=localhost port="+port(server)+" sslmode=verify-full sslrootcert="+trusted, "-c", "SELECT 'in'").CombinedOutput()
	if string(got) != "in\n" {
		t.Errorf("%s", got)
	}
	h.stop()
}
