package mask

import (
	"math/bits"
	"slices"
	"strings"
)

// A format-preserving mask shows a digit in place of each digit and a letter of
// the same case in place of each letter, of ASCII; separators stay. No two texts
// of one format show the same. A text of digits is encrypted as it is, by FF1
// of radix 10. Another is its number among all texts of its format, which FF1 of
// radix 2 encrypts until it is a number among them again (cycle walking).
//
// Where there are less than a million texts of a format (six digits, or five
// letters) they could be tried out, and what has other characters has no
// format: these are redacted.

// maxFormat is the most digits and letters that a text may have.
const maxFormat = 64

// format is what one text is encrypted with.
type format struct {
	shape  []byte // the tweak: '0', 'a' or 'A' for each character, and separators
	digits []byte
	number []uint32
	size   []uint32 // how many there are
}

// limbs for 64 characters of 26 letters.
const formatLimbs = (maxFormat*5 + 31) / 32

// append appends what stands in place of a text; ok is false where it has none.
func (f *format) append(dst, text []byte, c *ff1) (out []byte, ok bool) {
	f.shape, f.digits = f.shape[:0], f.digits[:0]
	letters := false
	for _, ch := range text {
		kind, d := ch, byte(0)
		switch {
		case ch >= '0' && ch <= '9':
			kind, d = '0', ch-'0'
		case ch >= 'a' && ch <= 'z':
			kind, d, letters = 'a', ch-'a', true
		case ch >= 'A' && ch <= 'Z':
			kind, d, letters = 'A', ch-'A', true
		case strings.IndexByte(separators, ch) >= 0:
			f.shape = append(f.shape, ch)
			continue
		default:
			return dst, false
		}
		if len(f.digits) == maxFormat {
			return dst, false
		}
		f.shape, f.digits = append(f.shape, kind), append(f.digits, d)
	}
	switch {
	case letters:
		if !f.mixed(c) {
			return dst, false
		}
	case len(f.digits) < 6:
		return dst, false
	default:
		c.encrypt(f.digits, 10, f.shape)
	}
	i := 0
	for _, kind := range f.shape {
		if radixOf(kind) > 0 {
			kind += f.digits[i]
			i++
		}
		dst = append(dst, kind)
	}
	return dst, true
}

// radixOf is 0 for a separator.
func radixOf(kind byte) uint32 {
	switch kind {
	case '0':
		return 10
	case 'a', 'A':
		return 26
	}
	return 0
}

// mixed encrypts digits of several radixes.
func (f *format) mixed(c *ff1) bool {
	f.number, f.size = slices.Grow(f.number[:0], formatLimbs)[:formatLimbs], slices.Grow(f.size[:0], formatLimbs)[:formatLimbs]
	clear(f.number)
	clear(f.size)
	f.size[formatLimbs-1] = 1
	i := 0
	for _, kind := range f.shape {
		if r := radixOf(kind); r > 0 {
			multiplyAdd(f.number, r, uint32(f.digits[i]))
			multiplyAdd(f.size, r, 0)
			i++
		}
	}
	n := bitLen(f.size)
	if n <= 20 && f.size[formatLimbs-1] < minDomain {
		return false
	}
	for again := true; again; again = slices.Compare(f.number, f.size) >= 0 {
		f.digits = slices.Grow(f.digits[:0], n)[:n]
		for k := range f.digits {
			at := n - 1 - k
			f.digits[k] = byte(f.number[formatLimbs-1-at/32] >> (at % 32) & 1)
		}
		c.encrypt(f.digits, 2, f.shape)
		clear(f.number)
		for k, d := range f.digits {
			at := n - 1 - k
			f.number[formatLimbs-1-at/32] |= uint32(d) << (at % 32)
		}
	}
	f.digits = f.digits[:i]
	for k := len(f.shape) - 1; k >= 0; k-- {
		if r := radixOf(f.shape[k]); r > 0 {
			i--
			f.digits[i] = byte(divide(f.number, r))
		}
	}
	return true
}

func bitLen(n []uint32) int {
	for i, limb := range n {
		if limb != 0 {
			return 32*(len(n)-1-i) + bits.Len32(limb)
		}
	}
	return 0
}
