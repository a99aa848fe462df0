//go:build conformance

package conformance

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// exchange is one request of a client that waits for each answer, and the answer.
type exchange struct {
	sent  []byte // Query, or messages up to one that asks for an answer
	rows  []byte // CopyData, CopyDone or CopyFail that followed it
	reply []byte // up to ReadyForQuery, or to the session's end
}

// sql returns the text of a Query, "" of anything else.
func (e *exchange) sql() string {
	if e.sent[0] != 'Q' || len(e.sent) < 6 {
		return ""
	}
	return string(e.sent[5 : len(e.sent)-1])
}

// talk is a session: what was said in it.
type talk struct {
	greeting  []byte // the StartupMessage
	exchanges []exchange
}

// recorder is a relay to a server that keeps what is said, for clients that speak
// one after another.
type recorder struct {
	net.Listener
	to string

	mu    sync.Mutex
	talks []*talk
	wg    sync.WaitGroup
}

func newRecorder(to string) (*recorder, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &recorder{Listener: l, to: to}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.relay(c) })
		}
	}()
	return r, nil
}

// take returns what was said since the last time, when all sessions have ended.
func (r *recorder) take() []*talk {
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.talks
	r.talks = nil
	return out
}

func (r *recorder) relay(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	greeting, err := greetingOf(client)
	if err != nil {
		return
	}
	t := &talk{greeting: greeting}
	r.mu.Lock()
	r.talks = append(r.talks, t)
	r.mu.Unlock()
	if _, err := server.Write(greeting); err != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		defer client.Close()
		b := bufio.NewReader(server)
		for {
			_, m, err := postgrestest.Read(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			if n := len(t.exchanges); n > 0 { // before is the login
				t.exchanges[n-1].reply = append(t.exchanges[n-1].reply, m...)
			}
			r.mu.Unlock()
			if _, err := client.Write(m); err != nil {
				return
			}
		}
	})
	asked := true // the last exchange is whole
	for b := bufio.NewReader(client); ; {
		typ, m, err := postgrestest.Read(b)
		if err != nil || typ == 'X' {
			break
		}
		r.mu.Lock()
		switch n := len(t.exchanges); {
		case n > 0 && (typ == 'd' || typ == 'c' || typ == 'f'):
			t.exchanges[n-1].rows = append(t.exchanges[n-1].rows, m...)
		case !asked:
			t.exchanges[n-1].sent = append(t.exchanges[n-1].sent, m...)
			asked = asks(typ)
		default:
			t.exchanges = append(t.exchanges, exchange{sent: m})
			asked = asks(typ)
		}
		r.mu.Unlock()
		if _, err := server.Write(m); err != nil {
			break
		}
	}
	server.Close()
	answers.Wait()
}

// asks reports a message of a client that the server answers to the end.
func asks(typ byte) bool { return typ == 'Q' || typ == 'S' || typ == 'F' }

// greetingOf reads a message that has no type, whole.
func greetingOf(c io.Reader) ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < 8 || n > 1<<16 {
		return nil, fmt.Errorf("a greeting of %d bytes", n)
	}
	b := append(h[:], make([]byte, n-4)...)
	_, err := io.ReadFull(c, b[4:])
	return b, err
}

// player says again what was said.
type player struct {
	net.Conn
	*bufio.Reader
}

var errEnded = errors.New("the session has ended")

// play opens a session as another was.
func play(ctx context.Context, addr string, greeting []byte) (*player, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &player{Conn: c, Reader: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err = c.Write(greeting); err == nil {
		_, err = postgrestest.Answer(p.Reader)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("log in: %w", err)
	}
	return p, nil
}

// Read and Write are the connection's; answers are read by say.
func (p *player) Read(b []byte) (int, error) { return p.Reader.Read(b) }

// say sends a request and returns its answer, what there was of it with an error.
func (p *player) say(e *exchange) (reply []byte, err error) {
	_ = p.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := p.Write(e.sent); err != nil {
		return nil, errEnded
	}
	for {
		typ, m, err := postgrestest.Read(p.Reader)
		reply = append(reply, m...)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed):
			return reply, errEnded
		case err != nil:
			return reply, err
		case typ == 'Z':
			return reply, nil
		case typ == 'G':
			rows := e.rows
			if len(rows) == 0 { // it failed where it was heard
				rows = []byte("f\x00\x00\x00\x05\x00")
			}
			if _, err := p.Write(rows); err != nil {
				return reply, errEnded
			}
		}
	}
}

// tell sends a text.
func (p *player) tell(sql string) ([]byte, error) {
	return p.say(&exchange{sent: postgrestest.Encode(postgrestest.Query(sql))})
}
