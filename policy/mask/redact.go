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
		if c, ok := empties[t.Name]; ok && t.Extension == (t.Name == "hstore") {
			return constant(c, literal(c), t)
		}
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
	if !known || t.Extension || !valid(m.Constant, t) {
		return nil
	}
	shown := m.Constant
	switch t.Name { // as the server prints it
	case "bool":
		shown = shown[:1]
	case "money":
		shown = "$0.00" // in the C locale
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
	"macaddr8":    matches(`^[0-9a-f]{2}(:[0-9a-f]{2}){7}$`),
	"inet": func(s string, _ Type) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && isAddr(a) && a.String() == s
	},
	"cidr": func(s string, _ Type) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && isAddr(p.Addr()) && p.Masked().String() == s
	},
	"timetz":  isTime("15:04:05+00"),
	"money":   matches(`^0$`), // others depend on lc_monetary
	"bit":     isBits,
	"varbit":  isBits,
	"oid":     isOID,
	"pg_lsn":  matches(`^0/0$`),
	"point":   matches(`^\(0,0\)$`),
	"lseg":    matches(`^\[\(0,0\),\(0,0\)\]$`),
	"box":     matches(`^\(0,0\),\(0,0\)$`),
	"path":    matches(`^\(\(0,0\)\)$`),
	"polygon": matches(`^\(\(0,0\)\)$`),
	"circle":  matches(`^<\(0,0\),0>$`),
	// Of one unit, so that IntervalStyle changes how it is printed and not what it is.
	"interval": func(s string, t Type) bool {
		return s == "00:00:00" || t.SQL == "interval" && oneUnit.MatchString(s)
	},
	"json":  isJSON,
	"jsonb": isJSON,
}

var oneUnit = regexp.MustCompile(`^(1 (day|mon|year)|([2-9]|[1-9][0-9]{1,3}) days|([2-9]|1[01]) mons|([2-9]|[1-9][0-9]{1,2}) years)$`)

// empties are what types have that is the least of them, where a constant could not
// be taken for a value.
var empties = map[string]string{
	"int4range": "empty", "int8range": "empty", "numrange": "empty", "daterange": "empty", "tsrange": "empty", "tstzrange": "empty",
	"int4multirange": "{}", "int8multirange": "{}", "nummultirange": "{}", "datemultirange": "{}", "tsmultirange": "{}", "tstzmultirange": "{}",
	"tsvector": "", "tsquery": "", "varbit": "", "hstore": "", "xml": "<redacted/>",
}

// isAddr takes addresses that the server prints as we do.
func isAddr(a netip.Addr) bool {
	return a.Is4() || a.Is6() && a.Zone() == "" && (a.IsUnspecified() || a.As16()[0] != 0)
}

func isBits(s string, t Type) bool {
	n, _, limited := t.mods()
	return strings.Trim(s, "01") == "" && (t.Name == "bit" && len(s) == n || t.Name == "varbit" && (!limited || len(s) <= n))
}

func isOID(s string, _ Type) bool {
	n, err := strconv.ParseUint(s, 10, 32)
	return err == nil && strconv.FormatUint(n, 10) == s
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
