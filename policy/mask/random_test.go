package mask_test

import (
	"fmt"
	"math"
	"math/rand"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

// Values that nobody thought of: both forms show the same.
func TestRandomForms(t *testing.T) {
	r := rand.New(rand.NewSource(1)) // the same each time
	c := connect(t, "postgres", "SET TimeZone = 'UTC'; SET search_path = pg_catalog")
	pick := func(from ...string) string { return from[r.Intn(len(from))] }
	words := func() string {
		var b strings.Builder
		for range r.Intn(14) {
			b.WriteString(pick("0", "1", "23", "4567", "020", "-", " ", ".", "@", "a", "Bc", "com", "é", "\n", "(", ")", "+", "李", "e\u0301", "😀", "\u0660", "\t", "'", `"`, `\`))
		}
		return b.String()
	}
	digits := func() string {
		s := ""
		for range 1 + r.Intn(19) {
			s += pick("0", "1", "2", "7", "9") + pick("", "", "", "-", " ")
		}
		return s
	}
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.Intn(8); {
		case depth > 4 || n < 2:
			return pick(`"x"`, "1", "-0.50", "12e2", "1.5E-3", "null", "true", `"\u00e9\n\\u0000"`, `"\ud83d\ude00"`, `"\u0001"`, `"\ud83d"`)
		case n < 4:
			return "[" + value(depth+1) + pick(",", " , ") + value(depth+1) + "]"
		}
		s := "{"
		for i := range r.Intn(5) {
			s += strings.Repeat(",", min(i, 1)) + `"` + pick("a", "b", "c", "d", "t", "zz") + `":` + value(depth+1)
		}
		return s + "}"
	}
	whole := func(bits int) func() string {
		return func() string {
			return fmt.Sprint(int64(r.Uint64()) >> (64 - bits) >> r.Intn(bits))
		}
	}
	decimals := func() string { return pick("", "-") + fmt.Sprintf("%d.%02d", r.Intn(10000), r.Intn(100)) }
	moment := func(clock, zone string) func() string {
		return func() string {
			if clock != "" {
				clock = fmt.Sprintf(" %02d:%02d:%02d%s", r.Intn(24), r.Intn(60), r.Intn(60), pick("", ".5", ".123456"))
			}
			return fmt.Sprintf("%04d-%02d-%02d%s%s%s", 1+r.Intn(4000), 1+r.Intn(12), 1+r.Intn(28), clock, zone, pick("", " BC"))
		}
	}
	texts := []policy.Mask{last4, first1, ends, none, zip3, email, phone, ssn, pan}
	numbers := []policy.Mask{tens, million, {Kind: "bucket", Width: 7}, zip3, phone, ssn, pan}
	times := []policy.Mask{year, recent, hourly, daily, monthly, quarter}
	for _, x := range []struct {
		typ   mask.Type
		masks []policy.Mask
		value func() string
	}{
		{text, texts, words},
		{text, texts, digits},
		{mask.Type{Name: "varchar", SQL: "character varying(5)"}, texts, func() string { return digits()[:1] + pick("", "2", "34", "@b.c") }},
		{text, texts, func() string { return strings.ReplaceAll(words(), "@", "") + "@" + pick("x.org", "y.co.uk", "z", "") }},
		{mask.Type{Name: "jsonb"}, []policy.Mask{keepAB, keepEach, redact}, func() string { return strings.ReplaceAll(value(0), `\ud83d"`, `"`) }},
		{mask.Type{Name: "json"}, []policy.Mask{keepAB, keepEach, redact}, func() string { return value(0) }},
		{mask.Type{Name: "int2"}, numbers, whole(16)},
		{mask.Type{Name: "int4"}, numbers, whole(32)},
		{mask.Type{Name: "int8"}, numbers, whole(64)},
		{mask.Type{Name: "numeric"}, numbers, func() string { return decimals() + pick("", "123456789012345678901234567890") }},
		{mask.Type{Name: "numeric", SQL: "numeric(6,2)"}, numbers, decimals},
		{mask.Type{Name: "float8"}, numbers, func() string { return fmt.Sprint(math.Float64frombits(r.Uint64())) }},
		{mask.Type{Name: "float8"}, numbers, decimals},
		{mask.Type{Name: "float4"}, numbers, func() string { return fmt.Sprint(math.Float32frombits(r.Uint32())) }},
		{mask.Type{Name: "date"}, times, moment("", "")},
		{mask.Type{Name: "timestamp"}, times, moment(" ", "")},
		{mask.Type{Name: "timestamptz"}, times, moment(" ", "+05:30")},
	} {
		var in []string
		for range 300 {
			in = append(in, strings.NewReplacer("NaN", "0", "+Inf", "0", "-Inf", "0").Replace(x.value()))
		}
		for _, m := range x.masks {
			sql, _, err := mask.SQL(m, "v", x.typ)
			if err != nil || sql == "" {
				continue
			}
			rows, err := c.Query(t.Context(), "SELECT v::text, ("+sql+")::text FROM (SELECT w::"+x.typ.Cast()+" AS v, n FROM unnest($1::text[]) WITH ORDINALITY u(w, n)) x ORDER BY n", in)
			if err != nil {
				t.Fatal(err)
			}
			shown := map[string]bool{}
			for rows.Next() {
				var stored string
				var want *string
				if err := rows.Scan(&stored, &want); err != nil {
					t.Fatal(err)
				}
				got, null := mask.Apply(m, x.typ, stored)
				if null != (want == nil) || !null && !same(got, *want) {
					t.Errorf("%s of %s %q: Go shows %q (NULL %v), the server %v", mask.Describe(m), x.typ.Name, stored, got, null, show(want))
				}
				shown[got] = true
			}
			if err := rows.Err(); err != nil {
				t.Errorf("%s of %s: %v", mask.Describe(m), x.typ.Name, err)
			}
			if len(shown) == 0 {
				t.Errorf("%s of %s: nothing was shown", mask.Describe(m), x.typ.Name)
			}
		}
	}
}

// same: the server takes no digits halfway to the next number, and then prints
// more of them.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 32)
	y, errY := strconv.ParseFloat(b, 32)
	return errX == nil && errY == nil && x == y && strings.Contains(a, "e+")
}

func show(s *string) string {
	if s == nil {
		return isNull
	}
	return fmt.Sprintf("%q", *s)
}
