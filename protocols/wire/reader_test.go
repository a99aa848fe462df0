package wire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"sallyport.dev/sallyport/protocols/wire"
)

// ends are the two ways to be read from: by the descriptor, and not.
func ends(t testing.TB) map[string]func() (io.Reader, net.Conn) {
	return map[string]func() (io.Reader, net.Conn){
		"descriptor": func() (io.Reader, net.Conn) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			far, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close(); far.Close() })
			return c, far
		},
		"plain": func() (io.Reader, net.Conn) {
			a, b := net.Pipe()
			t.Cleanup(func() { a.Close(); b.Close() })
			return a, b
		},
	}
}

// All that was sent comes out, in order, however it is cut and walked.
func TestReader(t *testing.T) {
	wire.Poison(true)
	defer wire.Poison(false)
	for name, open := range ends(t) {
		t.Run(name, func(t *testing.T) {
			src, far := open()
			r := rand.New(rand.NewPCG(1, 1))
			sent := make([]byte, 3<<20)
			for i := range sent {
				sent[i] = byte(r.Uint32())
			}
			go func() {
				for b := sent; len(b) > 0; {
					n := min(1+r.IntN(100_000), len(b))
					_, _ = far.Write(b[:n])
					b = b[n:]
				}
				far.Close()
			}()
			rd := wire.NewReader(src)
			walk := rand.New(rand.NewPCG(2, 2))
			var got []byte
			for {
				w := rd.Window()
				n := walk.IntN(len(w) + 1)
				if len(w) > 300_000 {
					n = len(w)
				}
				got = append(got, w[:n]...)
				rd.Advance(n)
				if !bytes.Equal(rd.Window(), w[n:]) {
					t.Fatal("the rest of the window changed")
				}
				if err := rd.Fill(); err != nil {
					if !errors.Is(err, io.EOF) {
						t.Fatal(err)
					}
					got = append(got, rd.Window()...)
					break
				}
			}
			if !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes came of %d, or others", len(got), len(sent))
			}
			rd.Release()
			if rd.Holds() || len(rd.Window()) > 0 {
				t.Error("a buffer is held")
			}
		})
	}
}

// Who waits with an empty window holds no buffer; what was borrowed is gone by
// the next Fill.
func TestWaitingHoldsNothing(t *testing.T) {
	wire.Poison(true)
	defer wire.Poison(false)
	src, far := ends(t)["descriptor"]()
	rd := wire.NewReader(src)
	_, _ = far.Write([]byte("first"))
	if err := rd.Fill(); err != nil || string(rd.Window()) != "first" {
		t.Fatalf("%q, %v", rd.Window(), err)
	}
	kept := rd.Window()
	rd.Advance(5)
	if string(kept) != "first" {
		t.Error("it may be used until the next Fill")
	}
	_ = src.(net.Conn).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if err := rd.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if rd.Holds() {
		t.Error("a buffer is held while nothing is there")
	}
	if string(kept) == "first" {
		t.Error("what was borrowed is still there")
	}
	_ = src.(net.Conn).SetReadDeadline(time.Time{})
	_, _ = far.Write([]byte("second"))
	if err := rd.Fill(); err != nil || string(rd.Window()) != "second" {
		t.Fatalf("%q, %v", rd.Window(), err)
	}
	// Half a message is kept over a deadline.
	rd.Advance(3)
	_ = src.(net.Conn).SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := rd.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) || string(rd.Window()) != "ond" {
		t.Fatalf("%q, %v", rd.Window(), err)
	}
}

func TestAdvancePastTheWindow(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	wire.NewReader(bytes.NewReader(nil)).Advance(1)
}

// stuck reads nothing, and says so.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestNoProgress(t *testing.T) {
	if err := wire.NewReader(stuck{}).Fill(); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// FuzzReader cuts a stream anywhere and walks it anyhow.
func FuzzReader(f *testing.F) {
	f.Add([]byte("hello"), []byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte("x"), 70_000), []byte{255, 0, 7})
	f.Fuzz(func(t *testing.T, sent, steps []byte) {
		if len(sent) > 1000 && len(steps) > 0 && len(steps) < 10 {
			sent = sent[:1000]
		}
		rd := wire.NewReader(&pieces{sent, steps})
		var got []byte
		for i := 0; ; i++ {
			err := rd.Fill()
			w := rd.Window()
			n := len(w)
			if len(steps) > 0 && n > 0 {
				n = int(steps[i%len(steps)]) % (n + 1)
			}
			got = append(got, w[:n]...)
			rd.Advance(n)
			if err != nil {
				got = append(got, rd.Window()...)
				break
			}
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d", len(got), len(sent))
		}
	})
}

// pieces gives a stream in pieces of 1 to 256 bytes, or what was asked for.
type pieces struct{ b, steps []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := len(b)
	if len(p.steps) > 0 {
		n = min(n, 1+int(p.steps[len(p.b)%len(p.steps)]))
	}
	n = copy(b[:n], p.b)
	p.b = p.b[n:]
	return n, nil
}
