package corpus

import (
	"fmt"
	"strings"
)

const (
	digits = "0123456789"
	capits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	smalls = "abcdefghijklmnopqrstuvwxyz"
	base62 = digits + capits + smalls
)

var (
	firsts  = strings.Fields("Ana Ben Chloe David Emma Farid Grace Hugo Ines Jonas Kira Liam Mei Noor Omar Priya")
	lasts   = strings.Fields("Field Wood Stone Brook Hill Ford Garcia Nguyen Kowalski Okafor Meyer Rossi")
	streets = strings.Fields("Baker Maple Washington Elm Lincoln Cedar Oak Franklin")
	areas   = strings.Fields("212 617 415 312 206 303 512 602 713 404 305 202 919 503 615")
	towns   = []string{"Boston, MA", "Austin, TX", "Denver, CO", "Portland, OR", "Tucson, AZ", "Springfield, IL"}
	months  = strings.Fields("January February March April May June July August September October November December")
)

func (g *generator) of(set string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = set[g.IntN(len(set))]
	}
	return string(b)
}

func (g *generator) num(low, high int) int { return low + g.IntN(high-low+1) }

// luhn appends the check digit; sum is that of a prefix.
func luhn(d string, sum int) string {
	for i := range len(d) {
		n := int(d[len(d)-1-i] - '0')
		if i%2 == 0 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return d + string(rune('0'+(10-sum%10)%10))
}

func (g *generator) ssn() (string, string, string) {
	area := g.num(1, 899)
	if area == 666 {
		area = 665
	}
	return fmt.Sprintf("%03d", area), fmt.Sprintf("%02d", g.num(1, 99)), fmt.Sprintf("%04d", g.num(1, 9999))
}

func (g *generator) card() string {
	switch g.IntN(4) {
	case 0:
		return luhn("5"+fmt.Sprint(g.num(1, 5))+g.of(digits, 13), 0)
	case 1:
		return luhn("6011"+g.of(digits, 11), 0)
	}
	return luhn("4"+g.of(digits, 14), 0)
}

func group(s string, sep string, sizes ...int) string {
	var parts []string
	for _, n := range sizes {
		parts = append(parts, s[:n])
		s = s[n:]
	}
	return strings.Join(parts, sep)
}

func (g *generator) phone() (area, exchange, line string) {
	return g.pick(areas), fmt.Sprint(g.num(220, 998)), g.of(digits, 4)
}

func (g *generator) iban() string {
	c := g.pick([]string{"DE18", "FR23", "GB22"})
	body := g.of(digits, int(c[2]-'0')*10+int(c[3]-'0'))
	if c[:2] == "GB" {
		body = g.of(capits, 4) + g.of(digits, 14)
	}
	m := 0
	for _, r := range body + c[:2] + "00" {
		v := int(r - '0')
		if r >= 'A' {
			v = int(r-'A') + 10
			m = m * 10 % 97
		}
		m = (m*10 + v) % 97
	}
	return fmt.Sprintf("%s%02d%s", c[:2], 98-m, body)
}

func (g *generator) dea() string {
	d := g.of(digits, 6)
	n := func(i int) int { return int(d[i] - '0') }
	return g.of("ABCDEFGHJKLMPRSTUX", 1) + g.of(capits, 1) + d + fmt.Sprint((n(0)+n(2)+n(4)+2*(n(1)+n(3)+n(5)))%10)
}

func (g *generator) vin() string {
	const set = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
	values := map[byte]int{}
	for i := range len(capits) {
		values[capits[i]] = i%9 + 1
	}
	for i, c := range "STUVWXYZ" {
		values[byte(c)] = i + 2
	}
	b := []byte(g.of("123457JKLSTVWYZ", 1) + g.of(capits[:8], 1) + g.of(set, 6) + "0" + g.of(set, 8))
	weights := []int{8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2}
	sum := 0
	for i, c := range b {
		v := int(c) - '0'
		if c >= 'A' {
			v = values[c]
		}
		sum += v * weights[i]
	}
	if b[8] = byte('0' + sum%11); sum%11 == 10 {
		b[8] = 'X'
	}
	return string(b)
}

func (g *generator) mbi() string {
	const l = "ACDEFGHJKMNPQRTUVWXY"
	return g.of(digits[1:], 1) + g.of(l, 1) + g.of(l+digits, 1) + g.of(digits, 1) + g.of(l, 1) + g.of(l+digits, 1) + g.of(digits, 1) + g.of(l, 2) + g.of(digits, 2)
}

func (g *generator) day() (y, m, d int) { return g.num(1925, 2024), g.num(1, 12), g.num(1, 28) }
