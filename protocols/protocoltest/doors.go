package protocoltest

import (
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// Bytewise returns a connection that gives one byte at a time.
func Bytewise(c net.Conn) net.Conn { return &bytewise{c} }

// bytewise hides the descriptor: a reader must not go round it.
type bytewise struct{ net.Conn }

func (c *bytewise) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), 1)]) }
func (c *bytewise) CloseWrite() error          { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// Tap is a door that remembers what went in.
type Tap struct {
	net.Conn
	mu sync.Mutex
	in []byte
}

// Write implements net.Conn.
func (c *Tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.in = append(c.in, b...)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// CloseWrite passes the end of what is written on.
func (c *Tap) CloseWrite() error { return closeWrite(c.Conn) }

// Written returns what went in so far.
func (c *Tap) Written() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.in)
}

// Reset closes a connection as one that failed.
func Reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

// NoLeak holds that what runs until the returned function is called leaves no
// goroutine and no descriptor behind.
func NoLeak(t testing.TB) (check func()) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	return func() {
		t.Helper()
		var g, f int
		for range 1000 {
			if g, f = runtime.NumGoroutine(), descriptors(t); g <= goroutines && f <= files {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines and %d descriptors became %d and %d\n%s", goroutines, files, g, f, buf[:runtime.Stack(buf, true)])
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}
