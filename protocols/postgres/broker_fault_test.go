package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

func auth(kind byte, more string) []byte { return msg('R', "\x00\x00\x00"+string(kind)+more) }

// A server that does not keep to the exchange is not believed: the client is
// told so natively, nothing runs, and no secret has been said in clear.
func TestBrokerServerThatLies(t *testing.T) {
	const offer, plus = "SCRAM-SHA-256\x00\x00", "SCRAM-SHA-256-PLUS\x00\x00"
	salt := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	// challenge answers the first message with the client's own nonce.
	challenge := func(first []byte, rest string) []byte {
		_, nonce, _ := strings.Cut(string(first), ",r=")
		return auth(11, "r="+nonce+rest)
	}
	ready := join(auth(0, ""), msg('K', "\x00\x00\x00\x01\x00\x00\x00\x02"), postgrestest.Ready())
	hear := func(r *bufio.Reader) []byte {
		_, b, _ := postgrestest.Read(r)
		return b
	}
	for name, serve := range map[string]func(c net.Conn, r *bufio.Reader){
		"lets everybody in":         func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(ready) },
		"asks for clear text":       func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(3, "")) },
		"asks for md5":              func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(5, "salt")) },
		"asks for GSSAPI":           func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(7, "")) },
		"another mechanism":         func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(10, "OAUTHBEARER\x00\x00")) },
		"binding without a channel": func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(10, plus)) },
		"no mechanism":              func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(10, "\x00")) },
		"a list without an end":     func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(10, "SCRAM-SHA-256")) },
		"begins in the middle":      func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(11, "r=x,s=eA==,i=4096")) },
		"begins at the end":         func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(auth(12, "v=eA==")) },
		"no kind":                   func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(msg('R', "\x00\x00")) },
		"ready at once":             func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write(postgrestest.Ready()) },
		"too long":                  func(c net.Conn, _ *bufio.Reader) { _, _ = c.Write([]byte{'R', 0, 2, 0, 0}) },
		"in before the proof": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			hear(r)
			_, _ = c.Write(ready)
		},
		"in without its own proof": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=4096"))
			hear(r)
			_, _ = c.Write(ready)
		},
		"a wrong proof": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=4096"))
			hear(r)
			_, _ = c.Write(auth(12, "v="+base64.StdEncoding.EncodeToString(make([]byte, 32))))
			_, _ = c.Write(ready)
		},
		"an error for a proof": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=4096"))
			hear(r)
			_, _ = c.Write(auth(12, "e=other-error"))
			_, _ = c.Write(ready)
		},
		"few iterations": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=1"))
		},
		"too many iterations": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=2000000000"))
		},
		"the client's nonce alone": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), ",s="+salt+",i=4096"))
		},
		"another nonce": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			hear(r)
			_, _ = c.Write(auth(11, "r=abcdefghijklmnopqrstuvwxyz0123456789,s="+salt+",i=4096"))
		},
		"an extension": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			_, _ = c.Write(challenge(hear(r), "more,s="+salt+",i=4096,m=must"))
		},
		"the offer twice": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			hear(r)
			_, _ = c.Write(auth(10, offer))
		},
		"clear text after the offer": func(c net.Conn, r *bufio.Reader) {
			_, _ = c.Write(auth(10, offer))
			hear(r)
			_, _ = c.Write(auth(3, ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := &vaultOf{user: "billing", password: upstream}
			to := &tap{}
			p := open(t, maskPolicy, protocoltest.Options{Account: v.account(protocols.Bound), Dial: to.dial(func(context.Context) (net.Conn, error) {
				door, far := protocoltest.Pair(t)
				go func() {
					defer far.Close()
					r := bufio.NewReader(far)
					if _, err := readStartup(r); err != nil {
						return
					}
					serve(far, r)
					_, _ = r.ReadByte()
				}()
				return door, nil
			})})
			r := &raw{t: t, Conn: p.Dial()}
			r.send(append(startup(3<<16, "user", claimed, "database", "postgres"), enc(q("SELECT 'ran'"))...))
			out := r.until(0, 1)
			if !strings.HasPrefix(out, "E SFATAL") || !strings.HasSuffix(out, "EOF\n") || strings.Contains(out, "Z ") {
				t.Error(out)
			}
			err := p.End()
			if err == nil {
				t.Error("it ended as if nothing was wrong")
			}
			said := to.String()
			for _, never := range []string{upstream, "ran", claimed} {
				if strings.Contains(said, never) || err != nil && strings.Contains(err.Error(), never) || never == upstream && strings.Contains(out, never) {
					t.Errorf("%q was said: %q, %v", never, said, err)
				}
			}
			v.wiped(t)
		})
	}
}

// readStartup reads a StartupMessage.
func readStartup(r *bufio.Reader) ([]byte, error) {
	h, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	b := make([]byte, int(h[2])<<8|int(h[3]))
	_, err = io.ReadFull(r, b)
	return b, err
}

// Whatever a server says to a login, its account's secret is not said in clear,
// the client is told in messages, and nothing of it runs.
func FuzzBrokerServer(f *testing.F) {
	salt := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	ready := join(auth(0, ""), msg('S', "client_encoding\x00UTF8\x00"), msg('K', "\x00\x00\x00\x01\x00\x00\x00\x02"), postgrestest.Ready())
	for _, b := range [][]byte{
		ready, auth(3, ""), auth(5, "salt"), join(auth(5, "salt"), ready), auth(10, "SCRAM-SHA-256\x00\x00"),
		join(auth(10, "SCRAM-SHA-256\x00\x00"), auth(11, "r=x,s="+salt+",i=4096"), auth(12, "v=eA=="), ready),
		postgrestest.Error("FATAL", "28P01", "no"), postgrestest.Error("FATAL", "53300", "too many"), msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00"), msg('N', "SNOTICE\x00Mhello\x00\x00"),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		v := &vaultOf{user: "billing", password: upstream}
		to := &tap{}
		p := protocoltest.Open(t, protocoltest.Options{
			Protocol: relaying(), Engine: engine(t, allowAll), Account: v.account(protocols.Bound),
			Dial: to.dial(func(context.Context) (net.Conn, error) {
				door, far := protocoltest.Pair(t)
				go func() {
					defer far.Close()
					if _, err := readStartup(bufio.NewReader(far)); err == nil {
						_, _ = far.Write(answer)
					}
				}()
				return door, nil
			}),
		})
		c := p.Dial()
		_, _ = c.Write(append(startup(3<<16, "user", claimed, "database", "postgres"), enc(q("SELECT 'ran'"))...))
		got, _ := io.ReadAll(c)
		if err := p.End(); err != nil && strings.Contains(err.Error(), upstream) {
			t.Errorf("the error holds the secret: %v", err)
		}
		said := to.String()
		if strings.Contains(said, upstream) || strings.Contains(said, "ran") || strings.Contains(said, claimed) {
			t.Errorf("the server was told %q", said)
		}
		for r := bytes.NewReader(got); r.Len() > 0; {
			if typ, _, err := postgrestest.Read(r); err != nil || !strings.ContainsRune("REv", rune(typ)) {
				t.Fatalf("%v, type %q in %q", err, typ, got)
			}
		}
		v.wiped(t)
	})
}
