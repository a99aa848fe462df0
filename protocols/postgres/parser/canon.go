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
	d := shapeOf((&pg_query.ParseResult{}).ProtoReflect().Descriptor())
	ca, ok := canon(nil, d, a, 0)
	if !ok {
		return false
	}
	cb, ok := canon(nil, d, b, 0)
	return ok && bytes.Equal(ca, cb)
}

// shape is what canon needs to know of a message type.
type shape struct {
	skip map[protowire.Number]bool
	sub  map[protowire.Number]protoreflect.MessageDescriptor
}

var (
	shapesMu sync.Mutex
	shapes   = map[protoreflect.FullName]*shape{}
)

func shapeOf(d protoreflect.MessageDescriptor) *shape {
	shapesMu.Lock()
	defer shapesMu.Unlock()
	if s := shapes[d.FullName()]; s != nil {
		return s
	}
	s := &shape{skip: map[protowire.Number]bool{}, sub: map[protowire.Number]protoreflect.MessageDescriptor{}}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if m := f.Message(); m != nil {
			s.sub[f.Number()] = m
		} else if n := string(f.Name()); n == "location" || strings.HasSuffix(n, "_location") || n == "stmt_len" || n == "version" {
			s.skip[f.Number()] = true
		}
	}
	shapes[d.FullName()] = s
	return s
}

// maxDepth bounds the recursion over an encoded tree.
const maxDepth = 20000

// canon appends b's fields in the order of their numbers, without positions.
func canon(dst []byte, s *shape, b []byte, depth int) ([]byte, bool) {
	type field struct {
		num  protowire.Number
		head []byte // tag, and all of a scalar
		body []byte // of a message
		sub  protoreflect.MessageDescriptor
	}
	if depth > maxDepth {
		return nil, false
	}
	var few [8]field
	fields, sorted := few[:0], true
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return nil, false
		}
		if !s.skip[num] {
			f := field{num: num, head: b[:n+m]}
			if sub := s.sub[num]; sub != nil && typ == protowire.BytesType {
				body, _ := protowire.ConsumeBytes(b[n:])
				f = field{num: num, head: b[:n], body: body, sub: sub}
			}
			sorted = sorted && (len(fields) == 0 || fields[len(fields)-1].num <= num)
			fields = append(fields, f)
		}
		b = b[n+m:]
	}
	if !sorted {
		sort.SliceStable(fields, func(i, j int) bool { return fields[i].num < fields[j].num })
	}
	for _, f := range fields {
		dst = append(dst, f.head...)
		if f.sub == nil {
			continue
		}
		// Brackets instead of a length: the body's is not known yet. 0xff
		// never starts a tag of this schema, so the form stays unambiguous.
		dst = append(dst, 0xff, '(')
		var ok bool
		if dst, ok = canon(dst, shapeOf(f.sub), f.body, depth+1); !ok {
			return nil, false
		}
		dst = append(dst, 0xff, ')')
	}
	return dst, true
}
