package scrub

import (
	"encoding/json"

	"sallyport.dev/sallyport/policy/detect"
)

// Form is how a value is written. The zero Form holds no text, and is left alone.
type Form uint8

const (
	_      Form = iota
	Text        // as it is
	JSON        // json, and jsonb as text
	JSONB       // binary: a version, then JSON
	Array       // of text, as text
	Arrays      // of text, binary
	Any         // as text, of a type that may hold text in any form
	Opaque      // binary, of such a type
)

// OIDs of built-in types (src/include/catalog/pg_type.dat).
var forms = func() map[uint32][2]Form {
	m := map[uint32][2]Form{}
	set := func(text, binary Form, oids ...uint32) {
		for _, o := range oids {
			m[o] = [2]Form{text, binary}
		}
	}
	set(Text, Text, 25, 1043, 1042, 19, 18, 142, 705, 2275) // text, varchar, bpchar, name, "char", xml, unknown, cstring
	set(JSON, JSON, 114)
	set(JSON, JSONB, 3802)
	set(Array, Arrays, 1009, 1015, 1014, 1003, 1002, 143, 1263, 199, 3807) // of these types
	// bool, bytea, int8, int2, int4, oid, tid, xid, cid, their kin and arrays
	set(0, 0, 16, 17, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 1000, 1001, 1016, 1005, 1006, 1007, 1028, 1010, 1011, 1012, 1013, 5069)
	// floats, numeric, money, geometry and their arrays
	set(0, 0, 700, 701, 1700, 790, 1021, 1022, 1231, 791, 600, 601, 602, 603, 604, 628, 718, 1017, 1018, 1019, 1020, 1027, 629, 719)
	// dates, intervals, addresses, bits, uuid and their arrays
	set(0, 0, 1082, 1083, 1114, 1184, 1186, 1266, 1182, 1183, 1115, 1185, 1187, 1270, 650, 869, 829, 774, 651, 1041, 1040, 775, 1560, 1562, 1561, 1563, 2950, 2951)
	// void, pg_lsn, reg*, ranges of numbers and dates
	set(0, 0, 2278, 3220, 3221, 2205, 2206, 4096, 4089, 2202, 2203, 2204, 3734, 3769, 4191, 3904, 3906, 3908, 3910, 3912, 3926)
	return m
}()

// FormOf returns the form of a type's values. A type that is not known may hold
// text.
func FormOf(oid uint32, binary bool) Form {
	f, known := forms[oid]
	switch {
	case known && binary:
		return f[1]
	case known:
		return f[0]
	case binary:
		return Opaque
	}
	return Any
}

// Scrubber scrubs values. It is not safe for concurrent use.
type Scrubber struct {
	kinds detect.Set
	label string
	s     *detect.Scanner
	found [64]int64 // by kind, since Take
	total int64     // of all
	deep  int       // forms within forms
	buf   []byte    // what a value of JSON is looked at in
	plain []byte    // a value without its quotes
	but   []int     // columns that are left alone
}

// New returns a Scrubber that looks for these kinds. label is what the values
// are called, as a column: "" where that is not known.
func New(kinds detect.Set, label string) *Scrubber {
	s := &Scrubber{kinds: kinds, label: label, s: detect.New(detect.Options{Kinds: kinds})}
	s.s.Label(label)
	return s
}

// Kinds returns what it looks for.
func (s *Scrubber) Kinds() detect.Set { return s.kinds }

// Take calls f for each kind that was found since the last call, with how often.
func (s *Scrubber) Take(f func(detect.Kind, int64)) {
	if s.total == 0 {
		return
	}
	for k := range detect.All.Each() {
		if n := s.found[k]; n > 0 {
			f(k, n)
			s.found[k] = 0
		}
	}
	s.total = 0
}

func (s *Scrubber) count(k detect.Kind) {
	s.found[k]++
	s.total++
}

// Append appends a value with what is found in it replaced. ok is false where
// the value is to be NULL: dst is then as it was. dst and value must not overlap.
func (s *Scrubber) Append(dst, value []byte, f Form) (out []byte, ok bool) {
	begin := len(dst)
	switch f {
	case Text:
		return s.text(dst, value), true
	case JSON:
		return s.json(dst, value)
	case JSONB:
		if len(value) == 0 || value[0] != 1 {
			return s.opaque(dst, value)
		}
		if dst, ok = s.json(append(dst, 1), value[1:]); !ok {
			dst = dst[:begin]
		}
		return dst, ok
	case Array:
		return s.array(dst, value)
	case Arrays:
		return s.arrays(dst, value)
	case Any:
		return s.guess(dst, value), true
	case Opaque:
		return s.opaque(dst, value)
	}
	return append(dst, value...), true
}

// text scrubs what has no form of its own.
func (s *Scrubber) text(dst, value []byte) []byte {
	from := 0
	for _, f := range s.s.Scan(value) {
		dst = append(dst, value[from:f.Offset]...)
		dst = append(append(append(dst, '['), f.Kind.String()...), ']')
		from = int(f.End())
		s.count(f.Kind)
	}
	return append(dst, value[from:]...)
}

// opaque lets a value pass in which nothing is found.
func (s *Scrubber) opaque(dst, value []byte) ([]byte, bool) {
	found := s.s.Scan(value)
	for _, f := range found {
		s.count(f.Kind)
	}
	if len(found) > 0 {
		return dst, false
	}
	return append(dst, value...), true
}

// maxDeep is how many forms within forms are taken apart; what is deeper is text.
const maxDeep = 8

// guess scrubs text that may be JSON, an array or a row, as it looks.
func (s *Scrubber) guess(dst, value []byte) []byte {
	begin, n := len(dst), len(value)
	if n > 1 && s.deep < maxDeep {
		s.deep++
		defer func() { s.deep-- }()
		before, total := s.found, s.total
		var ok bool
		switch {
		case (value[0] == '{' || value[0] == '[') && json.Valid(value):
			dst, ok = s.json(dst, value)
		case value[0] == '{' && value[n-1] == '}':
			dst, ok = s.array(dst, value)
		case value[0] == '(' && value[n-1] == ')':
			dst, ok = s.row(dst, value)
		}
		if ok {
			return dst
		}
		s.found, s.total = before, total
	}
	return s.text(dst[:begin], value)
}
