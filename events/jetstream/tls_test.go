package jetstream_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/jetstream/natstest"
)

// Only who is vouched for is believed, on both sides, and who is not is told what to do.
func TestTLS(t *testing.T) {
	a, other := natstest.NewAuthority(t, t.TempDir()), natstest.NewAuthority(t, t.TempDir())
	url := natstest.URL(a.Start(t, -1))
	clear := natstest.Start(t, -1, t.TempDir(), nil)
	pair := other.Client(t, "old")
	old, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	ancient := natstest.Start(t, -1, t.TempDir(), &tls.Config{Certificates: []tls.Certificate{old}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})

	right := a.Client(t, "right")
	nc, err := jetstream.Connect(url, "", right.Option())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if st, err := nc.TLSConnectionState(); err != nil || !st.HandshakeComplete || nc.Flush() != nil {
		t.Fatal(st, err)
	}

	with := func(change func(*jetstream.TLS)) jetstream.TLS { c := right; change(&c); return c }
	foreign := other.Client(t, "foreign")
	open := a.Client(t, "open")
	if err := os.Chmod(open.Key, 0o604); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		url, want string
		tls       jetstream.TLS
	}{
		"a server that nobody vouches for":    {url, "name the certificate of who does (ca_file, --nats-ca)", with(func(c *jetstream.TLS) { c.CA = "" })},
		"no TLS settings":                     {url, "name the certificate of who does (ca_file, --nats-ca)", jetstream.TLS{}},
		"a server of another authority":       {url, "name the certificate of who does (ca_file, --nats-ca)", with(func(c *jetstream.TLS) { c.CA = foreign.CA })},
		"no client certificate":               {url, "(cert_file and key_file, --nats-cert and --nats-key)", jetstream.TLS{CA: right.CA}},
		"a client that the server knows not":  {url, "does not take the client's certificate", with(func(c *jetstream.TLS) { c.Cert, c.Key = foreign.Cert, foreign.Key })},
		"a client certificate that ran out":   {url, "does not take the client's certificate", a.Issue(t, "late", time.Now().Add(-time.Minute))},
		"an address in clear":                 {strings.Replace(url, "tls:", "nats:", 1), "write tls://", right},
		"an address without a scheme":         {strings.TrimPrefix(url, "tls://"), "write tls://", right},
		"a list with an address in clear":     {url + ",nats://127.0.0.1:1", "write tls://", right},
		"a server without TLS":                {natstest.URL(clear), "offers no TLS", right},
		"a server of TLS 1.1":                 {natstest.URL(ancient), "tls: ", jetstream.TLS{CA: pair.CA}},
		"a certificate without its key":       {url, "needs both", with(func(c *jetstream.TLS) { c.Key = "" })},
		"a certificate and another's key":     {url, "private key does not match", with(func(c *jetstream.TLS) { c.Key = foreign.Key })},
		"a key that anybody may read":         {url, "chmod o= it", open},
		"a file that is not there":            {url, "no such file", with(func(c *jetstream.TLS) { c.CA = "/nowhere.pem" })},
		"an authority that is no certificate": {url, "holds no certificate", with(func(c *jetstream.TLS) { c.CA = right.Key })},
	} {
		nc, err := jetstream.Connect(c.url, "", c.tls.Option(), nats.MaxReconnects(0))
		if err == nil {
			nc.Close()
			t.Errorf("%s: connected", what)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), s)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not: %s", what)
		}
	}
}

// A connection that is there goes on with certificates that were renewed meanwhile, and
// one that can't come about says why.
func TestRenewedCertificatesAreTaken(t *testing.T) {
	var log logged
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(was) })

	a := natstest.NewAuthority(t, t.TempDir())
	s := a.Start(t, -1)
	client := a.Client(t, "client")
	nc, err := jetstream.Connect(natstest.URL(s), "", client.Option())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	late, err := jetstream.Connect(natstest.URL(s), "", jetstream.TLS{CA: client.CA}.Option(), nats.RetryOnFailedConnect(true))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "one without a certificate says what it lacks", func() bool { return log.has("(cert_file and key_file, --nats-cert and --nats-key)") })
	late.Close()

	// The server comes back by another authority, which the client's files do not have yet.
	b := natstest.NewAuthority(t, t.TempDir())
	port := natstest.Port(s)
	s.Shutdown()
	s.WaitForShutdown()
	b.Start(t, port)
	eventually(t, "the client says whom it does not believe", func() bool { return log.has("name the certificate of who does") })
	if nc.IsConnected() {
		t.Fatal("a server of another authority is believed")
	}
	renewed := b.Client(t, "client")
	for to, from := range map[string]string{client.CA: renewed.CA, client.Cert: renewed.Cert, client.Key: renewed.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the client is back with its new certificate", func() bool { return nc.IsConnected() && nc.Flush() == nil })
}
