package detect

// class says of each byte what it may be part of.
type class uint16

const (
	digit class = 1 << iota
	lower
	upper
	hex
	noted  // something may be in the middle here
	local  // of the local part of an address
	host   // of a domain
	link   // of a URL
	base64 // of a token: base64url
	armour // of a PEM body, its line ends escaped or not
)

const (
	letter = lower | upper
	alnum  = digit | letter
)

var classes = func() (t [256]class) {
	put := func(c class, set string) {
		for i := range len(set) {
			t[set[i]] |= c
		}
	}
	const small, big, ten = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	put(digit|hex, ten)
	put(lower, small)
	put(upper, big)
	put(hex, "abcdefABCDEF")
	put(noted, ten+"@:=-_AJ.")
	put(local, small+big+ten+"._%+-")
	put(host, small+big+ten+"-.")
	put(link, small+big+ten+"-._~:/?#[]@!$&'()*+,;=%")
	put(base64, small+big+ten+"-_.")
	put(armour, small+big+ten+"+/=\r\n\\-")
	for i := 0x80; i < 256; i++ {
		t[i] |= link | local
	}
	return t
}()

func is(b []byte, i int, c class) bool { return i >= 0 && i < len(b) && classes[b[i]]&c != 0 }

// at returns b[i], 0 outside.
func at(b []byte, i int) byte {
	if i < 0 || i >= len(b) {
		return 0
	}
	return b[i]
}

// run returns the end of the bytes of a class that begin at i.
func run(b []byte, i int, c class) int {
	for i < len(b) && classes[b[i]]&c != 0 {
		i++
	}
	return i
}

// runBack returns the beginning of the bytes of a class that end at i, not
// before low.
func runBack(b []byte, i, low int, c class) int {
	for i > low && classes[b[i-1]]&c != 0 {
		i--
	}
	return i
}

// hasPrefix reports whether s stands at i.
func hasPrefix(b []byte, i int, s string) bool {
	return i >= 0 && len(b)-i >= len(s) && string(b[i:i+len(s)]) == s
}
