package protocoltest

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// clientCut: a client that is gone after any byte, by a close, a reset or half
// a close, ends its session, harms no other and leaves nothing behind.
func (s *suite) clientCut(t *testing.T) {
	check := NoLeak(t)
	p := s.open(t, Options{})
	other := s.enter(t, p.Addr)
	want := s.ask(t, other, s.Stir, 1)
	script := append(append(bytes.Clone(s.Hello), s.Stir...), s.Bye...)
	for i := range script {
		for _, leave := range []func(net.Conn){
			func(c net.Conn) { c.Close() },
			Reset,
			func(c net.Conn) {
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			},
		} {
			c, err := net.Dial("tcp", p.Addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			_, _ = c.Write(script[:i])
			leave(c)
			_ = p.End()
		}
	}
	if a := s.ask(t, other, s.Stir, 1); !bytes.Equal(a, want) {
		t.Errorf("another session gives %q, was %q", a, want)
	}
	other.Close()
	p.close()
	check()
}

// cutting is a server's door that is shut after n bytes.
type cutting struct {
	net.Conn
	n     int
	reset bool
}

// Read implements net.Conn.
func (c *cutting) Read(b []byte) (int, error) {
	if c.n == 0 {
		if c.reset {
			Reset(c.Conn)
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b[:min(len(b), c.n)])
	c.n -= n
	return n, err
}

// serverCut: a server that is gone after any byte ends the session.
func (s *suite) serverCut(t *testing.T) {
	check := NoLeak(t)
	cuts := make(chan cutting, 1)
	p := s.open(t, Options{Dial: func(context.Context) (net.Conn, error) {
		d := <-cuts
		var err error
		d.Conn, err = net.Dial("tcp", s.Server.String())
		return &d, err
	}})
	script := append(bytes.Clone(s.Hello), s.Stir...)
	for n := 0; ; n++ {
		complete := false
		for _, reset := range []bool{false, true} {
			cuts <- cutting{n: n, reset: reset}
			c := s.client(Dial(t, p.Addr))
			_, _ = c.Write(script)
			if s.Welcome(c.r) == nil {
				_, err := s.Answer(c.r)
				complete = err == nil
			}
			if !complete {
				_, _ = io.Copy(io.Discard, c.r) // it must end by itself
				_ = p.End()
			}
			c.Close()
			if complete {
				_ = p.End()
			}
		}
		if complete {
			break
		}
	}
	p.close()
	check()
}
