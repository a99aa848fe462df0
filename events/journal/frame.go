package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/events"
)

// A segment is a header and frames. All integers are big-endian.
//
//	header: magic "SALLYJ1\n", chain [32] (hex), first seq u64,
//	        hash of the record before [32], salt u32, CRC32C u32 of all that
//	frame:  magic "SPJ\x01", length u32 (of what follows the CRC), CRC32C u32
//	        of the length and what follows, started with the salt;
//	        durable u64, number u64, hash [32], the record's canonical form
//
// durable is the highest record that was on stable storage when the frame was
// made: it tells a tail that a power cut tore from damage to what was
// promised. number is the statement's ordinal, for recovery. The salt keeps a
// client from planting frames in its own data. Behind the last frame there may
// be zeros: room that was made ahead.
const (
	headerSize = 8 + 32 + 8 + 32 + 4 + 4
	frameHead  = 4 + 4 + 4
	frameMeta  = 8 + 8 + 32
	minBody    = frameMeta + 32 + 8 + 1 + 3*4 + 8
	maxBody    = 16 << 20
)

const segmentMagic = "SALLYJ1\n"

var (
	frameMagic = []byte{'S', 'P', 'J', 1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errTorn = errors.New("a record is cut short or damaged")
)

type header struct {
	chain string
	first uint64
	prev  [32]byte
	salt  uint32
}

func (h *header) bytes() []byte {
	b := append(make([]byte, 0, headerSize), segmentMagic...)
	b = append(b, h.chain...)
	b = binary.BigEndian.AppendUint64(b, h.first)
	b = append(b, h.prev[:]...)
	b = binary.BigEndian.AppendUint32(b, h.salt)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseHeader(b []byte) (header, error) {
	var h header
	if len(b) < headerSize || string(b[:8]) != segmentMagic ||
		crc32.Checksum(b[:headerSize-4], castagnoli) != binary.BigEndian.Uint32(b[headerSize-4:]) {
		return h, errors.New("its header is damaged")
	}
	h.chain = string(b[8:40])
	if _, err := hex.DecodeString(h.chain); err != nil {
		return h, errors.New("its header names no chain")
	}
	h.first = binary.BigEndian.Uint64(b[40:])
	copy(h.prev[:], b[48:])
	h.salt = binary.BigEndian.Uint32(b[80:])
	return h, nil
}

// seal fills in the frame that b holds: head and meta are still blank.
func seal(b []byte, salt uint32, durable, number uint64) (hash [32]byte) {
	copy(b, frameMagic)
	body := b[frameHead:]
	binary.BigEndian.PutUint32(b[4:], uint32(len(body)))
	binary.BigEndian.PutUint64(body, durable)
	binary.BigEndian.PutUint64(body[8:], number)
	hash = sha256.Sum256(body[frameMeta:])
	copy(body[16:], hash[:])
	binary.BigEndian.PutUint32(b[8:], frameCRC(b, salt))
	return hash
}

func frameCRC(b []byte, salt uint32) uint32 {
	return crc32.Update(crc32.Update(salt, castagnoli, b[4:8]), castagnoli, b[frameHead:])
}

// frame is one that was read. Its record's payload borrows from the buffer.
type frame struct {
	size    int64 // in the file
	durable uint64
	number  uint64
	rec     events.Record
}

// parseFrame reads the frame at the start of b. io.ErrUnexpectedEOF: b is too
// short for it; want then says how much it needs. names is reused for strings
// that repeat.
func parseFrame(b []byte, salt uint32, names *events.Record) (f frame, want int, err error) {
	if len(b) < frameHead {
		return f, frameHead, io.ErrUnexpectedEOF
	}
	n := binary.BigEndian.Uint32(b[4:])
	if !bytes.Equal(b[:4], frameMagic) || n < minBody || n > maxBody {
		return f, 0, errTorn
	}
	want = frameHead + int(n)
	if len(b) < want {
		return f, want, io.ErrUnexpectedEOF
	}
	b = b[:want]
	if frameCRC(b, salt) != binary.BigEndian.Uint32(b[8:]) {
		return f, 0, errTorn
	}
	body := b[frameHead:]
	f.size = int64(want)
	f.durable = binary.BigEndian.Uint64(body)
	f.number = binary.BigEndian.Uint64(body[8:])
	copy(f.rec.Hash[:], body[16:])
	if err := parseRecord(&f.rec, body[frameMeta:], names); err != nil {
		return f, 0, err
	}
	return f, want, nil
}

// parseRecord is the inverse of Record.Append, but for Hash.
func parseRecord(r *events.Record, b []byte, names *events.Record) error {
	if len(b) < minBody-frameMeta {
		return errTorn
	}
	copy(r.Prev[:], b)
	r.Seq = binary.BigEndian.Uint64(b[32:])
	r.Kind = events.Kind(b[40])
	b = b[41:]
	for _, p := range [...]struct{ to, known *string }{
		{&r.Chain, &names.Chain}, {&r.Protocol, &names.Protocol}, {&r.Session, &names.Session},
	} {
		if len(b) < 4 {
			return errTorn
		}
		n := int(binary.BigEndian.Uint32(b))
		if b = b[4:]; n < 0 || len(b) < n {
			return errTorn
		}
		if *p.known != string(b[:n]) {
			*p.known = string(b[:n])
		}
		*p.to = *p.known
		b = b[n:]
	}
	if len(b) < 8 || binary.BigEndian.Uint64(b) != uint64(len(b)-8) {
		return errTorn
	}
	r.Payload = b[8:]
	return nil
}

// walker reads frames one after the other.
type walker struct {
	f     File
	salt  uint32
	off   int64 // of the next frame
	end   int64 // of what may be read
	buf   []byte
	at    int64 // of buf in the file
	names events.Record
}

// next returns the next frame; it is valid until the call after. io.EOF: a
// clean end, before room that was made ahead (zeros) or at the file's. errTorn:
// what stands at off is no whole frame.
func (w *walker) next() (frame, error) {
	want := frameHead
	for {
		b, err := w.peek(want)
		if err != nil {
			return frame{}, err
		}
		if len(b) == 0 {
			return frame{}, io.EOF
		}
		if b[0] == 0 {
			switch blank, err := w.blank(); {
			case err != nil:
				return frame{}, err
			case blank:
				return frame{}, io.EOF
			}
			return frame{}, errTorn // no frame begins with 0
		}
		f, n, err := parseFrame(b, w.salt, &w.names)
		if err == nil {
			w.off += f.size
			return f, nil
		}
		if err != io.ErrUnexpectedEOF {
			return f, err
		}
		if len(b) < want || w.off+int64(n) > w.end {
			return f, errTorn
		}
		want = n
	}
}

// blank reports whether all from off on is zeros.
func (w *walker) blank() (bool, error) {
	b := make([]byte, 64<<10)
	for at := w.off; at < w.end; {
		n, err := w.f.ReadAt(b[:min(int64(len(b)), w.end-at)], at)
		if n == 0 && err != nil {
			return err == io.EOF, err
		}
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// peek returns at least n bytes from off on, fewer only at the end.
func (w *walker) peek(n int) ([]byte, error) {
	if i := w.off - w.at; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i:], nil
	}
	n = int(min(int64(max(n, 256<<10)), w.end-w.off))
	if n <= 0 {
		return nil, nil
	}
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.at = w.buf[:n], w.off
	m, err := w.f.ReadAt(w.buf, w.off)
	w.buf = w.buf[:m]
	if err != nil && err != io.EOF {
		return nil, err
	}
	return w.buf, nil
}

const segmentSuffix = ".seg"

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

func parseSegmentName(name string) (first uint64, ok bool) {
	s, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(s) != 20 {
		return 0, false
	}
	first, err := strconv.ParseUint(s, 10, 64)
	return first, err == nil
}
