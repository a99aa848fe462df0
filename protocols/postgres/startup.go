package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// Request codes in the place of a version (src/include/libpq/pqcomm.h).
const (
	protocolMajor  = 3
	newestMinor    = 2 // PostgreSQL 18: cancel keys of up to 256 bytes
	cancelCode     = 80877102
	sslCode        = 80877103
	gssCode        = 80877104
	protocolLatest = 3 << 16
)

// greeting is what a client says before its session begins. It is read in
// exact pieces: nothing behind it is touched.
type greeting struct {
	conn    net.Conn    // the secured one, once the client has asked for that
	tls     *tls.Config // nil: encryption is answered N
	secured *tls.Conn   // conn, if it is in TLS
	unread  bool        // TLS is the server's business: read ends with errUnread where it begins
	direct  []byte      // what was read of a direct TLS that is unread; nil: SSLRequest was
	version uint32
	params  []parameter
	cancel  []byte // process id and secret key of a cancel request
}

type parameter struct{ name, value string }

var errGreeting = errors.New("postgres: what the client sent is not a greeting of this protocol")

// read reads up to the StartupMessage or the CancelRequest. GSSENCRequest is
// answered N, SSLRequest too where there is no TLS; each once. What begins with
// a TLS record has TLS from its first byte on (PostgreSQL 17: direct TLS), and
// must name the protocol.
func (g *greeting) read(ctx context.Context) error {
	var ssl, gss bool
	for {
		var h [8]byte
		if _, err := io.ReadFull(g.conn, h[:]); err != nil {
			return err
		}
		n, code := int64(binary.BigEndian.Uint32(h[:])), binary.BigEndian.Uint32(h[4:])
		switch {
		case h[0] == tlsRecord && g.unread && !ssl && !gss:
			g.direct = h[:]
			return errUnread
		case h[0] == tlsRecord && g.tls != nil && !ssl && !gss:
			ssl, gss = true, true // nothing is asked for inside
			if err := g.secure(ctx, h[:], true); err != nil {
				return err
			}
		case n < 8 || n > maxStartup:
			return errGreeting
		case code == cancelCode && keyFits(n-8):
			g.cancel = make([]byte, n-8)
			_, err := io.ReadFull(g.conn, g.cancel)
			return err
		case code == sslCode && n == 8 && !ssl && (g.tls != nil || g.unread):
			ssl, gss = true, true
			// What was sent in clear behind the request would be taken for something
			// that was encrypted (CVE-2021-23214).
			if stuffed(g.conn) {
				return errGreeting
			}
			if _, err := g.conn.Write([]byte{'S'}); err != nil {
				return err
			}
			if g.unread {
				return errUnread
			}
			if err := g.secure(ctx, nil, false); err != nil {
				return err
			}
		case code == sslCode && n == 8 && !ssl, code == gssCode && n == 8 && !gss:
			ssl, gss = ssl || code == sslCode, gss || code == gssCode
			if _, err := g.conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case code>>16 == protocolMajor && n > 8:
			body := make([]byte, n-8)
			if _, err := io.ReadFull(g.conn, body); err != nil {
				return err
			}
			g.version = code
			return g.parse(body)
		default:
			return errGreeting
		}
	}
}

func (g *greeting) parse(body []byte) error {
	c := cursor{b: body}
	seen := map[string]bool{}
	for {
		name := string(c.str())
		if c.bad {
			return errGreeting
		}
		if name == "" {
			break
		}
		value := string(c.str())
		if c.bad || seen[name] {
			return errGreeting
		}
		seen[name] = true
		g.params = append(g.params, parameter{name, value})
	}
	if !c.end() {
		return errGreeting
	}
	return nil
}

// applicationName is a setting: unlike "user" its name is matched without
// regard to case, and the last counts.
const applicationName = "application_name"

func (p *parameter) is(name string) bool {
	return p.name == name || name == applicationName && strings.EqualFold(p.name, name)
}

func (g *greeting) get(name string) (value string) {
	for i := range g.params {
		if g.params[i].is(name) {
			value = g.params[i].value
		}
	}
	return value
}

func (g *greeting) set(name, value string) {
	g.params = slices.DeleteFunc(g.params, func(p parameter) bool { return p.is(name) })
	g.params = append(g.params, parameter{name, value})
}

// append appends the StartupMessage.
func (g *greeting) append(b []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0), g.version)
	for _, p := range g.params {
		b = appendString(appendString(b, p.name), p.value)
	}
	return finish(append(b, 0), at)
}

// settings returns the run-time parameters that a greeting sets, those of its
// command-line options included.
func (g *greeting) settings() ([]parameter, error) {
	var out []parameter
	for _, p := range g.params {
		switch p.name {
		case "user", "database", "replication":
		case "options":
			more, err := commandLine(p.value)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		default:
			if strings.HasPrefix(p.name, "_pq_.") {
				return nil, fmt.Errorf("protocol option %s is not understood", clip(p.name))
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// commandLine reads "-c name=value" and "--name=value", as the server's
// pg_split_opts and process_postgres_switches do. Other switches are refused.
func commandLine(s string) ([]parameter, error) {
	var words []string
	var w strings.Builder
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			if in {
				words = append(words, w.String())
				w.Reset()
				in = false
			}
		case c == '\\' && i+1 < len(s):
			i++
			w.WriteByte(s[i])
			in = true
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, w.String())
	}
	var out []parameter
	for i := 0; i < len(words); i++ {
		set := words[i]
		switch {
		case set == "-c" && i+1 < len(words):
			i++
			set = words[i]
		case strings.HasPrefix(set, "--"):
			set = set[2:]
		case strings.HasPrefix(set, "-c") && len(set) > 2:
			set = set[2:]
		default:
			return nil, fmt.Errorf("command-line option %s is not understood", clip(set))
		}
		name, value, ok := strings.Cut(set, "=")
		if !ok {
			return nil, fmt.Errorf("command-line option %s is not understood", clip(set))
		}
		out = append(out, parameter{strings.ReplaceAll(name, "-", "_"), value})
	}
	return out, nil
}

// clip shortens what a client sent for a message.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
