package mask

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
)

// redact shows a constant. Where none is given, types that are not text show
// the least that there is of them, or NULL.
func redact(m policy.Mask, t Type) *form {
	if _, array := t.element(); array {
		if m.Constant != "" {
			return nil // but of each element
		}
		return constant("{}", literal("{}"), t)
	}
	switch {
	case t.isText():
		c := m.Constant
		if c == "" {
			c = defaultConstant
		}
		return constant(t.fit(c), literal(c), t)
	case m.Constant == "" && (t.Name == "json" || t.Name == "jsonb"):
		return jsonShape(t)
	case m.Constant == "":
		return nil
	case t.Labels != nil:
		if !slices.Contains(t.Labels, m.Constant) {
			return nil
		}
		return constant(m.Constant, literal(m.Constant), t)
	case t.Name == "bytea": // as the constant's bytes
		h := hex.EncodeToString([]byte(m.Constant))
		return constant(`\x`+h, "pg_catalog.decode("+literal(h)+", 'hex')", t)
	}
	valid, known := constants[t.Name]
	if !known || !valid(m.Constant, t) {
		return nil
	}
	shown := m.Constant
	if t.Name == "bool" {
		shown = shown[:1] // as the server prints it
	}
	return constant(shown, literal(m.Constant), t)
}

// constant shows the same everywhere but in place of NULL. sql is without a
// type, or of t.
func constant(text, sql string, t Type) *form {
	return &form{
		sql:   func(q string) string { return unlessNull(q, sql+"::"+t.Cast()) },
		text:  func(string) (string, bool) { return text, false },
		fixed: true,
	}
}

// constants says of each type what is a value of it, in the form that the
// server prints. Nothing that could fail is sent.
var constants = map[string]func(string, Type) bool{
	"bool":        func(s string, _ Type) bool { return s == "true" || s == "false" },
	"int2":        isInt,
	"int4":        isInt,
	"int8":        isInt,
	"float4":      isFloat,
	"float8":      isFloat,
	"numeric":     isNumeric,
	"date":        isTime("2006-01-02"),
	"time":        isTime("15:04:05"),
	"timestamp":   isTime("2006-01-02 15:04:05"),
	"timestamptz": isTime("2006-01-02 15:04:05+00"),
	"uuid":        matches(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"macaddr":     matches(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`),
	"inet": func(s string, _ Type) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4() && a.String() == s
	},
	"cidr": func(s string, _ Type) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Addr().Is4() && p.Masked().String() == s
	},
	"json":  isJSON,
	"jsonb": isJSON,
}

func isInt(s string, t Type) bool {
	n, err := strconv.ParseInt(s, 10, intBits[t.Name])
	return err == nil && strconv.FormatInt(n, 10) == s
}

func isFloat(s string, t Type) bool {
	bits, digits := 64, 15
	if t.Name == "float4" {
		bits, digits = 32, 6
	}
	v, err := strconv.ParseFloat(s, bits)
	return err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) && formatFloat(v, bits, digits) == s
}

func isNumeric(s string, t Type) bool {
	if _, ok := decimal(s); !ok {
		return false
	}
	precision, scale, limited := t.mods()
	whole, fraction, _ := strings.Cut(strings.TrimLeft(s, "-0"), ".")
	return !limited || scale >= 0 && len(fraction) == scale && len(whole) <= precision-scale
}

// isTime takes years from 1 to 9999.
func isTime(layout string) func(string, Type) bool {
	return func(s string, _ Type) bool {
		d, err := time.Parse(layout, s)
		return err == nil && d.Format(layout) == s && !strings.HasPrefix(s, "0000-")
	}
}

func matches(form string) func(string, Type) bool {
	re := regexp.MustCompile(form)
	return func(s string, _ Type) bool { return re.MatchString(s) }
}

func isJSON(s string, _ Type) bool { return json.Valid([]byte(s)) }
