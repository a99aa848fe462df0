package mask

import (
	"crypto/cipher"
	"encoding/binary"
	"math"
)

// ff1 is FF1 of NIST SP 800-38G, "Recommendation for Block Cipher Modes of
// Operation: Methods for Format-Preserving Encryption", algorithm 7. It keeps
// its buffers, so that it allocates nothing once they have grown, and belongs
// to one goroutine.
type ff1 struct {
	block cipher.Block
	q     []byte   // P || Q
	s     []byte   // R, and what it is stretched to
	half  []byte   // C of the algorithm
	limbs []uint32 // a large number, most significant first
}

// minDomain is the least number of texts that may be encrypted among (SP
// 800-38G revision 1): fewer could be tried out.
const minDomain = 1_000_000

// encrypt encrypts the digits x of a radix up to 256 in place.
func (f *ff1) encrypt(x []byte, radix uint32, tweak []byte) {
	n, t := len(x), len(tweak)
	u := n / 2
	v := n - u
	b := (int(math.Ceil(float64(v)*math.Log2(float64(radix)))) + 7) / 8
	d := 4*((b+3)/4) + 4
	q := append(f.q[:0], 1, 2, 1, byte(radix>>16), byte(radix>>8), byte(radix), 10, byte(u))
	q = binary.BigEndian.AppendUint32(q, uint32(n))
	q = binary.BigEndian.AppendUint32(q, uint32(t))
	q = append(q, tweak...)
	for len(q)%16 != (16-(b+1)%16)%16 {
		q = append(q, 0)
	}
	prefix := len(q)
	f.half = append(f.half[:0], x...)
	one, two := f.half[:u], f.half[u:] // A and B
	for i := range 10 {
		q = f.number(append(q[:prefix], byte(i)), two, radix, b)
		f.stretch(q, d)
		m := u
		if i%2 == 1 {
			m = v
		}
		f.add(one[:m], radix, d)
		one, two = two, one
	}
	f.q = q
	copy(x[copy(x, one):], two)
}

// number appends the digits' value, in b bytes.
func (f *ff1) number(dst, digits []byte, radix uint32, b int) []byte {
	limbs := f.grow((b + 3) / 4)
	clear(limbs)
	for _, d := range digits {
		multiplyAdd(limbs, radix, uint32(d))
	}
	for i := b - 1; i >= 0; i-- {
		dst = append(dst, byte(limbs[len(limbs)-1-i/4]>>(8*(i%4))))
	}
	return dst
}

// stretch puts into f.s the first d bytes of what PRF makes of q, stretched.
func (f *ff1) stretch(q []byte, d int) {
	blocks := (d + 15) / 16
	for cap(f.s) < 16*blocks {
		f.s = append(f.s[:cap(f.s)], 0)
	}
	f.s = f.s[:16*blocks]
	r := f.s[:16]
	clear(r)
	for ; len(q) > 0; q = q[16:] {
		for i := range r {
			r[i] ^= q[i]
		}
		f.block.Encrypt(r, r)
	}
	for j := 1; j < blocks; j++ {
		out := f.s[16*j : 16*j+16]
		copy(out, r)
		var n [16]byte
		binary.BigEndian.PutUint64(n[8:], uint64(j))
		for i := range out {
			out[i] ^= n[i]
		}
		f.block.Encrypt(out, out)
	}
}

// add adds the number in the first d bytes of f.s to the digits, modulo
// radix^len.
func (f *ff1) add(digits []byte, radix uint32, d int) {
	limbs := f.grow(d / 4)
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint32(f.s[4*i:])
	}
	carry := uint32(0)
	for i := len(digits) - 1; i >= 0; i-- {
		c := uint32(digits[i]) + divide(limbs, radix) + carry
		carry = 0
		if c >= radix {
			c, carry = c-radix, 1
		}
		digits[i] = byte(c)
	}
}

func (f *ff1) grow(n int) []uint32 {
	for cap(f.limbs) < n {
		f.limbs = append(f.limbs[:cap(f.limbs)], 0)
	}
	return f.limbs[:n]
}

// multiplyAdd makes a number n*by+add, and returns what does not fit.
func multiplyAdd(n []uint32, by, add uint32) uint32 {
	carry := uint64(add)
	for i := len(n) - 1; i >= 0; i-- {
		carry += uint64(n[i]) * uint64(by)
		n[i] = uint32(carry)
		carry >>= 32
	}
	return uint32(carry)
}

// divide makes a number n/by, and returns the remainder.
func divide(n []uint32, by uint32) uint32 {
	rem := uint64(0)
	for i, limb := range n {
		rem = rem<<32 | uint64(limb)
		n[i] = uint32(rem / uint64(by))
		rem %= uint64(by)
	}
	return uint32(rem)
}
