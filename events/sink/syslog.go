package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Syslog of a sink of RFC 5424 messages: over TCP and TLS with counted octets
// (RFC 6587, RFC 5425), over UDP one in each datagram (RFC 5426). Address is
// required.
type Syslog struct {
	Address   string `yaml:"address"`   // host:port
	Transport string `yaml:"transport"` // "tls" (default), "tcp", "udp"
	Format    string `yaml:"format"`    // of the message: "cef" (default) or "json", the published event
	Insecure  bool   `yaml:"insecure"`  // tcp or udp to another host than this, in clear
	Facility  int    `yaml:"facility"`  // default 13, log audit
	MaxBytes  int    `yaml:"max_bytes"` // of a message; longer CEF is cut; default 8192, over UDP 2048
	CA        string `yaml:"ca"`        // PEM of the server's authority; default: the system's
	Cert      string `yaml:"cert"`      // PEM, of the client
	Key       string `yaml:"key"`
}

// syslog holds one connection.
//
// Syslog has no acknowledgement. Over TCP a batch counts as sent when the other
// side's kernel has acknowledged all of its bytes and has not closed. What it
// had acknowledged and not read when the connection broke is gone: so what was
// sent in the last minute before is sent again on the next one.
type syslog struct {
	Syslog
	tls    *tls.Config
	conn   net.Conn
	raw    *net.TCPConn // below conn; nil over UDP
	broken *atomic.Pointer[error]
	done   chan struct{}
	sent   []sent // lately, over TCP, oldest first
}

// sent is what may have to be sent again.
type sent struct {
	at time.Time
	b  []byte
}

const (
	againTime  = time.Minute
	againBytes = 32 << 20
)

func newSyslog(o Syslog) (*syslog, error) {
	s := &syslog{Syslog: o}
	if o.Transport != "tls" {
		return s, nil
	}
	var err error
	if s.tls, err = outbound.TLS(o.CA); err != nil {
		return nil, err
	}
	if o.Cert != "" {
		if err := outbound.Private(o.Key); err != nil {
			return nil, err
		}
		c, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, err
		}
		s.tls.Certificates = []tls.Certificate{c}
	}
	s.tls.ServerName, _, err = net.SplitHostPort(o.Address)
	return s, err
}

// Send implements Target.
func (s *syslog) Send(ctx context.Context, batch []Event) Answer {
	a := s.send(ctx, batch)
	if a.Err != nil && len(a.Again) > 0 {
		s.drop()
	}
	return a
}

func (s *syslog) send(ctx context.Context, batch []Event) (a Answer) {
	if err := s.connect(ctx); err != nil {
		return failed(batch, 0, err)
	}
	var out []byte
	for i := range batch {
		m := s.message(&batch[i])
		if len(m) > s.MaxBytes {
			a.Refused = append(a.Refused, Refusal{batch[i], fmt.Errorf("%d bytes are more than max_bytes %d", len(m), s.MaxBytes)})
			continue
		}
		if s.raw != nil {
			out = append(append(strconv.AppendInt(out, int64(len(m)), 10), ' '), m...)
			continue
		}
		if _, err := s.conn.Write(m); err != nil {
			return Answer{Again: batch[i:], Refused: a.Refused, Err: err}
		}
	}
	if s.raw == nil || len(out) == 0 {
		return a
	}
	if err := s.write(ctx, out); err != nil {
		return failed(batch, 0, err)
	}
	s.keep(out)
	return a
}

// keep notes what was sent, and forgets what is older, or more, than is sent again.
func (s *syslog) keep(out []byte) {
	now, size := time.Now(), 0
	s.sent = append(s.sent, sent{now, out})
	from := len(s.sent)
	for ; from > 0; from-- {
		c := &s.sent[from-1]
		if size += len(c.b); size > againBytes && from < len(s.sent) || now.Sub(c.at) > againTime {
			break
		}
	}
	s.sent = slices.Delete(s.sent, 0, from)
}

func (s *syslog) connect(ctx context.Context) error {
	if s.conn != nil {
		if s.broken == nil || s.broken.Load() == nil {
			return nil
		}
		s.drop()
	}
	network := "tcp"
	if s.Transport == "udp" {
		network = "udp"
	}
	short, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(short, network, s.Address)
	if err != nil {
		return err
	}
	s.conn, s.raw, s.broken = conn, nil, nil
	if s.Transport == "udp" {
		return nil
	}
	s.raw = conn.(*net.TCPConn)
	if s.tls != nil {
		t := tls.Client(conn, s.tls)
		if err := t.HandshakeContext(short); err != nil {
			conn.Close()
			s.conn, s.raw = nil, nil
			return err
		}
		s.conn = t
	}
	s.watch()
	for _, c := range s.sent {
		if err := s.write(ctx, c.b); err != nil {
			s.drop()
			return err
		}
	}
	return nil
}

// watch reads what a server does not send: an end shows there first.
func (s *syslog) watch() {
	s.broken, s.done = new(atomic.Pointer[error]), make(chan struct{})
	go func(c net.Conn, broken *atomic.Pointer[error], done chan struct{}) {
		defer close(done)
		b := make([]byte, 512)
		for {
			if _, err := c.Read(b); err != nil {
				err = fmt.Errorf("the connection ended: %w", err)
				broken.Store(&err)
				return
			}
		}
	}(s.conn, s.broken, s.done)
}

// write returns nil once the other side's TCP has all of b.
func (s *syslog) write(ctx context.Context, b []byte) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(sendTime)
	}
	// Canceled is told by the deadline: a write that hangs must end.
	stop := context.AfterFunc(ctx, func() { s.raw.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.raw.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left, err := unacknowledged(s.raw)
		if err != nil {
			return err
		}
		if err := s.broken.Load(); err != nil {
			return *err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d bytes were not acknowledged: %w", left, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// unacknowledged returns how many bytes the other side's TCP has not
// acknowledged (tcp(7), SIOCOUTQ).
func unacknowledged(c *net.TCPConn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { n, inner = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	return n, errors.Join(err, inner)
}

func (s *syslog) drop() {
	if s.conn == nil {
		return
	}
	s.conn.Close()
	if s.broken != nil {
		<-s.done
	}
	s.conn, s.raw, s.broken = nil, nil, nil
}

// Close implements Target.
func (s *syslog) Close() error { s.drop(); return nil }

// severities of RFC 5424, by OCSF's severity_id.
var severities = map[int]int{1: 6, 2: 5, 3: 4, 4: 3, 5: 2, 6: 1}

// message is one event as RFC 5424 has it.
func (s *syslog) message(e *Event) []byte {
	var b bytes.Buffer
	sev, ok := severities[severity(e)]
	if !ok {
		sev = 6
	}
	fmt.Fprintf(&b, "<%d>1 %s %s sallyport - %s ", s.Facility*8+sev, e.View.Time.UTC().Format("2006-01-02T15:04:05.000000Z"),
		token(e.Host, 255), token(e.Kind.String(), 32))
	// 32473 is the enterprise number of examples (RFC 5612): sallyport has none.
	fmt.Fprintf(&b, `[sallyport@32473 uid="%s" session="%s"]`, param(e.UID), param(e.View.Session))
	if s.Format == "json" {
		b.WriteByte(' ')
		b.Write(e.JSON)
		return b.Bytes()
	}
	b.WriteByte(' ')
	b.WriteString(CEF(e, s.MaxBytes-b.Len()))
	return b.Bytes()
}

// token is PRINTUSASCII without spaces.
func token(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), n)]
}

var paramEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

func param(s string) string { return paramEscape.Replace(outbound.Clean(s, 128)) }
