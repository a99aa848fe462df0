package postgrestest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Message returns a server's message.
func Message(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(body)+4))
	return append(b, body...)
}

// Error returns an ErrorResponse.
func Error(severity, code, message string) []byte {
	return Message('E', "S"+severity+"\x00V"+severity+"\x00C"+code+"\x00M"+message+"\x00\x00")
}

// Ready returns a ReadyForQuery outside of a transaction.
func Ready() []byte { return Message('Z', "I") }

func join(ms ...[]byte) []byte { return bytes.Join(ms, nil) }

// Admit reads a StartupMessage and lets its client in.
func Admit(c net.Conn) {
	var h [4]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(h[:]))-4); err != nil {
		return
	}
	_, _ = c.Write(join(Message('R', "\x00\x00\x00\x00"), Message('S', "client_encoding\x00UTF8\x00"), Message('S', "server_encoding\x00UTF8\x00"),
		Message('S', "standard_conforming_strings\x00on\x00"), Message('K', "\x00\x00\x00\x01\x00\x00\x00\x02"), Ready()))
}

// Fake is a server that knows nothing and has a fitting answer to everything.
// Only for what no real server can be made to do, and for speed.
func Fake(c net.Conn) {
	Admit(c)
	skipping, copying := false, false
	for {
		typ, msg, err := Read(c)
		if err != nil {
			return
		}
		body := msg[5:]
		var out []byte
		switch {
		case typ == 'X':
			return
		case copying && (typ == 'd' || typ == 'S' || typ == 'H'):
		case copying:
			copying = false
			out = join(Message('C', "COPY 1\x00"), Ready())
		case typ == 'S':
			skipping = false
			out = Ready()
		case skipping, typ == 'H', typ == 'd', typ == 'c', typ == 'f':
		case typ == 'Q' && bytes.Contains(body, []byte(refusedMark)):
			out = join(Error("ERROR", "42601", "syntax error"), Ready())
		case typ == 'Q' && strings.HasPrefix(strings.ToLower(string(body)), "copy") && bytes.Contains(body, []byte("FROM STDIN")):
			copying = true
			out = Message('G', "\x00\x00\x01\x00\x00")
		case typ == 'Q':
			out = join(Message('T', "\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"),
				Message('D', "\x00\x01\x00\x00\x00\x01x"), Message('C', "SELECT 1\x00"), Ready())
		case typ == 'F':
			out = join(Message('V', "\xff\xff\xff\xff"), Ready())
		case typ == 'P' && bytes.Contains(body, []byte(refusedMark)):
			skipping = true
			out = Error("ERROR", "42601", "syntax error")
		case typ == 'P':
			out = Message('1', "")
		case typ == 'B':
			out = Message('2', "")
		case typ == 'C':
			out = Message('3', "")
		case typ == 'D' && body[0] == 'S':
			out = join(Message('t', "\x00\x00"), Message('n', ""))
		case typ == 'D':
			out = Message('n', "")
		case typ == 'E':
			out = join(Message('D', "\x00\x01\x00\x00\x00\x01x"), Message('C', "SELECT 1\x00"))
		default:
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// refusedMark is in what the server is sent in place of a refused statement.
const refusedMark = "sallyport_refused"

// innocent: only decoys, and what carries no statement, go to the server.
func innocent(sent []byte) error {
	r := bytes.NewReader(sent)
	for {
		typ, msg, err := Read(r)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case (typ == 'Q' || typ == 'P') && bytes.Contains(msg, []byte(refusedMark+" session")):
		case strings.ContainsRune("SHXCD", rune(typ)):
		default:
			return fmt.Errorf("a message of type %q was sent", typ)
		}
	}
}

// whole: known messages of a server, one behind the other.
func whole(got []byte) error {
	r := bytes.NewReader(got)
	for {
		typ, _, err := Read(r)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		case !strings.ContainsRune("RKSZTDCIENAGHcd123tnsV", rune(typ)):
			return fmt.Errorf("a message of type %q", typ)
		}
	}
}

// login: a StartupMessage of version 3: pairs of strings, and a NUL.
func login(sent []byte) error {
	if len(sent) < 9 || int(binary.BigEndian.Uint32(sent)) > len(sent) {
		return errors.New("no StartupMessage")
	}
	body := sent[8:binary.BigEndian.Uint32(sent)]
	if sent[4] != 0 || sent[5] != 3 || bytes.Count(body, []byte{0})%2 != 1 || body[len(body)-1] != 0 {
		return errors.New("not a StartupMessage of version 3")
	}
	return nil
}

// greeted: N for each kind of encryption, then messages.
func greeted(got []byte) error {
	for range 2 {
		if len(got) > 0 && got[0] == 'N' && (len(got) == 1 || len(got) < 5 || got[1] != 0) {
			got = got[1:]
		}
	}
	return whole(got)
}
