package corpus

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// forms make the values that templates name.
var forms map[string]func(g *generator) string

func init() {
	forms = map[string]func(g *generator) string{
		"ssn":  func(g *generator) string { a, b, c := g.ssn(); return a + "-" + b + "-" + c },
		"ssn_": func(g *generator) string { a, b, c := g.ssn(); return a + " " + b + " " + c },
		"ssn9": func(g *generator) string { a, b, c := g.ssn(); return a + b + c },
		"itin": func(g *generator) string {
			return "9" + g.of(digits, 2) + "-7" + g.of("01234567", 1) + "-" + g.of(digits, 4)
		},
		"card":   func(g *generator) string { return g.card() },
		"card4":  func(g *generator) string { return group(g.card(), " ", 4, 4, 4, 4) },
		"card-":  func(g *generator) string { return group(g.card(), "-", 4, 4, 4, 4) },
		"amex":   func(g *generator) string { return group(luhn("37"+g.of(digits, 12), 0), " ", 4, 6, 5) },
		"npi":    func(g *generator) string { return luhn("1"+g.of(digits, 8), 24) },
		"dea":    func(g *generator) string { return g.dea() },
		"iban":   func(g *generator) string { return g.iban() },
		"iban4":  func(g *generator) string { s := g.iban(); return strings.TrimSpace(spaced(s)) },
		"phone(": func(g *generator) string { a, e, l := g.phone(); return "(" + a + ") " + e + "-" + l },
		"phone-": func(g *generator) string { a, e, l := g.phone(); return a + "-" + e + "-" + l },
		"phone.": func(g *generator) string { a, e, l := g.phone(); return a + "." + e + "." + l },
		"phone_": func(g *generator) string { a, e, l := g.phone(); return a + " " + e + " " + l },
		"phone1": func(g *generator) string { a, e, l := g.phone(); return "1-" + a + "-" + e + "-" + l },
		"phone9": func(g *generator) string { a, e, l := g.phone(); return a + e + l },
		"phone+": func(g *generator) string { a, e, l := g.phone(); return "+1" + a + e + l },
		"london": func(g *generator) string { return "+44 20 7" + g.of(digits, 3) + " " + g.of(digits, 4) },
		"berlin": func(g *generator) string { return "+49 30 " + g.of("23456789", 1) + g.of(digits, 6) },
		"local":  func(g *generator) string { return "030 " + g.of("23456789", 1) + g.of(digits, 6) },
		"email": func(g *generator) string {
			return strings.ToLower(g.pick(firsts)+g.pick([]string{".", "_", "+"})+g.pick(lasts)) + fmt.Sprint(g.num(1, 99)) + "@" + g.pick([]string{"example.org", "mail.example.co.uk", "clinic.example.com"})
		},
		"ip": func(g *generator) string {
			return fmt.Sprintf("%d.%d.%d.%d", g.num(128, 223), g.num(1, 255), g.num(0, 255), g.num(1, 254))
		},
		"ip6": func(g *generator) string {
			return "2001:db8:" + g.of("123456789abcdef", 3) + "::" + g.of("123456789abcdef", 4)
		},
		"mac": func(g *generator) string {
			b := g.of("0123456789abcdef", 12)
			return group(b, ":", 2, 2, 2, 2, 2, 2)
		},
		"url": func(g *generator) string {
			return "https://portal.example.com/patients/" + g.of(digits, 5) + "?tab=" + g.of(smalls, 5)
		},
		"www": func(g *generator) string {
			return "www." + strings.ToLower(g.pick(lasts)) + ".example.org/" + g.of(smalls, 6)
		},
		"vin":  func(g *generator) string { return g.vin() },
		"mbi":  func(g *generator) string { return g.mbi() },
		"mbi-": func(g *generator) string { return group(g.mbi(), "-", 4, 3, 4) },
		"icd": func(g *generator) string {
			return g.of("ABCEFGIJKLMNR", 1) + g.of(digits, 2) + "." + g.of(digits, g.num(1, 3))
		},
		"mrn":   func(g *generator) string { return g.of(digits, g.num(6, 9)) },
		"mrnA":  func(g *generator) string { return g.of(capits, 1) + g.of(digits, 7) },
		"iso":   func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%d-%02d-%02d", y, m, d) },
		"us":    func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%02d/%02d/%d", m, d, y) },
		"us2":   func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%d/%d/%02d", m, d, y%100) },
		"dots":  func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%02d.%02d.%d", d, m, y) },
		"long":  func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%s %d, %d", months[m-1], d, y) },
		"euro":  func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%d %s %d", d, months[m-1][:3], y) },
		"ymd":   func(g *generator) string { y, m, d := g.day(); return fmt.Sprintf("%d%02d%02d", y, m, d) },
		"age":   func(g *generator) string { return fmt.Sprint(g.num(90, 106)) },
		"young": func(g *generator) string { return fmt.Sprint(g.num(2, 89)) },
		"zip":   func(g *generator) string { return g.of("01234567", 1) + g.of(digits, 4) },
		"zip+4": func(g *generator) string { return g.of("01234567", 1) + g.of(digits, 4) + "-" + g.of(digits, 4) },
		"street": func(g *generator) string {
			return fmt.Sprint(g.num(1, 9999)) + " " + g.pick(streets) + " " + g.pick(strings.Fields("Street St Avenue Ave Road Lane Drive Blvd"))
		},
		"acct": func(g *generator) string { return g.of(digits, g.num(8, 12)) },
		"aba": func(g *generator) string {
			for {
				d := "0" + g.of("123456789", 1) + g.of(digits, 7)
				sum := 0
				for i := range d {
					sum += int(d[i]-'0') * []int{3, 7, 1}[i%3]
				}
				if sum%10 == 0 {
					return d
				}
			}
		},
		"member":   func(g *generator) string { return g.of(capits, 3) + g.of(digits, 9) },
		"licence":  func(g *generator) string { return g.of(capits, 1) + g.of(digits, 8) },
		"plate":    func(g *generator) string { return g.of(digits, 1) + g.of(capits, 3) + g.of(digits, 3) },
		"serial":   func(g *generator) string { return g.of(capits, 2) + g.of(digits, 8) },
		"imei":     func(g *generator) string { return luhn("35"+g.of(digits, 12), 0) },
		"passport": func(g *generator) string { return g.of(capits, 1) + g.of(digits, 8) },
		"aws":      func(g *generator) string { return "AKIA" + g.of(capits+"234567", 16) },
		"github":   func(g *generator) string { return "ghp_" + g.of(base62, 36) },
		"slack": func(g *generator) string {
			return "xoxb-" + g.of(digits, 11) + "-" + g.of(digits, 12) + "-" + g.of(base62, 24)
		},
		"stripe": func(g *generator) string { return "sk_" + "live_" + g.of(base62, 24) },
		"google": func(g *generator) string { return "AIza" + g.of(base62+"-_", 34) + g.of(base62, 1) },
		"jwt": func(g *generator) string {
			e := base64.RawURLEncoding.EncodeToString
			return e([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + e([]byte(`{"sub":"`+g.pick(firsts)+`","n":`+g.of(digits[1:], 9)+`}`)) + "." + g.of(base62, 86)
		},
		"pem": func(g *generator) string {
			var b strings.Builder
			b.WriteString("-----BEGIN RSA " + "PRIVATE KEY-----\n")
			for range g.num(3, 30) {
				b.WriteString(g.of(base62+"+/", 64) + "\n")
			}
			return b.String() + "-----END RSA " + "PRIVATE KEY-----"
		},
		"password": func(g *generator) string {
			return g.of(smalls, 4) + g.of(digits, 2) + g.of("!#%*", 1) + g.of(capits, 3)
		},
		"first":  func(g *generator) string { return g.pick(firsts) },
		"last":   func(g *generator) string { return g.pick(lasts) },
		"town":   func(g *generator) string { return g.pick(towns) },
		"int":    func(g *generator) string { return fmt.Sprint(g.num(1, 99999)) },
		"d9":     func(g *generator) string { return g.of(digits[1:], 1) + g.of(digits, 8) },
		"d10":    func(g *generator) string { return g.of(digits[1:], 1) + g.of(digits, 9) },
		"d16":    func(g *generator) string { return g.of(digits[1:], 1) + g.of(digits, 15) },
		"epoch":  func(g *generator) string { return fmt.Sprint(g.num(1_500_000_000, 1_800_000_000)) },
		"millis": func(g *generator) string { return fmt.Sprint(g.num(1_500_000_000_000, 1_800_000_000_000)) },
		"moment": func(g *generator) string {
			return time.Unix(int64(g.num(1_500_000_000, 1_800_000_000)), 0).UTC().Format(time.RFC3339)
		},
		"clock": func(g *generator) string {
			return fmt.Sprintf("%02d:%02d:%02d", g.num(0, 23), g.num(0, 59), g.num(0, 59))
		},
		"uuid":  func(g *generator) string { return group(g.of("0123456789abcdef", 32), "-", 8, 4, 4, 4, 12) },
		"sha1":  func(g *generator) string { return g.of("0123456789abcdef", 40) },
		"hex17": func(g *generator) string { return g.of("0123456789abcdef", 17) },
		"version": func(g *generator) string {
			return fmt.Sprintf("%d.%d.%d.%d", g.num(1, 20), g.num(0, 99), g.num(0, 99), g.num(1, 99))
		},
		"money": func(g *generator) string {
			return fmt.Sprintf("$%d,%03d,%03d.%02d", g.num(1, 99), g.num(0, 999), g.num(0, 999), g.num(0, 99))
		},
		"pi": func(g *generator) string { return "3." + g.of(digits, 15) },
		"isbn": func(g *generator) string {
			return "978-" + g.of(digits, 1) + "-" + g.of(digits, 4) + "-" + g.of(digits, 4) + "-" + g.of(digits, 1)
		},
		"parted": func(g *generator) string {
			return g.of(digits, 3) + "-" + g.of(digits, 2) + "-" + g.of(digits, 4) + "-" + g.of(digits, 2)
		},
		"area9": func(g *generator) string {
			return g.pick([]string{"000", "666"}) + "-" + g.of(digits[1:], 2) + "-" + g.of(digits[1:], 4)
		},
		"noarea": func(g *generator) string {
			return g.pick([]string{"199", "121", "099"}) + "-" + g.of(digits, 3) + "-" + g.of(digits, 4)
		},
		"sku": func(g *generator) string { return g.of(capits, 2) + "-" + g.of(digits, 4) + "-" + g.of(digits, 4) },
		"lab": func(g *generator) string { return fmt.Sprintf("%d/%d", g.num(100, 160), g.num(60, 99)) },
	}
}

func spaced(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
