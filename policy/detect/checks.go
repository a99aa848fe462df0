package detect

// These validators take digits as bytes '0' to '9'.

// luhn reports whether the digits' check digit holds (ISO/IEC 7812-1); sum is
// what stands before them.
func luhn(d []byte, sum int) bool {
	for k := range d {
		n := int(d[len(d)-1-k] - '0')
		if k%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

// npi: ten digits from 1 or 2, and Luhn behind the prefix 80840 (45 CFR 162.406).
func npi(d []byte) bool { return len(d) == 10 && (d[0] == '1' || d[0] == '2') && luhn(d, 24) }

// card returns whether the digits can be a payment card's number: a known
// issuer's range of the right length, and Luhn.
func card(d []byte) bool {
	n := len(d)
	if n < 13 || n > 19 || same(d) {
		return false
	}
	p := value(d[:4])
	var ok bool
	switch {
	case d[0] == '4':
		ok = n == 13 || n == 16 || n == 19
	case p >= 5100 && p < 5600, p >= 2221 && p <= 2720:
		ok = n == 16
	case p/100 == 34, p/100 == 37:
		ok = n == 15
	case p == 6011, p >= 6440 && p < 6600, p >= 3528 && p <= 3589, p/100 == 62:
		ok = n >= 16
	case p >= 3000 && p < 3060, p/100 == 36, p/100 == 38, p/100 == 39:
		ok = n == 14
	}
	return ok && luhn(d, 0)
}

// issuable: the Social Security Administration's rules: no area 000, 666 or
// from 900, no group 00, no serial 0000, and not the numbers of advertisements.
func issuable(d []byte) bool {
	area, group, serial := value(d[:3]), value(d[3:5]), value(d[5:9])
	return area != 0 && area != 666 && area < 900 && group != 0 && serial != 0 &&
		string(d) != "078051120" && string(d) != "219099999" && string(d) != "123456789"
}

// taxpayer: an ITIN of the Internal Revenue Service.
func taxpayer(d []byte) bool {
	g := value(d[3:5])
	return d[0] == '9' && (g >= 50 && g <= 65 || g >= 70 && g <= 88 || g >= 90 && g != 93)
}

// routing: nine digits of an American bank, weights 3 7 1.
func routing(d []byte) bool {
	if len(d) != 9 || same(d) {
		return false
	}
	sum := 0
	for k, c := range d {
		sum += int(c-'0') * [3]int{3, 7, 1}[k%3]
	}
	first := value(d[:2])
	return sum%10 == 0 && (first <= 12 || first >= 21 && first <= 32 || first >= 61 && first <= 72 || first == 80)
}

// dea: two letters, of which the second may be a 9, and seven digits of which
// the last checks the others.
func dea(b []byte) bool {
	if len(b) != 9 || run(b, 2, digit) != 9 || !is(b, 0, upper) || !is(b, 1, upper) && b[1] != '9' {
		return false
	}
	switch b[0] {
	case 'I', 'N', 'O', 'Q', 'V', 'W', 'Y', 'Z':
		return false
	}
	n := func(k int) int { return int(b[k] - '0') }
	return (n(2)+n(4)+n(6)+2*(n(3)+n(5)+n(7)))%10 == n(8) && !same(b[2:])
}

// lengths of IBANs, by country (ISO 13616 registry).
var ibanLengths = map[[2]byte]int{}

func init() {
	const table = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20"
	for k := 0; k+4 <= len(table); k += 4 {
		ibanLengths[[2]byte{table[k], table[k+1]}] = int(table[k+2]-'0')*10 + int(table[k+3]-'0')
	}
}

// iban: the country's length, and mod 97 (ISO 7064).
func iban(b []byte) bool {
	if len(b) < 15 || ibanLengths[[2]byte{b[0], b[1]}] != len(b) {
		return false
	}
	m := 0
	for k := range b {
		switch c := b[(k+4)%len(b)]; {
		case classes[c]&digit != 0:
			m = (m*10 + int(c-'0')) % 97
		case classes[c]&upper != 0:
			m = (m*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return m == 1
}

// vin reports whether b has the form of a vehicle's number (ISO 3779), and
// whether its check digit holds (49 CFR 565).
func vin(b []byte) (form, checked bool) {
	if len(b) != 17 {
		return false, false
	}
	const values = "12345678" + "\x00" + "12345" + "\x00" + "7" + "\x00" + "9" + "23456789" // A to Z, 0 for none
	weights := [17]int{8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2}
	sum, letters := 0, 0
	for k, c := range b {
		v := int(c) - '0'
		if classes[c]&digit == 0 {
			if classes[c]&upper == 0 || values[c-'A'] == 0 {
				return false, false
			}
			v = int(values[c-'A'] - '0')
			letters++
		}
		sum += v * weights[k]
	}
	check := byte('0' + sum%11)
	if sum%11 == 10 {
		check = 'X'
	}
	return !same(b) && letters > 0, b[8] == check
}

// mbi: eleven characters of a Medicare Beneficiary Identifier (CMS), each of
// its kind; letters are not S, L, O, I, B or Z.
func mbi(b []byte) bool {
	const form = "1A*0A*0AA00" // 1: 1 to 9, A: letter, *: either, 0: digit
	if len(b) != len(form) {
		return false
	}
	for k, c := range b {
		d := classes[c]&digit != 0
		l := classes[c]&upper != 0
		switch c {
		case 'S', 'L', 'O', 'I', 'B', 'Z':
			l = false
		}
		if f := form[k]; f == '1' && (!d || c == '0') || f == '0' && !d || f == 'A' && !l || f == '*' && !d && !l {
			return false
		}
	}
	return true
}

func same(b []byte) bool {
	for _, c := range b {
		if c != b[0] {
			return false
		}
	}
	return true
}

// value is the number that digits write; at most 18 of them.
func value(d []byte) (n int) {
	for _, c := range d {
		n = n*10 + int(c-'0')
	}
	return n
}
