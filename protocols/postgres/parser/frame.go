package parser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is one byte that says what it is, the payload's length (4 bytes,
// big-endian), and the payload.
const (
	opParse   = 'P' // SQL -> tree
	opDeparse = 'D' // tree -> SQL
	replyOK   = 'O'
	replyErr  = 'E' // payload is a position (SyntaxError.Position) and the message

	frameHeader = 5
)

var errFrame = errors.New("parser: a frame cannot be trusted")

// appendFrame appends a frame to b.
func appendFrame(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// readFrame reads a frame whose payload has at most limit bytes. The payload
// is the caller's.
func readFrame(r io.Reader, limit int) (kind byte, payload []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if uint64(n) > uint64(limit) {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, limit)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return h[0], payload, nil
}
