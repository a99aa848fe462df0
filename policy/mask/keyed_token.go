package mask

import (
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// A token of a text is "tok_" and 16 characters of base32: 80 bits of its HMAC.
// One of a uuid is a uuid of version 8 (RFC 9562). One of an integer is an
// integer of the same type and sign, and of two integers never the same.

var tokenAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func appendToken(dst, tag []byte) []byte {
	return tokenAlphabet.AppendEncode(append(dst, "tok_"...), tag[:10])
}

func (m *Masker) uuid(dst, value []byte, bin bool) ([]byte, bool) {
	var id [16]byte
	if bin && len(value) == 16 {
		copy(id[:], value)
	} else if bin || !parseUUID(&id, value) {
		return dst, false
	}
	copy(id[:], m.tag(m.scratch(id[:])))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	if bin {
		return append(dst, id[:]...), true
	}
	for i, part := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, id[part[0]:part[1]])
	}
	return dst, true
}

// scratch copies a small value to where it need not be allocated.
func (m *Masker) scratch(b []byte) []byte { return m.sum[:copy(m.sum[:], b)] }

// parseUUID reads the form in which PostgreSQL prints one.
func parseUUID(id *[16]byte, s []byte) bool {
	if len(s) != 36 {
		return false
	}
	n := 0
	for i := 0; i < len(s); {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
			i++
			continue
		}
		hi, lo := nibble(s[i]), nibble(s[i+1])
		if hi < 0 || lo < 0 {
			return false
		}
		id[n] = byte(hi<<4 | lo)
		n++
		i += 2
	}
	return true
}

func nibble(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// integer permutes the numbers of one sign: FF1 over all bits but the sign's.
func (m *Masker) integer(dst, value []byte, bin bool, bits int) ([]byte, bool) {
	var v int64
	switch {
	case !bin:
		n, ok := parseInt(value, bits)
		if !ok {
			return dst, false
		}
		v = n
	case len(value) == 4 && bits == 32:
		v = int64(int32(binary.BigEndian.Uint32(value)))
	case len(value) == 8 && bits == 64:
		v = int64(binary.BigEndian.Uint64(value))
	default:
		return dst, false
	}
	digits, tweak := m.text.digits[:bits-1], m.text.shape[:1]
	tweak[0] = 0
	if v < 0 {
		tweak[0] = 1
	}
	for i := range digits {
		digits[i] = byte(v >> (bits - 2 - i) & 1)
	}
	m.ff1.encrypt(digits, 2, tweak)
	v = -int64(tweak[0]) // all bits are the sign's
	for _, d := range digits {
		v = v<<1 | int64(d)
	}
	switch {
	case !bin:
		return strconv.AppendInt(dst, v, 10), true
	case bits == 32:
		return binary.BigEndian.AppendUint32(dst, uint32(v)), true
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v)), true
}

// parseInt is strconv.ParseInt for bytes, of which it keeps none.
func parseInt(s []byte, bits int) (int64, bool) {
	neg := len(s) > 0 && s[0] == '-'
	if neg {
		s = s[1:]
	}
	if len(s) == 0 || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	limit := uint64(1) << (bits - 1)
	switch {
	case neg && n <= limit:
		return -int64(n), true
	case !neg && n < limit:
		return int64(n), true
	}
	return 0, false
}
