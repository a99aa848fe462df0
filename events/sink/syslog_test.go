package sink_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gosyslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// read takes messages with counted octets until the connection ends, or n came.
func read(t *testing.T, c net.Conn, k *taken, json bool, n int) {
	in := bufio.NewReaderSize(c, 16)
	for ; n != 0; n-- {
		size, err := in.ReadString(' ')
		if err != nil {
			return
		}
		l, err := strconv.Atoi(strings.TrimSuffix(size, " "))
		if err != nil || l > 8192 {
			t.Errorf("message of %q bytes", size)
			return
		}
		b := make([]byte, l)
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		syslogMessage(t, b, k, json)
	}
}

// syslogMessage reads a message as another implementation of RFC 5424 does.
func syslogMessage(t *testing.T, b []byte, k *taken, json bool) {
	m, err := rfc5424.NewParser().Parse(b)
	if err != nil {
		t.Errorf("%v: %s", err, b)
		return
	}
	p := m.(*rfc5424.SyslogMessage)
	checkHeader(t, p, m)
	uid := (*p.StructuredData)["sallyport@32473"]["uid"]
	if json {
		if v, err := ocsf.Decode([]byte(*p.Message)); err != nil || v.UID != uid {
			t.Errorf("%v: %s", err, *p.Message)
		}
		k.add(uid)
		return
	}
	head, ext := cef(t, *p.Message)
	if head[0] != "CEF:0" || head[4] != "block" || head[6] != "6" || ext["externalId"] != uid ||
		ext["suser"] != session.Actor || ext["suid"] != session.Workload || ext["cs1"] != session.Principal || ext["cs1Label"] != "principal" ||
		ext["reason"] != "agents may not delete patients" || ext["msg"] != "delete from patients where note = $1" || ext["act"] != "block" {
		t.Errorf("%q %q", head, ext)
	}
	k.add(uid)
}

func checkHeader(t *testing.T, p *rfc5424.SyslogMessage, m gosyslog.Message) {
	if !m.Valid() || *p.Facility != 13 || *p.Severity != 4 || *p.Hostname != "h1" || *p.Appname != "sallyport" || *p.MsgID != "block" || p.Timestamp.Year() != 2026 {
		t.Errorf("%+v", p)
	}
}

// cef reads a message as CEF's specification says.
func cef(t *testing.T, s string) (head []string, ext map[string]string) {
	var field strings.Builder
	i := 0
	for ; i < len(s) && len(head) < 7; i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			field.WriteByte(s[i])
		case s[i] == '|':
			head = append(head, field.String())
			field.Reset()
		default:
			field.WriteByte(s[i])
		}
	}
	if len(head) != 7 || strings.ContainsAny(s, "\n\r") {
		t.Fatalf("no CEF: %s", s)
	}
	ext = map[string]string{}
	key, rest := "", s[i:]
	var value strings.Builder
	word := 0 // where the last word of value begins
	for j := 0; j < len(rest); j++ {
		switch c := rest[j]; {
		case c == '\\' && j+1 < len(rest):
			j++
			value.WriteByte(rest[j])
		case c == '=':
			all := value.String()
			if key != "" {
				ext[key] = strings.TrimSuffix(all[:word], " ")
			}
			key = all[word:]
			value.Reset()
			word = 0
		default:
			value.WriteByte(c)
			if c == ' ' {
				word = value.Len()
			}
		}
	}
	ext[key] = value.String()
	return head, ext
}

// certificate makes one for 127.0.0.1, and writes it for the sink to trust.
func certificate(t *testing.T) (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "siem"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestSyslogThroughFaults(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t)
	_, wrong := certificate(t)
	for name, way := range map[string]struct {
		transport, format string
		tls               bool
	}{"tcp": {"tcp", "cef", false}, "tls": {"tls, ca: " + ca, "cef", true}, "json": {"tcp", "json", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var k taken
			var conns atomic.Int64
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					raw := c.(*net.TCPConn)
					if way.tls {
						c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
					}
					// One is reset at once, one after a part, and one is left with much that
					// was acknowledged and not read.
					switch n := conns.Add(1); n {
					case 1:
						raw.SetLinger(0)
						c.Close()
					case 2:
						read(t, c, &k, way.format == "json", 3)
						raw.SetLinger(0)
						c.Close()
					case 3:
						read(t, c, &k, way.format == "json", 25)
						c.Close()
					default:
						go func() {
							read(t, c, &k, way.format == "json", -1)
							c.Close()
						}()
					}
				}
			}()
			w := newWorld(t, "it")
			s := load(t, fmt.Sprintf("  syslog: {address: %q, transport: %s, format: %s}\n", l.Addr(), way.transport, way.format))
			w.runSink(t, s, sink.Hooks{})
			w.add(80)
			// An end shows to who sends; each connection has its own time.
			for n := int64(1); n <= 4; n++ {
				for end := time.Now().Add(wait); conns.Load() < n; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%d connections", conns.Load())
					}
					w.add(1)
				}
			}
			k.until(t, uids(80))
			w.acknowledged(t)
			if got := rejectedOf(t, s); len(got) > 0 || conns.Load() < 4 {
				t.Errorf("refused: %v, %d connections", got, conns.Load())
			}
		})
	}
	t.Run("stranger", func(t *testing.T) { // whose certificate nobody vouches for
		t.Parallel()
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if b, _ := io.ReadAll(c); len(b) > 0 {
					t.Errorf("it was told %s", b)
				}
			}
		}()
		w := newWorld(t, "it")
		failed := make(chan error, 100)
		w.runSink(t, load(t, fmt.Sprintf("  syslog: {address: %q, ca: %s}\n", l.Addr(), wrong)), sink.Hooks{Retry: func(err error) {
			select {
			case failed <- err:
			default:
			}
		}})
		w.add(1)
		select {
		case err := <-failed:
			if !strings.Contains(err.Error(), "certificate") {
				t.Error(err)
			}
		case <-time.After(wait):
			t.Fatal("nothing was tried")
		}
	})
}

func TestSyslogOverUDP(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var k taken
	go func() {
		b := make([]byte, 65535)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			syslogMessage(t, b[:n], &k, false)
		}
	}()
	w := newWorld(t, "it")
	w.runSink(t, load(t, fmt.Sprintf("  syslog: {address: %q, transport: udp}\n", c.LocalAddr())), sink.Hooks{})
	w.add(10)
	k.until(t, uids(10))
}

// certificateFiles writes a server's certificate as rsyslog reads it.
func certificateFiles(t *testing.T, dir string, cert tls.Certificate, ca string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"ca.pem": public, "server.pem": public, "server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
