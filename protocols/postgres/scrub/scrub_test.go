package scrub_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/protocols/postgres/scrub"
)

const ssn, mail, link = "219-09-9847", "ann.walker@example.org", "http://ward.example.org/a"

func found(s *scrub.Scrubber) string {
	out := ""
	s.Take(func(k detect.Kind, n int64) { out += fmt.Sprintf("%s:%d ", k, n) })
	return out
}

// int4 and text are what binary forms are made of.
func int4(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
func int2(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }
func sized(s string) string {
	return int4(len(s)) + s
}

// What is found is replaced, what is around it keeps its form.
func TestForms(t *testing.T) {
	array := func(nulls int, elements ...string) string {
		b := int4(1) + int4(nulls) + int4(25) + int4(len(elements)) + int4(1)
		for _, e := range elements {
			b += e
		}
		return b
	}
	for _, c := range []struct {
		name     string
		oid      uint32
		binary   bool
		in, want string
		found    string
	}{
		{"text", 25, false, "SSN " + ssn + ", write to " + mail + ".", "SSN [ssn], write to [email].", "ssn:1 email:1 "},
		{"text without data", 25, true, "the patient was well", "the patient was well", ""},
		{"varchar, binary", 1043, true, ssn, "[ssn]", "ssn:1 "},
		{"a number", 23, false, "219099847", "219099847", ""},
		{"bytea", 17, true, mail, mail, ""},
		{"json", 114, false, `{"ssn": 219099847, "n": 12, "s":"x", "l": ["a ` + mail + ` b"]}`, `{"ssn": "[ssn]", "n": 12, "s":"x", "l": ["a [email] b"]}`, "ssn:1 email:1 "},
		{"json with escapes", 114, false, `{"a":"219\u002d09\u002d9847","b":"\"` + mail + `\\"}`, `{"a":"[ssn]","b":"\"[email]\\"}`, "ssn:1 email:1 "},
		{"a key of json", 114, false, `{"` + mail + `":1}`, `{"[email]":1}`, "email:1 "},
		{"a password in json", 114, false, `{"password":"Tr0ub4dor&3"}`, `{"password":"[password]"}`, "password:1 "},
		{"what is no json", 114, false, `{"ssn": ` + ssn, "NULL", "ssn:1 "},
		{"jsonb, binary", 3802, true, "\x01" + `{"ssn":"` + ssn + `"}`, "\x01" + `{"ssn":"[ssn]"}`, "ssn:1 "},
		{"jsonb of another version", 3802, true, "\x02" + ssn, "NULL", "ssn:1 "},
		{"xml", 142, false, "<p id=\"1\">" + mail + "</p>", "<p id=\"1\">[email]</p>", "email:1 "},
		{"an array", 1009, false, `{"it is ` + ssn + `","a\"b",NULL,` + mail + `}`, `{"it is [ssn]","a\"b",NULL,"[email]"}`, "ssn:1 email:1 "},
		{"neighbours in an array", 1009, false, "{" + link + "," + link + "}", `{"[url]","[url]"}`, "url:2 "},
		{"an array of two dimensions", 1009, false, `[0:1][1:1]={{` + ssn + `},{b}}`, `[0:1][1:1]={{"[ssn]"},{b}}`, "ssn:1 "},
		{"an empty array", 1009, false, "{}", "{}", ""},
		{"what is no array", 1009, false, "{" + ssn, "NULL", "ssn:1 "},
		{"an array, binary", 1009, true, array(0, sized("a "+ssn), sized("b")), array(0, sized("a [ssn]"), sized("b")), "ssn:1 "},
		{"an array with NULL, binary", 1009, true, array(1, int4(-1), sized(mail)), array(1, int4(-1), sized("[email]")), "email:1 "},
		{"an array cut off, binary", 1009, true, array(0, sized(mail))[:24+10], array(0, sized(mail))[:24+10], ""},
		{"a row", 2249, false, `(7,"it is ` + ssn + `",,"say ""hi"" to ` + mail + `")`, `(7,"it is [ssn]",,"say ""hi"" to [email]")`, "ssn:1 email:1 "},
		{"neighbours in a row", 16999, false, "(" + link + "," + link + ")", `("[url]","[url]")`, "url:2 "},
		{"an array in a row", 2249, false, `(1,"{` + link + `,` + link + `}")`, `(1,"{""[url]"",""[url]""}")`, "url:2 "},
		{"a row in an array", 17000, false, `{"(1,` + ssn + `)"}`, `{"(1,\"[ssn]\")"}`, "ssn:1 "},
		{"a row, binary", 2249, true, int4(1) + int4(25) + sized(ssn), "NULL", "ssn:1 "},
		{"a row without data, binary", 2249, true, int4(1) + int4(25) + sized("x"), int4(1) + int4(25) + sized("x"), ""},
		{"hstore", 17001, false, `"ssn"=>"` + ssn + `"`, `"ssn"=>"[ssn]"`, "ssn:1 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scrub.New(detect.All&^detect.Of(detect.Date), "")
			out, ok := s.Append([]byte("before"), []byte(c.in), scrub.FormOf(c.oid, c.binary))
			if !ok {
				out = append(out, "NULL"...)
			}
			if got := string(out); got != "before"+c.want {
				t.Errorf("%q,\nnot %q", got, "before"+c.want)
			}
			if got := found(s); got != c.found {
				t.Errorf("found %q, not %q", got, c.found)
			}
			if c.oid == 114 && ok && json.Valid([]byte(c.in)) && !json.Valid(out[len("before"):]) {
				t.Error("it is no JSON any more")
			}
		})
	}
}

// The name of a column counts as a word before its values.
func TestLabel(t *testing.T) {
	for label, want := range map[string]string{"ssn": "[ssn]", "quantity": "219099847"} {
		out, _ := scrub.New(detect.Of(detect.SSN), label).Append(nil, []byte("219099847"), scrub.Text)
		if string(out) != want {
			t.Errorf("%s: %s", label, out)
		}
	}
}

func TestCopy(t *testing.T) {
	text := scrub.Copy{Format: scrub.CopyText, Delimiter: '\t', Null: `\N`}
	csv := scrub.Copy{Format: scrub.CopyCSV, Delimiter: ',', Quote: '"', Escape: '"'}
	odd := scrub.Copy{Format: scrub.CopyCSV, Delimiter: '-', Quote: '9', Escape: '9', Null: "x"}
	bin := scrub.Copy{Format: scrub.CopyBinary}
	head := "PGCOPY\n\xff\r\n\x00" + int4(0) + int4(0)
	for _, c := range []struct {
		name     string
		form     *scrub.Copy
		first    bool
		in, want string
	}{
		{"text", &text, false, "1\t" + ssn + "\t\\N\n", "1\t[ssn]\t\\N\n"},
		{"text with escapes", &text, false, "a\\tb\\\\ " + mail + "\\n\tx\n", "a\\tb\\\\ [email]\\n\tx\n"},
		{"several lines", &text, false, "a\n" + mail + "\n", "a\n[email]\n"},
		{"neighbours", &text, false, link + "\t" + link + "\n", "[url]\t[url]\n"},
		{"JSON in text", &text, false, `{"ssn": 219099847, "b": "\\"x\\" ` + mail + `"}` + "\n", `{"ssn": "[ssn]", "b": "\\"x\\" [email]"}` + "\n"},
		{"a line without its end", &text, false, ssn, ""},
		{"CSV", &csv, false, "1," + ssn + ",\"say \"\"hi\"\" to " + mail + "\nthen\",,\"\"\n", "1,\"[ssn]\",\"say \"\"hi\"\" to [email]\nthen\",,\"\"\n"},
		{"CSV with digits for quotes", &odd, false, "92199-099-998479-x-7\n", "9[ssn]9-x-7\n"},
		{"CSV cut off in a quote", &csv, false, "\"" + ssn + "\n", ""},
		{"CSV with more behind a quote", &csv, false, "\"a\"" + ssn + "\n", ""},
		{"binary", &bin, true, head + int2(3) + sized(ssn) + int4(-1) + sized("\x00\x00\x00\x07"), head + int2(3) + sized("[ssn]") + int4(-1) + sized("\x00\x00\x00\x07")},
		{
			"jsonb and an array in binary", &bin, false,
			int2(2) + sized("\x01{\"ssn\":219099847}") + sized(int4(1)+int4(0)+int4(25)+int4(1)+int4(1)+sized(mail)),
			int2(2) + sized("\x01{\"ssn\":\"[ssn]\"}") + sized(int4(1)+int4(0)+int4(25)+int4(1)+int4(1)+sized("[email]")),
		},
		{"something else in binary", &bin, false, int2(1) + sized("\x00\x01"+mail), int2(1) + int4(-1)},
		{"the end of binary", &bin, false, int2(-1), int2(-1)},
		{"binary cut off", &bin, false, int2(1) + sized(mail)[:9], ""},
		{"binary without its head", &bin, true, int2(1) + sized(mail), ""},
		{"no format", &scrub.Copy{}, true, ssn + "\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scrub.New(detect.All, "")
			out, err := s.Rows(nil, []byte(c.in), c.form, c.first)
			if string(out) != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%q, %v,\nnot %q", out, err, c.want)
			}
		})
	}
}

// Nothing comes out of any form in which a detector finds anything, and what
// nothing is found in is as it was.
func FuzzAppend(f *testing.F) {
	for _, s := range []string{ssn, `{"a":"` + ssn + `"}`, `{` + mail + `,"a\"b"}`, `(1,"` + link + `")`, "\x01{}", int4(1) + int4(0) + int4(25) + int4(1) + int4(1) + sized(mail)} {
		for form := range byte(8) {
			f.Add([]byte(s), form)
		}
	}
	kinds := detect.Of(detect.SSN, detect.Email)
	f.Fuzz(func(t *testing.T, value []byte, form byte) {
		s := scrub.New(kinds, "")
		out, ok := s.Append(nil, value, scrub.Form(form%8))
		if !ok {
			return
		}
		if n := found(s); n == "" && !bytes.Equal(out, value) {
			t.Fatalf("%q became %q though nothing was found", value, out)
		}
		again := scrub.New(kinds, "")
		twice, ok := again.Append(nil, out, scrub.Form(form%8))
		if n := found(again); n != "" || !ok || !bytes.Equal(twice, out) {
			t.Fatalf("%q became %q and then %q: %s", value, out, twice, n)
		}
	})
}
