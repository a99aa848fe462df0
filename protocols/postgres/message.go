package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of one message, in bytes.
const (
	maxMessage = 16 << 20 // a client's, other than CopyData
	maxControl = 64 << 20 // a server's, other than DataRow and CopyData: an error may quote what it was sent
	maxAuth    = 64 << 10 // PG_MAX_AUTH_TOKEN_LENGTH is 65535
	maxStartup = 10000    // MAX_STARTUP_PACKET_LENGTH
)

const headLen = 5 // type, and a length that counts itself

// errFraming: nothing that follows can be trusted.
var errFraming = errors.New("postgres: a message with an impossible length")

// head returns a message's type and its whole size; ok is false when less
// than a head has arrived.
func head(w []byte) (typ byte, n int, ok bool, err error) {
	if len(w) < headLen {
		return 0, 0, false, nil
	}
	l := binary.BigEndian.Uint32(w[1:])
	if l < 4 || l > 1<<30 { // PQ_LARGE_MESSAGE_LIMIT
		return 0, 0, false, errFraming
	}
	return w[0], int(l) + 1, true, nil
}

// cursor reads the fields of a message's body. After a read past the end ok
// is false and all later reads are empty.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) int16() int {
	if b := c.take(2); b != nil {
		return int(int16(binary.BigEndian.Uint16(b)))
	}
	return 0
}

// count reads how many there are of something: 65535 at most.
func (c *cursor) count() int { return int(uint16(c.int16())) }

func (c *cursor) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// str returns a string without its NUL.
func (c *cursor) str() []byte {
	i := bytes.IndexByte(c.b, 0)
	if i < 0 {
		c.bad, c.b = true, nil
		return nil
	}
	s := c.b[:i]
	c.b = c.b[i+1:]
	return s
}

// end reports whether all was read, and nothing past the end.
func (c *cursor) end() bool { return !c.bad && len(c.b) == 0 }

// malformed is a body that does not have its type's form.
func malformed(typ byte) error {
	return fmt.Errorf("postgres: a malformed message of type %q", typ)
}

// begin starts a message in b; finish fills in its length.
func begin(b []byte, typ byte) ([]byte, int) {
	return append(b, typ, 0, 0, 0, 0), len(b) + 1
}

func finish(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func appendString(b []byte, s string) []byte { return append(append(b, s...), 0) }

var (
	flushMessage = []byte{'H', 0, 0, 0, 4}
	syncMessage  = []byte{'S', 0, 0, 0, 4}
)
