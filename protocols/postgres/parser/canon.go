package parser

import (
	"bytes"
	"sort"
	"strings"
	"sync"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// sameTree reports whether two encoded ParseResults are the same tree but for
// the positions in the text. Unlike libpg_query's fingerprint it sees
// constants, aliases and list lengths. It walks the encoded bytes: decoding
// both and comparing by reflection costs more than the parse.
func sameTree(a, b []byte) bool {
	s := treeShape()
	if same(s, a, b, 0) {
		return true
	}
	// Encoders may order fields differently: decide in a form that has one
	// order.
	ca, ok := canon(nil, s, a, 0)
	if !ok {
		return false
	}
	cb, ok := canon(nil, s, b, 0)
	return ok && bytes.Equal(ca, cb)
}

// shape is what a walk needs to know of a message type, by field number.
type shape struct {
	skip []bool   // positions
	sub  []*shape // messages
}

// treeShape returns the shape of a ParseResult.
var treeShape = sync.OnceValue(func() *shape {
	known := map[protoreflect.FullName]*shape{}
	var of func(d protoreflect.MessageDescriptor) *shape
	of = func(d protoreflect.MessageDescriptor) *shape {
		if s := known[d.FullName()]; s != nil {
			return s
		}
		fields, last := d.Fields(), protowire.Number(0)
		for i := range fields.Len() {
			last = max(last, fields.Get(i).Number())
		}
		s := &shape{skip: make([]bool, last+1), sub: make([]*shape, last+1)}
		known[d.FullName()] = s
		for i := range fields.Len() {
			f := fields.Get(i)
			if m := f.Message(); m != nil {
				s.sub[f.Number()] = of(m)
			} else if n := string(f.Name()); n == "location" || strings.HasSuffix(n, "_location") || n == "stmt_len" || n == "version" {
				s.skip[f.Number()] = true
			}
		}
		return s
	}
	return of((&pg_query.ParseResult{}).ProtoReflect().Descriptor())
})

// maxDepth bounds the recursion over an encoded tree.
const maxDepth = 20000

// field is one field of an encoded message.
type field struct {
	num  protowire.Number
	head []byte // tag, and all of a scalar
	body []byte // of a message
	sub  *shape
}

// next returns the first field of b that is no position, and what follows it.
// Field number 0 is the end; ok is false if b is no message.
func next(s *shape, b []byte) (f field, rest []byte, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 || int(num) >= len(s.skip) {
			return field{}, nil, false
		}
		if sub := s.sub[num]; sub != nil {
			body, m := protowire.ConsumeBytes(b[n:])
			if typ != protowire.BytesType || m < 0 {
				return field{}, nil, false
			}
			return field{num: num, head: b[:n], body: body, sub: sub}, b[n+m:], true
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return field{}, nil, false
		}
		if !s.skip[num] {
			return field{num: num, head: b[:n+m]}, b[n+m:], true
		}
		b = b[n+m:]
	}
	return field{}, nil, true
}

// same compares two encoded messages whose fields are in the same order.
func same(s *shape, a, b []byte, depth int) bool {
	if depth > maxDepth {
		return false
	}
	for {
		fa, ra, ok := next(s, a)
		if !ok {
			return false
		}
		fb, rb, ok := next(s, b)
		if !ok || fa.num != fb.num || !bytes.Equal(fa.head, fb.head) {
			return false
		}
		if fa.num == 0 {
			return true
		}
		if fa.sub != nil && !same(fa.sub, fa.body, fb.body, depth+1) {
			return false
		}
		a, b = ra, rb
	}
}

// canon appends b's fields in the order of their numbers, without positions.
func canon(dst []byte, s *shape, b []byte, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return nil, false
	}
	var fields []field
	for {
		f, rest, ok := next(s, b)
		if !ok {
			return nil, false
		}
		if f.num == 0 {
			break
		}
		fields = append(fields, f)
		b = rest
	}
	sort.SliceStable(fields, func(i, j int) bool { return fields[i].num < fields[j].num })
	for _, f := range fields {
		if f.sub == nil {
			dst = protowire.AppendVarint(dst, uint64(len(f.head)))
			dst = append(dst, f.head...)
			continue
		}
		// A length of 0 opens a message, an empty message's tag closes it: no
		// two trees have one form.
		dst = append(dst, 0)
		dst = append(dst, f.head...)
		var ok bool
		if dst, ok = canon(dst, f.sub, f.body, depth+1); !ok {
			return nil, false
		}
		dst = append(dst, 0, 0)
	}
	return dst, true
}
