package parser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// MaxSQL is the largest text that is parsed, in bytes, unless Options say
// otherwise. A text that is taken may still be too deep for the parser: it is
// then refused alone.
const MaxSQL = 256 << 10

// largeText is the size of a request, in bytes, above which it shares half of
// the helpers with others of its kind: texts made to take long cannot hold all.
const largeText = 16 << 10

// maxTree is the largest encoded tree, in bytes.
const maxTree = 64 << 20

// Errors of a Pool. Each means that one statement could not be analysed.
var (
	ErrTooLarge = errors.New("the statement is larger than what is analysed")
	ErrText     = errors.New("the statement is not valid UTF-8 text")
	ErrDied     = errors.New("the parser could not cope with the statement")
	ErrClosed   = errors.New("the parser is closed")
)

// SyntaxError is what the grammar says of a text.
type SyntaxError struct {
	Message  string
	Position int // in characters, from 1; 0: nowhere in particular
}

func (e *SyntaxError) Error() string { return e.Message }

// startTime is what the first helper has for its first answer.
const startTime = 30 * time.Second

// Options of a Pool. Zero values take the defaults.
type Options struct {
	Size    int           // helpers; default GOMAXPROCS, at least 2, at most 8
	Timeout time.Duration // of one call; default 2 s
	MaxSQL  int           // bytes; default MaxSQL
}

// Pool is a set of helpers. It is safe for concurrent use.
type Pool struct {
	o     Options
	slots chan *helper  // one entry per helper; nil is one to be started
	large chan struct{} // the helpers that large texts may hold at a time
	done  chan struct{}
	n     int // slots that come back
	once  sync.Once
	spawn *spawner
}

// New starts a pool. The program's main (or TestMain) must call Main when
// IsChild says so.
func New(o Options) (*Pool, error) {
	if o.Size <= 0 {
		o.Size = min(max(runtime.GOMAXPROCS(0), 2), 8)
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.MaxSQL <= 0 {
		o.MaxSQL = MaxSQL
	}
	p := &Pool{o: o, slots: make(chan *helper, o.Size), large: make(chan struct{}, max(o.Size/2, 1)), done: make(chan struct{}), spawn: newSpawner()}
	for range o.Size {
		h, err := p.spawn.start()
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("start a parser: %w", err)
		}
		p.slots <- h
		p.n++
	}
	// One answer proves that the program knows how to be a helper. On a busy host it
	// takes its time to become one.
	p.o.Timeout = max(o.Timeout, startTime)
	_, err := p.Parse(context.Background(), "SELECT 1")
	p.o.Timeout = o.Timeout
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("start a parser: %w", err)
	}
	return p, nil
}

// Parse returns the tree of a text. A *SyntaxError is the grammar's own
// refusal.
func (p *Pool) Parse(ctx context.Context, sql string) (*pg_query.ParseResult, error) {
	switch {
	case len(sql) > p.o.MaxSQL:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(sql), p.o.MaxSQL)
	case strings.IndexByte(sql, 0) >= 0 || !utf8.ValidString(sql):
		return nil, ErrText
	}
	b, err := p.call(ctx, opParse, []byte(sql))
	if err != nil {
		return nil, err
	}
	tree := new(pg_query.ParseResult)
	if err := proto.Unmarshal(b, tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDied, err)
	}
	return tree, nil
}

// Deparse generates SQL from a tree, and refuses unless that SQL parses to
// the very same tree again, positions apart.
func (p *Pool) Deparse(ctx context.Context, tree *pg_query.ParseResult) (string, error) {
	b, err := proto.Marshal(tree)
	if err != nil {
		return "", err
	}
	if len(b) > maxTree {
		return "", ErrTooLarge
	}
	out, err := p.call(ctx, opDeparse, b)
	if err != nil {
		return "", err
	}
	return string(out), nil
}

// call sends one request to a helper that is free. Whatever goes wrong costs
// the helper its life, never another statement.
func (p *Pool) call(ctx context.Context, op byte, payload []byte) ([]byte, error) {
	var h *helper
	select {
	case <-p.done:
		return nil, ErrClosed
	default:
	}
	if len(payload) > largeText {
		select {
		case p.large <- struct{}{}:
			defer func() { <-p.large }()
		case <-p.done:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case h = <-p.slots:
	case <-p.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h == nil {
		var err error
		if h, err = p.spawn.start(); err != nil {
			p.slots <- nil
			return nil, fmt.Errorf("start a parser: %w", err)
		}
	}
	kind, reply, err := h.call(op, payload, time.Now().Add(p.o.Timeout))
	if err != nil {
		h.kill()
		go p.replace()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("%w: it took longer than %v", ErrDied, p.o.Timeout)
		}
		return nil, ErrDied
	}
	p.slots <- h
	switch kind {
	case replyOK:
		return reply, nil
	case replyErr:
		if len(reply) < 4 {
			return nil, errFrame
		}
		return nil, &SyntaxError{Message: string(reply[4:]), Position: int(binary.BigEndian.Uint32(reply))}
	}
	return nil, errFrame
}

// replace puts a fresh helper where one died, beside the statements' path.
func (p *Pool) replace() {
	select {
	case <-p.done:
		p.slots <- nil
		return
	default:
	}
	h, err := p.spawn.start()
	if err != nil {
		h = nil // the next call tries again, and reports
	}
	p.slots <- h
}

// Close ends the helpers, after the calls in flight.
func (p *Pool) Close() error {
	p.once.Do(func() {
		close(p.done)
		for range p.n {
			(<-p.slots).kill()
		}
		p.spawn.close()
	})
	return nil
}

// helper is one child process.
type helper struct {
	proc *os.Process
	in   *os.File // requests
	out  *os.File // replies
	buf  []byte
}

func (h *helper) call(op byte, payload []byte, deadline time.Time) (byte, []byte, error) {
	if err := errors.Join(h.in.SetDeadline(deadline), h.out.SetDeadline(deadline)); err != nil {
		return 0, nil, err
	}
	h.buf = appendFrame(h.buf[:0], op, payload)
	if _, err := h.in.Write(h.buf); err != nil {
		return 0, nil, err
	}
	if cap(h.buf) > 1<<20 {
		h.buf = nil
	}
	return readFrame(h.out, maxTree)
}

// kill ends the process and reaps it.
func (h *helper) kill() {
	if h == nil {
		return
	}
	h.in.Close()
	h.out.Close()
	_ = h.proc.Signal(syscall.SIGKILL)
	_, _ = h.proc.Wait()
}
