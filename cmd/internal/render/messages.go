package render

import (
	"encoding/binary"
	"fmt"
)

// maxMessage is the size from which on a message is mentioned, not shown.
const maxMessage = 1 << 20

// Messages takes recorded results apart into PostgreSQL's messages (PostgreSQL
// 15, section 55.7). A result comes in pieces, a message may span several, and
// the last one may be cut at the transcript's limit.
type Messages struct {
	rest []byte // the beginning of a message
	skip int    // bytes of a message that is too large to show
}

// Split calls f with each message that b completes: its type, what follows its
// length, and its size in bytes. The body is nil for one too large, and borrowed.
// Where there is no message f is called once with size 0, and the rest is left.
func (m *Messages) Split(b []byte, f func(kind byte, body []byte, size int64) error) error {
	if m.skip > 0 {
		n := min(m.skip, len(b))
		m.skip -= n
		b = b[n:]
	}
	m.rest = append(m.rest, b...)
	for len(m.rest) >= 5 {
		var body []byte
		kind, n := m.rest[0], int64(binary.BigEndian.Uint32(m.rest[1:]))+1
		switch {
		case n < 5:
			m.rest = nil
			return f(kind, nil, 0)
		case n > maxMessage:
			m.skip = int(max(n-int64(len(m.rest)), 0))
			m.rest = m.rest[min(n, int64(len(m.rest))):]
		case int64(len(m.rest)) < n:
			return nil
		default:
			body, m.rest = m.rest[5:n], m.rest[n:]
		}
		if err := f(kind, body, n); err != nil {
			return err
		}
	}
	return nil
}

// Cut reports whether the last message is not whole.
func (m *Messages) Cut() bool { return len(m.rest) > 0 || m.skip > 0 }

// Decode is m.Decode for hostile bytes: pgproto3 v2 indexes past the end of
// some messages that are too short.
func Decode(m interface{ Decode([]byte) error }, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("render: %v", p)
		}
	}()
	return m.Decode(b)
}
