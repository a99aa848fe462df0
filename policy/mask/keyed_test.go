package mask_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

const keyText = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

func keys(t testing.TB) *mask.Keys {
	t.Helper()
	k, err := mask.ParseKeys([]byte(keyText))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var patients = policy.Relation{Schema: "clinic", Name: "patients"}

func shows(m *mask.Masker, value string) string {
	out, ok := m.Append([]byte("before "), []byte(value), false)
	if !ok {
		return isNull
	}
	return strings.TrimPrefix(string(out), "before ")
}

func TestKeyed(t *testing.T) {
	k := keys(t)
	hash, token := policy.Mask{Kind: "hash"}, policy.Mask{Kind: "token"}
	format, name := policy.Mask{Kind: "format"}, policy.Mask{Kind: "fake", Of: "name"}
	for _, c := range []struct {
		m          policy.Mask
		typ, value string
		want       string // a regular expression
	}{
		{hash, "text", "123-45-6789", `[0-9a-f]{32}`},
		{hash, "int4", "42", isNull},
		{hash, "jsonb", "{}", isNull},
		{token, "text", "123-45-6789", `tok_[a-z2-7]{16}`},
		{token, "text", "", `tok_[a-z2-7]{16}`},
		{token, "uuid", "00000000-0000-0000-0000-000000001234", `[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`},
		{token, "uuid", "not one", isNull},
		{token, "int4", "42", `\d+`},
		{token, "int8", "-42", `-\d+`},
		{token, "int4", "2147483648", isNull},
		{token, "int2", "42", isNull},
		{token, "numeric", "42", isNull},
		{format, "text", "123-45-6789", `\d{3}-\d{2}-\d{4}`},
		{format, "text", "(617) 555-0143", `\(\d{3}\) \d{3}-\d{4}`},
		{format, "text", "MRN-004512", `[A-Z]{3}-\d{6}`},
		{format, "text", "alice@example.org", `[a-z]{5}@[a-z]{7}\.[a-z]{3}`},
		{format, "text", strings.Repeat("aZ", 32), `([a-z][A-Z]){32}`},
		{format, "text", "12345", `\[redacted\]`},       // could be tried out
		{format, "text", "ab-12", `\[redacted\]`},       // 67,600 texts
		{format, "text", "Zoë12345678", `\[redacted\]`}, // has no format
		{format, "text", strings.Repeat("1", 65), `\[redacted\]`},
		{format, "text", "", `\[redacted\]`},
		{format, "date", "2024-02-03", isNull},
		{name, "text", "Alice Archer", `[A-Z][a-z]+ [A-Z][a-z]+`},
		{policy.Mask{Kind: "fake", Of: "street"}, "text", "x", `\d{1,3} [A-Z][a-z]+ [A-Z][a-z]+`},
		{policy.Mask{Kind: "fake", Of: "city"}, "varchar", "x", `[A-Z][a-z]+( [A-Z][a-z]+)?`},
		{policy.Mask{Kind: "fake", Of: "email"}, "text", "x", `[a-z]+\.[a-z]+\d{1,4}@example\.(com|net|org)`},
		{hash, "text", strings.Repeat("x", mask.MaxValue+1), isNull},
	} {
		got := shows(k.Masker(patients, "ssn", c.m, c.typ), c.value)
		if !regexp.MustCompile("^"+c.want+"$").MatchString(got) || got == c.value {
			t.Errorf("%s of %s %.40q: %q, want %s", c.m.Kind, c.typ, c.value, got, c.want)
		}
		if again := shows(keys(t).Masker(patients, "ssn", c.m, c.typ), c.value); again != got {
			t.Errorf("%s of %.40q: %q and then %q", c.m.Kind, c.value, got, again)
		}
	}
}

// What is shown stays what it was from one version to the next: people keep it.
func TestKeyedIsStable(t *testing.T) {
	k := keys(t)
	for _, c := range []struct{ kind, of, typ, value, want string }{
		{"hash", "", "text", "123-45-6789", "df0f8c33ec073985e881ff029143520f"},
		{"token", "", "text", "123-45-6789", "tok_ftaqhxnsrl4ka4sk"},
		{"token", "", "int4", "42", "2027094340"},
		{"token", "", "uuid", "00000000-0000-0000-0000-000000001234", "9e5d02c2-5d85-8735-bec4-18f704a7682a"},
		{"format", "", "text", "123-45-6789", "785-14-9664"},
		{"format", "", "text", "MRN-004512", "XYN-724695"},
		{"fake", "name", "text", "Alice", "Casper Nye"},
	} {
		if got := shows(k.Masker(patients, "ssn", policy.Mask{Kind: c.kind, Of: c.of}, c.typ), c.value); got != c.want {
			t.Errorf("%s of %s %q: %q, want %q", c.kind, c.typ, c.value, got, c.want)
		}
	}
}

// Each field, mask and key has its own.
func TestKeyedDomains(t *testing.T) {
	k := keys(t)
	other, err := mask.ParseKeys([]byte(strings.Replace(keyText, "00", "ff", 1)))
	if err != nil {
		t.Fatal(err)
	}
	claims := policy.Relation{Schema: "clinic", Name: "claims"}
	for _, kind := range []string{"hash", "token", "format"} {
		m := policy.Mask{Kind: kind}
		seen := map[string]bool{}
		for _, x := range []*mask.Masker{k.Masker(patients, "ssn", m, "text"), k.Masker(patients, "phone", m, "text"), k.Masker(claims, "ssn", m, "text"), other.Masker(patients, "ssn", m, "text")} {
			seen[shows(x, "123-45-6789")] = true
		}
		if len(seen) != 4 {
			t.Errorf("%s: %v", kind, seen)
		}
	}
	// The padding of a char(n) is not part of its value.
	m := policy.Mask{Kind: "token"}
	if a, b := shows(k.Masker(patients, "ssn", m, "bpchar"), "x   "), shows(k.Masker(patients, "ssn", m, "text"), "x"); a != b {
		t.Errorf("%q, %q", a, b)
	}
	k.Close()
	if x := k.Masker(patients, "ssn", m, "text"); x != nil || shows(x, "x") != isNull {
		t.Error("a key that is gone still masks")
	}
}

// Text and binary forms show the same.
func TestKeyedBinary(t *testing.T) {
	k := keys(t)
	m := policy.Mask{Kind: "token"}
	for _, v := range []int64{0, 1, -1, 42, math.MaxInt32, math.MinInt32} {
		for typ, in := range map[string][]byte{"int4": binary.BigEndian.AppendUint32(nil, uint32(v)), "int8": binary.BigEndian.AppendUint64(nil, uint64(v))} {
			x := k.Masker(patients, "ssn", m, typ)
			out, ok := x.Append(nil, in, true)
			n, err := strconv.ParseInt(shows(x, fmt.Sprint(v)), 10, 64)
			if !ok || err != nil || (n < 0) != (v < 0) || !bytes.HasSuffix(binary.BigEndian.AppendUint64(nil, uint64(n)), out) || len(out) != len(in) {
				t.Errorf("%s %d: %x, %d", typ, v, out, n)
			}
		}
	}
	x := k.Masker(patients, "ssn", m, "uuid")
	id, _ := hex.DecodeString("00000000000000000000000000001234")
	out, ok := x.Append(nil, id, true)
	if text := shows(x, "00000000-0000-0000-0000-000000001234"); !ok || hex.EncodeToString(out) != strings.ReplaceAll(text, "-", "") {
		t.Errorf("%x, %s", out, text)
	}
	for _, bad := range []string{"", "x", "123456789"} {
		for _, typ := range []string{"int4", "int8", "uuid"} {
			if out, ok := k.Masker(patients, "ssn", m, typ).Append(nil, []byte(bad), true); ok || len(out) > 0 {
				t.Errorf("%s %q: %x", typ, bad, out)
			}
		}
	}
}

// No two texts of a format, and no two numbers, show the same.
func TestKeyedOneToOne(t *testing.T) {
	k := keys(t)
	for _, c := range []struct{ kind, typ, form string }{
		{"format", "text", "%06d"}, {"format", "text", "A%06d"}, {"token", "int4", "%d"}, {"token", "int8", "-%d"},
	} {
		x := k.Masker(patients, "ssn", policy.Mask{Kind: c.kind}, c.typ)
		seen := map[string]bool{}
		for i := 1; i <= 20_000; i++ {
			seen[shows(x, fmt.Sprintf(c.form, i))] = true
		}
		if len(seen) != 20_000 {
			t.Errorf("%s %s: %d of 20000", c.typ, c.form, len(seen))
		}
	}
}

func TestKeyFile(t *testing.T) {
	for _, bad := range []string{
		"", "short", strings.Repeat("0", 64), strings.Repeat("0123", 16), strings.Repeat("g", 64), keyText[:62],
		keyText[:63], strings.Repeat("0123456789abcdef", 9),
	} {
		_, err := mask.ParseKeys([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), "openssl rand -hex 32") || len(bad) > 6 && strings.Contains(err.Error(), bad[:6]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	b := []byte(keyText)
	if _, err := mask.ParseKeys(b); err != nil || !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("what was read stays: %q, %v", b, err)
	}
}

func TestKeyedAllocatesNothing(t *testing.T) {
	k := keys(t)
	buf := make([]byte, 0, 1<<10)
	for _, c := range []struct {
		m          policy.Mask
		typ, value string
	}{
		{policy.Mask{Kind: "hash"}, "text", "123-45-6789"},
		{policy.Mask{Kind: "token"}, "text", "123-45-6789"},
		{policy.Mask{Kind: "token"}, "uuid", "00000000-0000-0000-0000-000000001234"},
		{policy.Mask{Kind: "token"}, "int8", "-12"},
		{policy.Mask{Kind: "format"}, "text", "123-45-6789"},
		{policy.Mask{Kind: "format"}, "text", "MRN-004512"},
		{policy.Mask{Kind: "fake", Of: "email"}, "text", "x"},
	} {
		x, v := k.Masker(patients, "ssn", c.m, c.typ), []byte(c.value)
		x.Append(buf, v, false)
		if n := testing.AllocsPerRun(100, func() { x.Append(buf, v, false) }); n > 0 {
			t.Errorf("%s of %s: %.1f allocations", c.m.Kind, c.typ, n)
		}
	}
}

// FuzzFormat: what has a format keeps it, and shows as something else.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"123-45-6789", "MRN-004512", "", "\xff", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		f.Add(s)
	}
	x := keys(f).Masker(patients, "ssn", policy.Mask{Kind: "format"}, "text")
	shape := func(s string) string {
		return regexp.MustCompile("[a-z]").ReplaceAllString(regexp.MustCompile("[A-Z]").ReplaceAllString(regexp.MustCompile("[0-9]").ReplaceAllString(s, "\x00"), "\x01"), "\x02")
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := shows(x, s); got != "[redacted]" && got != isNull && shape(got) != shape(s) {
			t.Errorf("%q: %q", s, got)
		}
	})
}

func BenchmarkKeyed(b *testing.B) {
	buf := make([]byte, 0, 1<<10)
	for _, kind := range []string{"hash", "token", "format"} {
		x := keys(b).Masker(patients, "ssn", policy.Mask{Kind: kind}, "text")
		for _, v := range []string{"123-45-6789", "MRN-004512"} {
			b.Run(kind+"/"+v, func(b *testing.B) {
				for b.Loop() {
					x.Append(buf, []byte(v), false)
				}
			})
		}
	}
}
