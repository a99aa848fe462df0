package scrub_test

import (
	"bytes"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

// replacer puts <value> in the place of the second column of three, and NULL in that
// of an empty value.
func replacer() *scrub.Replacer {
	return &scrub.Replacer{Width: 3, Columns: []int{1}, Value: func(dst []byte, _ int, value []byte) ([]byte, bool) {
		return append(append(append(dst, '<'), value...), '>'), len(value) > 0
	}}
}

var (
	textForm = scrub.Copy{Format: scrub.CopyText, Delimiter: '\t', Null: `\N`}
	csvForm  = scrub.Copy{Format: scrub.CopyCSV, Delimiter: ',', Quote: '"', Escape: '"'}
)

func TestReplace(t *testing.T) {
	header := func(c scrub.Copy) scrub.Copy {
		c.Header, c.Columns = true, []string{"a", "b,b", "c"}
		return c
	}
	forced := csvForm
	forced.QuotesAll = true
	named := csvForm
	named.Quotes, named.Columns = []string{"b"}, []string{"a", "b", "c"}
	none := csvForm
	none.Null, none.Escape = "<x>", '!'
	const head = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, c := range []struct {
		name     string
		form     scrub.Copy
		in, want string
	}{
		{"text", textForm, "a\tb\tc\n", "a\t<b>\tc\n"},
		{"text with escapes", textForm, "\\\\\t\\t\\n\\\\\t\\N\n", "\\\\\t<\\t\\n\\\\>\t\\N\n"},
		{"text with NULL", textForm, "a\t\\N\tc\n", "a\t\\N\tc\n"},
		{"text that becomes NULL", textForm, "a\t\tc\n", "a\t\\N\tc\n"},
		{"what looks like NULL", textForm, "a\t\\\\N\tc\n", "a\t<\\\\N>\tc\n"},
		{"two rows of text", textForm, "a\tb\tc\n\t\t\n", "a\t<b>\tc\n\t\\N\t\n"},
		{"a header", header(textForm), "a\tb,b\tc\nx\tb,b\tz\n", "a\tb,b\tc\nx\t<b,b>\tz\n"},
		{"CSV", csvForm, "a,b,c\n", "a,<b>,c\n"},
		{"CSV with quotes", csvForm, "\"a,\"\"\n\",\"b\"\"\n,\",c\n", "\"a,\"\"\n\",\"<b\"\"\n,>\",c\n"},
		{"a quote that is not needed", csvForm, "a,\"b\",\"c\"\n", "a,<b>,\"c\"\n"},
		{"CSV with NULL", csvForm, "a,,c\n", "a,,c\n"},
		{"CSV that becomes NULL", csvForm, "a,\"\",c\n", "a,,c\n"},
		{"CSV with a header", header(csvForm), "a,\"b,b\",c\na,b,c\n", "a,\"b,b\",c\na,<b>,c\n"},
		{"quotes for all", forced, "\"a\",\"b\",\"c\"\n", "\"a\",\"<b>\",\"c\"\n"},
		{"no quotes for NULL", forced, "\"a\",,\"c\"\n", "\"a\",,\"c\"\n"},
		{"quotes for some", named, "a,\"b\",c\n", "a,\"<b>\",c\n"},
		{"what is shown looks like NULL", none, "a,x,<x>\n", "a,\"<x>\",<x>\n"},
		{"another escape", none, "a,\"!!!\"\",c\n", "a,\"<!!!\">\",c\n"},
		{"binary", scrub.Copy{Format: scrub.CopyBinary}, head + int2(3) + sized("a") + sized("b") + int4(-1) + int2(3) + int4(-1) + int4(-1) + sized("") + int2(-1), head + int2(3) + sized("a") + sized("<b>") + int4(-1) + int2(3) + int4(-1) + int4(-1) + sized("") + int2(-1)},
		{"binary that becomes NULL", scrub.Copy{Format: scrub.CopyBinary}, head + int2(3) + sized("a") + sized("") + sized("c"), head + int2(3) + sized("a") + int4(-1) + sized("c")},
	} {
		got, err := replacer().Rows(nil, []byte(c.in), &c.form, true)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v, and not %q", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct {
		form scrub.Copy
		in   string
	}{
		{textForm, "a\tb\n"},
		{textForm, "a\tb\tc\td\n"},
		{textForm, "a\tb\tc"},
		{textForm, "a\tb\\"},
		{textForm, "a\t\\x62\tc\n"},
		{textForm, "a\t\\Nb\tc\n"},
		{textForm, "a\tb\\N\tc\n"},
		{textForm, "a\tb\\\n"},
		{csvForm, "a,b\n"},
		{csvForm, "a,b,c,d\n"},
		{csvForm, "a,b,c"},
		{csvForm, "a,\"b,c\n"},
		{csvForm, "a,\"b\"b,c\n"},
		{csvForm, "a,b\"b,c\n"},
		{csvForm, "a,\"b\""},
		{header(textForm), "a\tx\tc\n"},
		{header(csvForm), "a,b,b,c\n"},
		{scrub.Copy{Header: true, Format: scrub.CopyText, Delimiter: '\t', Null: `\N`}, "a\tb\tc\n"},
		{scrub.Copy{}, "a\tb\tc\n"},
		{scrub.Copy{Format: scrub.CopyBinary}, "a\tb\tc\n"},
		{scrub.Copy{Format: scrub.CopyBinary}, head + int2(2) + sized("a") + sized("b")},
		{scrub.Copy{Format: scrub.CopyBinary}, head + int2(3) + sized("a") + int4(9) + "b"},
		{scrub.Copy{Format: scrub.CopyBinary}, head + int2(-1) + int2(3)},
		{scrub.Copy{Format: scrub.CopyBinary}, head + int2(3) + sized("a") + int4(-2) + sized("c")},
	} {
		if got, err := replacer().Rows(nil, []byte(c.in), &c.form, true); err == nil {
			t.Errorf("%q became %q", c.in, got)
		}
	}
}

// FuzzReplace: whatever comes as data, either it fails or all that is not replaced is
// as it was and nothing of what is replaced is left but between < and >, however it was
// written. What goes out is read again to the same.
func FuzzReplace(f *testing.F) {
	for _, s := range []string{"a\tb\tc\n", "a,b,c\n", "\"a\"\"\n\",\"b\"\"\n,\",c\n", "\\\\\t\\t\\n\\\\\t\\N\n", "a\tb,b\tc\nx\ty\tz\n", ",,\n", "\t\\N\t\n"} {
		for form := range byte(4) {
			f.Add([]byte(s), form)
		}
	}
	f.Add([]byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01a\x00\x00\x00\x01b\xff\xff\xff\xff\xff\xff"), byte(4))
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		form := [...]scrub.Copy{
			textForm, csvForm,
			{Format: scrub.CopyCSV, Delimiter: ';', Quote: '\'', Escape: '!', Null: "none", QuotesAll: true},
			{Format: scrub.CopyText, Delimiter: 'T', Null: `\N`, Header: true, Columns: []string{"a", "b", "c"}},
			{Format: scrub.CopyBinary},
		}[which%5]
		// read takes all columns of data apart.
		read := func(data []byte) (rows [][]byte, err error) {
			r := &scrub.Replacer{Width: 3, Columns: []int{0, 1, 2}, Value: func(dst []byte, _ int, value []byte) ([]byte, bool) {
				rows = append(rows, bytes.Clone(value))
				return dst, false
			}}
			_, err = r.Rows(nil, data, &form, true)
			return rows, err
		}
		count, shown := 0, [][]byte(nil)
		r := &scrub.Replacer{Width: 3, Columns: []int{1}, Value: func(dst []byte, _ int, value []byte) ([]byte, bool) {
			count++
			out := append(append([]byte("<"), value...), ",;'\"\n\\!T\t>"...)
			shown = append(shown, out)
			return append(dst, out...), true
		}}
		out, err := r.Rows(nil, bytes.Clone(data), &form, true)
		values, failed := read(data)
		if (err == nil) != (failed == nil) {
			t.Fatalf("%q: %v, and read %v", data, err, failed)
		}
		if err != nil {
			return
		}
		again, err := read(out)
		if err != nil || len(again) != len(values) {
			t.Fatalf("%q became %q: %v", data, out, err)
		}
		replaced := 0
		for i, v := range again {
			if bytes.Equal(v, values[i]) {
				continue
			}
			if replaced >= len(shown) || !bytes.Equal(v, shown[replaced]) {
				t.Fatalf("%q became %q", values[i], v)
			}
			replaced++
		}
		if replaced != count {
			t.Fatalf("%d of %d are replaced in %q", replaced, count, out)
		}
	})
}
