package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events/jetstream"
)

// The page as it is run: by https with its own certificate, until it is stopped.
func TestApprovals(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.Options{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Host: "h1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// The certificate of httptest, which is made for 127.0.0.1.
	own := httptest.NewUnstartedServer(nil)
	own.StartTLS()
	cert := own.TLS.Certificates[0]
	own.Close()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write("page.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	write("page.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	text := fmt.Sprintf("nats: %s\nnkey: %s\nhosts: [h1]\nlisten: 127.0.0.1:0\nbase_url: https://127.0.0.1\ntls: {cert: page.pem, key: page.key}\nissuers: [{url: http://127.0.0.1:1, client: approvers}]\n",
		s.URL(), s.SeedFile(jetstream.RoleApprovals))
	config := write("approvals.yaml", text)
	if code := run(t.Context(), []string{"approvals", "check", "--config", config}); code != 0 {
		t.Fatal(code)
	}
	for _, bad := range []string{strings.Replace(text, "page.key", "page.pem", 1), strings.Replace(text, "hosts", "host", 1)} {
		if code := run(t.Context(), []string{"approvals", "check", "--config", write("bad.yaml", bad)}); code != 2 {
			t.Errorf("exit code %d", code)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	set, log, err := (&approvalsOptions{fileOptions{config: config, logFormat: "text"}}).load()
	if err != nil {
		t.Fatal(err)
	}
	where := make(chan string, 1)
	ended := make(chan error, 1)
	go func() { ended <- runApprovals(ctx, set, log, func(a net.Addr) { where <- a.String() }) }()
	addr := ""
	select {
	case addr = <-where:
	case err := <-ended:
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	get := func(path string, status int, want string) {
		t.Helper()
		resp, err := c.Get("https://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s: %s", path, resp.Status, b)
		}
	}
	get("/approvals/h1/ap-7ck3n2v5q4hz6w2x2m7d", http.StatusOK, "Log in at http://127.0.0.1:1")
	get("/login/0", http.StatusBadGateway, "see that it runs") // the issuer is away
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
