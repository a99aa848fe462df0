package mask

import (
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// intBits are the sizes of whole numbers.
var intBits = map[string]int{"int2": 16, "int4": 32, "int8": 64}

// bucket shows the lower end of the bucket that a value is in.
func bucket(m policy.Mask, t Type) *form {
	switch {
	case m.Unit != "":
		return moment(m, t)
	case intBits[t.Name] > 0:
		return bucketInt(int64(m.Width), t)
	case t.Name == "numeric":
		return bucketNumeric(int64(m.Width), t)
	case t.Name == "float4" || t.Name == "float8":
		return bucketFloat(int64(m.Width), t)
	}
	return nil
}

// bucketInt: the lowest bucket begins where the type does.
func bucketInt(w int64, t Type) *form {
	least := int64(math.MinInt64) >> (64 - intBits[t.Name])
	return &form{
		sql: func(q string) string {
			v, width := q+"::pg_catalog.int8", number(w, "int8")
			rest := op("("+op("("+op(v, "%", width)+")", "+", width)+")", "%", width)
			return "CASE WHEN " + q + " IS NULL THEN NULL WHEN " + op(v, "<", number(math.MinInt64+w, "int8")) + " THEN " + number(least, "int8") +
				" ELSE GREATEST(" + op(v, "-", "("+rest+")") + ", " + number(least, "int8") + ") END"
		},
		text: func(s string) (string, bool) {
			v, err := strconv.ParseInt(s, 10, intBits[t.Name])
			switch {
			case err != nil:
				return "", true
			case v < math.MinInt64+w:
				v = least
			default:
				v = max(v-(v%w+w)%w, least)
			}
			return strconv.FormatInt(v, 10), false
		},
	}
}

// far bounds what bucket understands of decimal numbers.
const far = 30 // digits

// bucketNumeric: NaN and the infinities stay what they are; finite numbers
// that are further away than anything real are NULL. The lowest bucket begins
// where the type does.
func bucketNumeric(w int64, t Type) *form {
	precision, scale, limited := t.mods()
	if limited && (scale < 0 || scale > precision) {
		return nil // of numbers that no whole width fits
	}
	least := ""
	if limited && precision < far {
		least = "-" + strings.Repeat("9", precision-scale)
		if least == "-" {
			least = "-0"
		}
		if scale > 0 {
			least += "." + strings.Repeat("9", scale)
		}
	}
	width := new(big.Rat).SetInt64(w)
	end := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(far), nil))
	return &form{
		sql: func(q string) string {
			num := func(s string) string { return literal(s) + "::pg_catalog.numeric" }
			n := num(strconv.FormatInt(w, 10))
			rest := op("("+op("("+op(q, "%", n)+")", "+", n)+")", "%", n)
			low := "pg_catalog.trunc(" + op(q, "-", "("+rest+")") + ", 0)"
			if least != "" {
				low = "GREATEST(" + low + ", " + num(least) + ")"
			}
			e := "1e" + strconv.Itoa(far)
			return "CASE WHEN " + op(q, ">", num("-"+e)) + " AND " + op(q, "<", num(e)) + " THEN " + low +
				" WHEN " + op("("+op(q, "-", q)+")", "=", num("0")) + " THEN NULL ELSE " + q + " END"
		},
		text: func(s string) (string, bool) {
			if s == "NaN" || s == "Infinity" || s == "-Infinity" {
				return s, false
			}
			v, ok := decimal(s)
			if !ok || new(big.Rat).Abs(v).Cmp(end) >= 0 {
				return "", true
			}
			steps := new(big.Rat).Quo(v, width)
			k := new(big.Int).Div(steps.Num(), steps.Denom()) // towards the lower, for denominators are positive
			v.Mul(new(big.Rat).SetInt(k), width)
			if least != "" {
				if l, _ := decimal(least); v.Cmp(l) < 0 {
					v = l
				}
			}
			return v.FloatString(scale), false
		},
	}
}

var decimalForm = regexp.MustCompile(`^-?\d{1,1000}(\.\d{1,1000})?$`)

// decimal reads a decimal number without an exponent.
func decimal(s string) (*big.Rat, bool) {
	if !decimalForm.MatchString(s) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// exact bounds the numbers of floating point that bucket understands: their
// multiples of a width are exact.
const exact = 1e15

// bucketFloat: NaN and the infinities stay what they are.
func bucketFloat(w int64, t Type) *form {
	bits, digits := 64, 15
	if t.Name == "float4" {
		bits, digits = 32, 6
	}
	return &form{
		sql: func(q string) string {
			v, width := q+"::pg_catalog.float8", number(w, "float8")
			zero, below := number(0, "float8"), number(-w, "float8")
			low := op("pg_catalog.floor("+op(v, "/", width)+")", "*", width)
			return "CASE WHEN " + op(v, ">=", zero) + " AND " + op(v, "<", width) + " THEN " + zero + // what is too small to be divided fails
				" WHEN " + op(v, "<", zero) + " AND " + op(v, ">=", below) + " THEN " + below +
				" WHEN " + op(v, ">", number(-exact, "float8")) + " AND " + op(v, "<", number(exact, "float8")) + " THEN " + low +
				" WHEN " + op(v, "=", "ANY (ARRAY['NaN','Infinity','-Infinity']::pg_catalog.float8[])") + " THEN " + v + " END"
		},
		text: func(s string) (string, bool) {
			if s == "NaN" || s == "Infinity" || s == "-Infinity" {
				return s, false
			}
			v, err := strconv.ParseFloat(s, bits)
			if err != nil || math.Abs(v) >= exact || math.IsNaN(v) {
				return "", true
			}
			v = math.Floor(v/float64(w))*float64(w) + 0 // no negative zero
			return formatFloat(v, bits, digits), false
		},
	}
}

// formatFloat prints as PostgreSQL does: the shortest digits, with an exponent
// from 10^digits on.
func formatFloat(v float64, bits, digits int) string {
	verb := byte('f')
	if a := math.Abs(v); a != 0 && (a >= math.Pow10(digits) || a < 1e-4) {
		verb = 'e'
	}
	return strconv.FormatFloat(v, verb, -1, bits)
}

// lastDigits shows the last four digits of a number that has from least to
// most digits. Zeros at its beginning are not stored.
func lastDigits(least, most int) func(policy.Mask, Type) *form {
	low, high := int64(math.Pow10(least-1)), int64(math.Pow10(most))
	if least == 1 {
		low = 0
	}
	return func(_ policy.Mask, t Type) *form {
		if bits := intBits[t.Name]; bits < 32 || low > math.MaxInt64>>(64-bits) {
			return nil
		}
		return ofInt(t, low, high,
			func(v string) string { return op(v, "%", number(10_000, "int8")) },
			func(v int64) int64 { return v % 10_000 })
	}
}

// sparse are the prefixes of ZIP codes with at most 20,000 people, which
// 45 CFR 164.514(b)(2)(i)(B) has changed to 000: those that the Department of
// Health names from the census of 2000, and those of the census of 2010.
var sparse = []string{
	"036", "059", "063", "102", "202", "203", "204", "205", "369", "556", "692", "753",
	"772", "790", "821", "823", "830", "831", "878", "879", "884", "890", "893",
}

// zip3Number is zip3 of ZIP codes that are stored as numbers.
func zip3Number(_ policy.Mask, t Type) *form {
	if intBits[t.Name] < 32 {
		return nil
	}
	const hundred = 100
	list := make([]string, len(sparse))
	for i, s := range sparse {
		list[i] = strings.TrimLeft(s, "0")
	}
	return ofInt(t, 0, 100_000,
		func(v string) string {
			three := "(" + op(v, "/", number(hundred, "int8")) + ")"
			return "CASE WHEN " + op(three, "=", "ANY ('{"+strings.Join(list, ",")+"}'::pg_catalog.int8[])") + " THEN " + number(0, "int8") + " ELSE " + op(three, "*", number(hundred, "int8")) + " END"
		},
		func(v int64) int64 {
			if slices.Contains(list, strconv.FormatInt(v/hundred, 10)) {
				return 0
			}
			return v / hundred * hundred
		})
}

// ofInt is a mask of whole numbers from low to below high. Others are NULL.
func ofInt(t Type, low, high int64, sql func(v string) string, text func(int64) int64) *form {
	return &form{
		sql: func(q string) string {
			v := q + "::pg_catalog.int8"
			return "CASE WHEN " + op(v, ">=", number(low, "int8")) + " AND " + op(v, "<", number(high, "int8")) + " THEN " + sql(v) + " END"
		},
		text: func(s string) (string, bool) {
			v, err := strconv.ParseInt(s, 10, intBits[t.Name])
			if err != nil || v < low || v >= high {
				return "", true
			}
			return strconv.FormatInt(text(v), 10), false
		},
	}
}
