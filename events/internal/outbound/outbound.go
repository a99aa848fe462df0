// Package outbound is what programs that tell others of events share: HTTP requests
// to where the configuration says and nowhere else, secrets from files, and one line
// of what somebody else wrote.
package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/internal/loopback"
)

// MaxAnswer bounds what is read of a target's answer.
const MaxAnswer = 8 << 20

// Poster is the HTTP side of a target. It follows no redirects: what goes out
// goes where the configuration says.
type Poster struct {
	c   *http.Client
	url string
}

// New returns a Poster to an address; ca is a file of certificates (PEM) that it is
// believed by, "" for the system's.
func New(address, ca string) (*Poster, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyFromEnvironment
	t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 2, 45*time.Second
	var err error
	if t.TLSClientConfig, err = TLS(ca); err != nil {
		return nil, err
	}
	return &Poster{url: address, c: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}, nil
}

// TLS returns the settings of a client that believes those of a file, "" for the
// system's.
func TLS(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return c, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: holds no certificate (PEM)", ca)
	}
	return c, nil
}

// Close lets go of idle connections.
func (p *Poster) Close() { p.c.CloseIdleConnections() }

// Reply is a target's answer to one request.
type Reply struct {
	Status int
	Body   []byte
	After  time.Duration // that it asked to wait
}

// Post returns an error when there was no answer, or not all of it: the target
// may then have what was sent, and gets it again.
func (p *Poster) Post(ctx context.Context, method, path string, header http.Header, body []byte) (Reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(body))
	if err != nil {
		return Reply{}, err
	}
	req.Header = header
	req.Header.Set("User-Agent", "sallyport")
	res, err := p.c.Do(req)
	if err != nil {
		var u *url.Error // names the URL, which may hold a key
		if errors.As(err, &u) {
			err = u.Err
		}
		return Reply{}, err
	}
	defer res.Body.Close()
	r := Reply{Status: res.StatusCode, After: RetryAfter(res.Header.Get("Retry-After"), time.Now())}
	if r.Body, err = io.ReadAll(io.LimitReader(res.Body, MaxAnswer+1)); err != nil {
		return r, fmt.Errorf("its answer broke off: %w", err)
	}
	if len(r.Body) > MaxAnswer {
		return r, fmt.Errorf("its answer is larger than %d bytes", MaxAnswer)
	}
	return r, nil
}

// OK reports a status of 200 to 299.
func (r *Reply) OK() bool { return r.Status >= 200 && r.Status < 300 }

// Err says what the target answered, in its status only: targets repeat what they
// were sent, and a log is no place for it.
func (r *Reply) Err() error {
	return fmt.Errorf("it answered %d %s", r.Status, http.StatusText(r.Status))
}

// RetryAfter reads the header (RFC 9110, 10.2.3): seconds, or a date.
func RetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// Clean makes one line of at most n bytes of what somebody else wrote.
func Clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// CheckURL refuses what would send events or keys in clear over a network.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("url: must be one like https://siem.example.org:8088")
	}
	if u.User != nil {
		return errors.New("url: a password does not belong here: name a file")
	}
	if u.Scheme == "http" && !loopback.Host(u.Hostname()) {
		return errors.New("url: http is for loopback only: use https")
	}
	return nil
}

// Private refuses a file that anybody may read or write.
func Private(file string) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s: anybody may read or write it: chmod o= it", file)
	}
	return nil
}

// Secret reads a key from a file that others can't read.
func Secret(file string) (string, error) {
	if err := Private(file); err != nil {
		return "", err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", fmt.Errorf("%s: must hold one line", file)
	}
	return s, nil
}

// CheckFile refuses what can't be read now, while somebody looks.
func CheckFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
