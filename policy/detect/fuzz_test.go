package detect_test

import (
	"bytes"
	"testing"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/detect/corpus"
)

func seeds(f *testing.F) {
	for _, s := range corpus.Generate(5, 250) {
		f.Add([]byte(s.Text), uint16(7), byte(0))
	}
	f.Add(bytes.Repeat([]byte("https://a.example/b"), 2000), uint16(1000), byte(1))
	f.Add(append(bytes.Repeat([]byte("x"), 16380), " 219-45-6789 "...), uint16(16383), byte(0))
	f.Add(append(bytes.Repeat([]byte(" "), 2000), "-----BEGIN "+"PRIVATE KEY-----\nQUJD"...), uint16(1), byte(9))
}

// grown makes long texts of short ones, so that windows are crossed.
func grown(text []byte, repeat byte) []byte { return bytes.Repeat(text, 1+int(repeat)) }

// Findings are in order, within the text and apart, and do not depend on how a
// stream is cut.
func FuzzScanner(f *testing.F) {
	seeds(f)
	s := all()
	f.Fuzz(func(t *testing.T, text []byte, cut uint16, repeat byte) {
		text = grown(text, repeat)
		var want []detect.Finding
		last := int64(0)
		for _, x := range s.Scan(text) {
			if x.Offset < last || x.Length <= 0 || x.End() > int64(len(text)) || x.Kind.String() == "" || x.Confidence < detect.DefaultMin || x.Confidence > 100 {
				t.Fatalf("%+v after %d", x, last)
			}
			last = x.End()
			want = append(want, x)
		}
		n := 0
		check := func(found []detect.Finding) {
			for _, x := range found {
				if n >= len(want) || want[n] != x {
					t.Fatalf("finding %d of %d is %+v", n, len(want), x)
				}
				n++
			}
		}
		for rest := text; len(rest) > 0; {
			k := min(int(cut)+1, len(rest))
			check(s.Feed(rest[:k]))
			rest = rest[k:]
		}
		check(s.End())
		if n != len(want) {
			t.Fatalf("%d findings, want %d", n, len(want))
		}
	})
}

// A stream is replaced as a whole value is, and what was found is gone.
func FuzzReplacer(f *testing.F) {
	seeds(f)
	s, r := all(), detect.NewReplacer(detect.Options{Kinds: detect.All})
	f.Fuzz(func(t *testing.T, text []byte, cut uint16, repeat byte) {
		text = grown(text, repeat)
		var plain []byte
		from := int64(0)
		found := s.Scan(text)
		for _, x := range found {
			plain = append(append(plain, text[from:x.Offset]...), "["+x.Kind.String()+"]"...)
			from = x.End()
		}
		plain = append(plain, text[from:]...)
		whole, n := r.Append(nil, text)
		if !bytes.Equal(whole, plain) || n != len(found) {
			t.Fatalf("%d replaced, %d found", n, len(found))
		}
		var got []byte
		sum := 0
		for rest := text; len(rest) > 0; {
			k := min(int(cut)+1, len(rest))
			got, n = r.Feed(got, rest[:k])
			sum += n
			rest = rest[k:]
		}
		got, n = r.End(got)
		if sum += n; !bytes.Equal(got, plain) || sum != len(found) {
			t.Fatalf("in pieces: %d replaced, %d found", sum, len(found))
		}
	})
}
