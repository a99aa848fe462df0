package rules

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/policy"
)

// subject says whose the rows of a relation are. It is no rule: it grants, hides and
// refuses nothing.
type subject struct {
	file  string
	line  int
	where *where // nil: everywhere
	of    policy.Relation
	is    policy.Subject
}

var subjectForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// subjects reads whose rows are whose.
func (r *reader) subjects(n *yaml.Node) (out []*subject) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.bad(n, "subjects: write a list of relations, each with its key and the name of whom it names, or leave it out")
		return nil
	}
	for _, e := range n.Content {
		out = append(out, r.subject(e))
	}
	return out
}

func (r *reader) subject(n *yaml.Node) *subject {
	s := &subject{file: r.file, line: n.Line}
	given := map[string]bool{}
	take := func(key string, read func(*yaml.Node)) field {
		return field{key, func(v *yaml.Node) {
			given[key] = true
			read(v)
		}}
	}
	if !r.fields(n, "an entry of subjects", []field{
		take("relation", func(v *yaml.Node) {
			if t, ok := r.text(v, "relation"); ok {
				p, err := exactParts(t, "schema.relation", 2)
				if err != nil {
					r.bad(v, "relation: %v", err)
					return
				}
				s.of = policy.Relation{Schema: p[0], Name: p[1]}
			}
		}),
		take("key", func(v *yaml.Node) {
			if t, ok := r.text(v, "key"); ok {
				p, err := exactParts(t, "column", 1)
				if err != nil {
					r.bad(v, "key: %v", err)
					return
				}
				s.is.Column = p[0]
			}
		}),
		take("name", func(v *yaml.Node) {
			if t, ok := r.text(v, "name"); ok {
				if !subjectForm.MatchString(t) {
					r.bad(v, "name %q: use at most 32 small letters, digits, _ and -, a letter first", t)
				}
				s.is.Name = t
			}
		}),
		take("resource", func(v *yaml.Node) { s.where = r.resource(v) }),
	}) {
		return s
	}
	for _, k := range []string{"relation", "key", "name"} {
		if !given[k] {
			r.bad(n, "subjects: an entry has no %s", k)
		}
	}
	return s
}

// twice refuses two entries that say the same of a relation in other words.
func (p *Policy) twice() (errs []*Error) {
	type key struct {
		of   policy.Relation
		name string
	}
	first := map[key]*subject{}
	for _, s := range p.subjects {
		k := key{s.of, s.is.Name}
		o := first[k]
		if o == nil {
			first[k] = s
			continue
		}
		if s.where == nil || o.where == nil {
			errs = append(errs, &Error{s.file, s.line, fmt.Sprintf("subjects: the %s of %s.%s has a key at %s:%d already", s.is.Name, s.of.Schema, s.of.Name, o.file, o.line)})
		}
	}
	return errs
}

// NeedsSubjectKey reports, as an *Error, the first entry of subjects; nil where there
// is none.
func (p *Policy) NeedsSubjectKey() error {
	if len(p.subjects) == 0 {
		return nil
	}
	s := p.subjects[0]
	return &Error{s.file, s.line, "subjects: they need a key: make one with openssl rand -hex 32, and name its file as evidence.subject_key_file in the configuration"}
}

// named adds whose the rows of relations are here.
func (b *builder) named(p *Policy) {
	for _, s := range p.subjects {
		if !s.where.match(b.session, false) {
			continue
		}
		if b.scope.Subjects == nil {
			b.scope.Subjects = map[policy.Relation][]policy.Subject{}
		}
		if slices.Contains(b.scope.Subjects[s.of], s.is) {
			continue
		}
		b.scope.Subjects[s.of] = append(b.scope.Subjects[s.of], s.is)
		sum := sha256.Sum256([]byte(strings.Join([]string{"subject", s.of.Schema, s.of.Name, s.is.Column, s.is.Name}, "\x00")))
		b.parts = append(b.parts, sum[:])
	}
}

// required reads that a rule asks for subjects to be told.
func (r *reader) required(n *yaml.Node) bool {
	s, ok := r.text(n, "subjects")
	if ok && s != "required" {
		r.bad(n, "subjects %q: write required, or leave it out", s)
	}
	return ok && s == "required"
}

// untold refuses what reveals fields by a rule that asks for subjects, where these
// can't be told.
func (q *question) untold() (policy.Evaluation, bool) {
	if q.req.Untold == "" {
		return policy.Evaluation{}, false
	}
	for _, f := range q.req.Masked {
		m := q.masks[f]
		if m == nil || !m.clear || m.named == "" {
			continue
		}
		return policy.Evaluation{
			Effect: policy.EffectBlock, Rules: []string{m.named},
			Reason: fmt.Sprintf("it reveals %s, and whose rows it shows can't be told: %s", f, q.req.Untold), Remedy: askForSubjects,
		}, true
	}
	return policy.Evaluation{}, false
}

const askForSubjects = "select the rows of the relation themselves, in a SELECT that is not part of another and does not put rows together, alone in its message; give a write a RETURNING"
