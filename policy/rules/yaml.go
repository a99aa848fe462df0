package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one thing that is wrong with a policy.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1; 0 for the file as a whole
	Problem string `json:"problem"`
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem)
}

// reader decodes YAML nodes strictly and notes everything that is wrong.
type reader struct {
	file string
	errs []*Error
}

func (r *reader) at(line int, format string, args ...any) {
	r.errs = append(r.errs, &Error{r.file, line, fmt.Sprintf(format, args...)})
}

func (r *reader) bad(n *yaml.Node, format string, args ...any) { r.at(n.Line, format, args...) }

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document returns the one document of a file, nil if there is none.
func (r *reader) document(b []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if err2 := dec.Decode(&second); !errors.Is(err2, io.EOF) {
			r.at(max(second.Line, 1), "a second document: write one per file, without ---")
			return nil
		}
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		r.at(1, "no rules: an empty policy would refuse everything")
		return nil
	case err != nil:
		m := yamlLine.FindStringSubmatch(err.Error())
		line, msg := 1, strings.TrimPrefix(err.Error(), "yaml: ")
		if m != nil {
			msg = strings.TrimPrefix(err.Error(), m[0])
			if n, err := strconv.Atoi(m[1]); err == nil {
				line = n
			}
		}
		if strings.Contains(msg, "alphabetic or numeric character") {
			msg += `: put a * in quotes, like "*"`
		}
		r.at(line, "this is not YAML: %s", msg)
		return nil
	}
	n := doc.Content[0]
	if !r.plain(n) {
		return nil
	}
	return n
}

// plain refuses what would make a policy hard to read: anchors, aliases, and
// types of one's own.
func (r *reader) plain(n *yaml.Node) bool {
	ok := true
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.bad(n, "anchors and aliases are not taken: write it out")
		return false
	}
	if n.Style&yaml.TaggedStyle != 0 {
		r.bad(n, "the tag %s is not taken: leave it out", n.Tag)
		ok = false
	}
	for _, c := range n.Content {
		ok = r.plain(c) && ok
	}
	return ok
}

// field is what reads the value of a key.
type field struct {
	key  string
	read func(*yaml.Node)
}

// fields reads a mapping. What is not among the fields, or is there twice, is
// an error.
func (r *reader) fields(n *yaml.Node, what string, fields []field) bool {
	if n.Kind != yaml.MappingNode {
		r.bad(n, "%s: write a mapping of %s", what, keys(fields))
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if first, twice := seen[k.Value]; twice {
			r.bad(k, "%s: %s is there twice, first on line %d", what, k.Value, first)
			continue
		}
		seen[k.Value] = k.Line
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == k.Value })
		if at < 0 || k.Kind != yaml.ScalarNode {
			r.bad(k, "%s: unknown field %q: remove or correct it; there are %s", what, k.Value, keys(fields))
			continue
		}
		fields[at].read(v)
	}
	return true
}

func keys(fields []field) string {
	out := make([]string, 0, len(fields))
	for _, f := range fields {
		out = append(out, f.key)
	}
	return strings.Join(out, ", ")
}

// each reads a mapping whose keys are the author's.
func (r *reader) each(n *yaml.Node, what string, read func(k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		r.bad(n, "%s: write a mapping that is not empty", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if seen[k.Value] {
			r.bad(k, "%s: %s is there twice", what, k.Value)
			continue
		}
		seen[k.Value] = true
		read(k, n.Content[i+1])
	}
}

// text reads a string that is not empty.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		r.bad(n, "%s: write text; a number, a date, true or null needs quotes", what)
		return "", false
	}
	if strings.TrimSpace(n.Value) == "" {
		r.bad(n, "%s: it is empty: write something or leave it out", what)
		return "", false
	}
	return n.Value, true
}

// list returns the entries of a list, or a single value as a list of one.
func (r *reader) list(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		return n.Content
	case n.Kind == yaml.SequenceNode:
		r.bad(n, "%s: an empty list matches nothing: fill it or leave it out", what)
	default:
		r.bad(n, "%s: write a list", what)
	}
	return nil
}

// globs reads patterns.
func (r *reader) globs(n *yaml.Node, what string) globs {
	var out globs
	for _, e := range r.list(n, what) {
		if s, ok := r.text(e, what); ok {
			g, err := parseGlob(s)
			if err != nil {
				r.bad(e, "%s: %v", what, err)
				continue
			}
			out = append(out, g)
		}
	}
	return out
}

// integer reads a number from 0.
func (r *reader) integer(n *yaml.Node, what string) (int, bool) {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || i < 0 {
		r.bad(n, "%s: write a whole number from 0", what)
		return 0, false
	}
	return i, true
}

var sizes = map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

var sizeForm = regexp.MustCompile(`^(\d{1,12}) ?(B|KiB|MiB|GiB)?$`)

// size reads a number of bytes: 65536, or 64KiB.
func (r *reader) size(n *yaml.Node, what string) int64 {
	m := sizeForm.FindStringSubmatch(n.Value)
	if n.Kind == yaml.ScalarNode && m != nil {
		i, err := strconv.ParseInt(m[1], 10, 64)
		if unit := sizes[m[2]]; err == nil && i > 0 && i <= (1<<40)/unit {
			return i * unit
		}
	}
	r.bad(n, "%s: write a size like 64KiB or 2MiB, at most 1024GiB", what)
	return 0
}
