package mask

import (
	"crypto/aes"
	"encoding/hex"
	"strings"
	"testing"
)

// The samples that NIST gives for FF1 (cryptographic standards and guidelines,
// example values, FF1samples.pdf).
func TestFF1Samples(t *testing.T) {
	const (
		k128 = "2B7E151628AED2A6ABF7158809CF4F3C"
		k192 = k128 + "EF4359D8D580AA4F"
		k256 = k192 + "7F036D6F04FC6A94"
		t1   = "39383736353433323130"
		t2   = "3737373770717273373737"
	)
	for _, c := range []struct {
		key, tweak string
		radix      uint32
		in, out    string
	}{
		{k128, "", 10, "0123456789", "2433477484"},
		{k128, t1, 10, "0123456789", "6124200773"},
		{k128, t2, 36, "0123456789abcdefghi", "a9tv40mll9kdu509eum"},
		{k192, "", 10, "0123456789", "2830668132"},
		{k192, t1, 10, "0123456789", "2496655549"},
		{k192, t2, 36, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"},
		{k256, "", 10, "0123456789", "6657667009"},
		{k256, t1, 10, "0123456789", "1001623463"},
		{k256, t2, 36, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"},
	} {
		key, _ := hex.DecodeString(c.key)
		tweak, _ := hex.DecodeString(c.tweak)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
		x := []byte(c.in)
		for i := range x {
			x[i] = byte(strings.IndexByte(alphabet, x[i]))
		}
		f := &ff1{block: block}
		for range 2 { // its buffers are dirty the second time
			y := append([]byte(nil), x...)
			f.encrypt(y, c.radix, tweak)
			for i := range y {
				y[i] = alphabet[y[i]]
			}
			if string(y) != c.out {
				t.Errorf("radix %d, tweak %s: %s, want %s", c.radix, c.tweak, y, c.out)
			}
		}
	}
}
