package rules

import (
	"bytes"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

func (r *reader) commands(n *yaml.Node) commandSet {
	var s commandSet
	for _, e := range r.list(n, "commands") {
		if c, ok := r.text(e, "commands"); ok {
			if err := s.add(c); err != nil {
				r.bad(e, "commands: %v", err)
			}
		}
	}
	return s
}

func (r *reader) relations(n *yaml.Node) []relation {
	var out []relation
	for _, e := range r.list(n, "relations") {
		if s, ok := r.text(e, "relations"); ok {
			rel, err := parseRelation(s)
			if err != nil {
				r.bad(e, "relations: %v", err)
				continue
			}
			out = append(out, rel)
		}
	}
	return out
}

func (r *reader) functions(n *yaml.Node) []string {
	var out []string
	for _, e := range r.list(n, "functions") {
		if s, ok := r.text(e, "functions"); ok {
			f, err := parseFunction(s)
			if err != nil {
				r.bad(e, "functions: %v", err)
				continue
			}
			out = append(out, f)
		}
	}
	return out
}

// masks reads the fields of a rule that masks, and their lines.
func (r *reader) masks(n *yaml.Node) (map[events.Field]policy.Mask, map[events.Field]int) {
	out, lines := map[events.Field]policy.Mask{}, map[events.Field]int{}
	r.each(n, "fields", func(k, v *yaml.Node) {
		s, ok := r.text(k, "fields")
		if !ok {
			return
		}
		f, err := parseField(s)
		if err != nil {
			r.bad(k, "fields: %v", err)
			return
		}
		if lines[f] != 0 {
			r.bad(k, "fields: %s is there twice", f)
		}
		lines[f] = k.Line
		out[f] = r.mask(v)
	})
	return out, lines
}

// mask reads a mask's name, or a mapping with its parameters.
func (r *reader) mask(n *yaml.Node) policy.Mask {
	var m policy.Mask
	kind := func(v *yaml.Node) {
		if v.Kind == yaml.ScalarNode && v.Tag == "!!null" && v.Value == "null" {
			m.Kind = mask.Null
			return
		}
		m.Kind, _ = r.text(v, "mask")
	}
	if n.Kind == yaml.ScalarNode {
		kind(n)
	} else {
		number := func(key string, to *int) field {
			return field{key, func(v *yaml.Node) { *to, _ = r.integer(v, key) }}
		}
		if !r.fields(n, "mask", []field{
			{"mask", kind},
			number("first", &m.First), number("last", &m.Last),
			{"constant", func(v *yaml.Node) { m.Constant, _ = r.text(v, "constant") }},
			number("width", &m.Width), number("earliest", &m.Earliest),
			{"unit", func(v *yaml.Node) { m.Unit, _ = r.text(v, "unit") }},
			{"match", func(v *yaml.Node) { m.Match = r.equality(v) }},
			{"of", func(v *yaml.Node) { m.Of, _ = r.text(v, "of") }},
			{"keep", func(v *yaml.Node) { m.Keep = r.keep(v) }},
		}) {
			return m
		}
		if m.Kind == "" {
			r.bad(n, "mask: it has no name: write mask: partial, for example")
			return m
		}
	}
	if m.Kind != "" {
		if err := mask.Check(m); err != nil {
			r.bad(n, "%v", err)
		}
	}
	return m
}

// keep reads the paths that mask json shows.
func (r *reader) keep(n *yaml.Node) string {
	var list []string
	for _, e := range r.list(n, "keep") {
		s, ok := r.text(e, "keep")
		if !ok {
			return ""
		}
		list = append(list, s)
	}
	keep, err := mask.Keep(list)
	if err != nil {
		r.bad(n, "%v", err)
	}
	return keep
}

func (r *reader) condition(n *yaml.Node) *condition {
	s, ok := r.text(n, "condition")
	if !ok {
		return nil
	}
	c, problems := compile(s)
	for _, p := range problems {
		line := n.Line
		if n.Style&yaml.LiteralStyle != 0 { // its lines are the file's
			line += p.line
		}
		r.at(line, "condition: %s", p.text)
	}
	return c
}

// except reads one exception, or a list.
func (r *reader) except(n *yaml.Node) []exception {
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = r.list(n, "except")
	}
	var out []exception
	for _, e := range list {
		var x exception
		ok := r.fields(e, "except", []field{
			{"identity", func(v *yaml.Node) {
				if x.who = r.identity(v); x.who == nil {
					r.bad(v, "except: everybody is no exception")
				}
			}},
			{"condition", func(v *yaml.Node) { x.cond = r.condition(v) }},
		})
		if ok && len(e.Content) == 0 {
			r.bad(e, "except: it is empty: say who or when")
		}
		out = append(out, x)
	}
	return out
}

var levels = map[string]policy.RecordLevel{"full": policy.RecordFull, "statement": policy.RecordStatement, "events": policy.RecordEvents}

func (r *reader) record(n *yaml.Node, x *rule) {
	s, ok := r.text(n, "record")
	if !ok {
		return
	}
	l, known := levels[s]
	if !known {
		r.bad(n, "record %q: use full, statement or events", s)
	}
	if x.record == nil {
		x.record = &policy.Recording{}
	}
	x.record.Level = l
}

func (r *reader) recordLimit(n *yaml.Node, x *rule) {
	if x.record == nil {
		x.record = &policy.Recording{}
	}
	if x.record.Limit = r.size(n, "record_limit"); x.record.Limit == policy.DefaultRecordLimit {
		x.record.Limit = 0
	}
}

// canonical encodes what a rule says, the same for the same.
func canonical(x *rule, given map[string]*yaml.Node) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(given)) {
		b.WriteString(k)
		b.WriteByte(0)
		encode(&b, given[k])
	}
	return b.Bytes()
}

func encode(b *bytes.Buffer, n *yaml.Node) {
	b.WriteByte(byte(n.Kind))
	b.WriteString(n.Tag)
	b.WriteByte(0)
	b.WriteString(n.Value)
	b.WriteByte(0)
	for _, c := range n.Content {
		encode(b, c)
	}
	b.WriteByte(1)
}
