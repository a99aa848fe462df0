package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of a target's answer.
const maxAnswer = 8 << 20

// poster is the HTTP side of a target. It follows no redirects: what goes out
// goes where the configuration says.
type poster struct {
	c   *http.Client
	url string
}

func newPoster(address, ca string) (*poster, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyFromEnvironment
	t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 2, 45*time.Second
	var err error
	if t.TLSClientConfig, err = tlsConfig(ca); err != nil {
		return nil, err
	}
	return &poster{url: address, c: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}, nil
}

func tlsConfig(ca string) (*tls.Config, error) {
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

func (p *poster) close() { p.c.CloseIdleConnections() }

// reply is a target's answer to one request.
type reply struct {
	status int
	body   []byte
	after  time.Duration
}

// post returns an error when there was no answer, or not all of it: the target
// may then have what was sent, and gets it again.
func (p *poster) post(ctx context.Context, method, path string, header http.Header, body []byte) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header = header
	req.Header.Set("User-Agent", "sallyport")
	res, err := p.c.Do(req)
	if err != nil {
		var u *url.Error // names the URL, which may hold a key
		if errors.As(err, &u) {
			err = u.Err
		}
		return reply{}, err
	}
	defer res.Body.Close()
	r := reply{status: res.StatusCode, after: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	if r.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		return r, fmt.Errorf("its answer broke off: %w", err)
	}
	if len(r.body) > maxAnswer {
		return r, fmt.Errorf("its answer is larger than %d bytes", maxAnswer)
	}
	return r, nil
}

func (r *reply) ok() bool { return r.status >= 200 && r.status < 300 }

// err says what the target answered, in its status only: targets repeat what they
// were sent, and a log is no place for it.
func (r *reply) err() error {
	return fmt.Errorf("it answered %d %s", r.status, http.StatusText(r.status))
}

// retryAfter reads the header (RFC 9110, 10.2.3): seconds, or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// clean makes one line of at most n bytes of what somebody else wrote.
func clean(s string, n int) string {
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

// checkURL refuses what would send events or keys in clear over a network.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("url: must be one like https://siem.example.org:8088")
	}
	if u.User != nil {
		return errors.New("url: a password does not belong here: name a file")
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return errors.New("url: http is for loopback only: use https")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// private refuses a file that anybody may read or write.
func private(file string) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s: anybody may read or write it: chmod o= it", file)
	}
	return nil
}

// secret reads a key from a file that others can't read.
func secret(file string) (string, error) {
	if err := private(file); err != nil {
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
