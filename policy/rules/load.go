package rules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

// maxFile is the size of one file, in bytes.
const maxFile = 4 << 20

// Policy is a set of rules. It is immutable and safe for concurrent use.
type Policy struct {
	rules    []*rule            // by name
	literal  map[string][]*rule // by each workload that they name, where they name nothing else
	general  []*rule            // the others
	subjects []*subject         // in the order of the files
	glass    []*glass           // in the order of the files
}

// File is a policy file in memory; Name is for messages.
type File struct {
	Name string
	Data []byte
}

// Load reads a file, or all *.yaml and *.yml files of a folder (those whose
// name begins with a dot or ends in .test.yaml apart), and checks them as a
// whole. The error joins an *Error for each thing that is wrong.
func Load(path string) (*Policy, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w: write one from docs/policy.example.yaml", err)
	}
	paths := []string{path}
	if info.IsDir() {
		if paths, err = folder(path); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(paths))
	for i, p := range paths {
		if files[i], err = read(p); err != nil {
			return nil, err
		}
	}
	return Parse(files...)
}

func folder(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var paths []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		ext := filepath.Ext(name)
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			return nil, &Error{name, 0, "a folder in a policy folder is not read: move its files up, or start its name with a dot"}
		case strings.HasSuffix(name, ".test.yaml"), ext != ".yaml" && ext != ".yml":
		default:
			paths = append(paths, name)
		}
	}
	if len(paths) == 0 {
		return nil, &Error{path, 0, "no *.yaml files: an empty policy would refuse everything"}
	}
	return paths, nil
}

func read(path string) (File, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &Error{path, 0, "not a regular file"}
	}
	if err == nil && info.Size() > maxFile {
		err = &Error{path, 0, fmt.Sprintf("larger than %d MiB: split it", maxFile>>20)}
	}
	if err != nil {
		return File{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("policy: %w", err)
	}
	return File{path, b}, nil
}

// Parse is Load from memory.
func Parse(files ...File) (*Policy, error) {
	p := &Policy{literal: map[string][]*rule{}}
	var errs []*Error
	for _, f := range files {
		r := &reader{file: f.Name}
		more, subjects, glass := r.rules(f.Data)
		p.rules, p.subjects, p.glass = append(p.rules, more...), append(p.subjects, subjects...), append(p.glass, glass...)
		errs = append(errs, r.errs...)
	}
	errs = append(errs, p.names()...)
	errs = append(errs, p.twice()...)
	errs = append(errs, p.glassRules()...)
	if len(errs) == 0 {
		errs = p.conflicts()
	}
	if len(errs) > 0 {
		return nil, join(errs)
	}
	slices.SortFunc(p.rules, func(a, b *rule) int { return strings.Compare(a.name, b.name) })
	p.index()
	p.sign()
	p.giveWay()
	return p, nil
}

// rules reads the rules of a file, whose rows are whose, and what emergency access
// there is.
func (r *reader) rules(b []byte) (out []*rule, subjects []*subject, glass []*glass) {
	doc := r.document(b)
	if doc == nil {
		return nil, nil, nil
	}
	found := false
	r.fields(doc, "a policy", []field{{"rules", func(n *yaml.Node) {
		found = true
		if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
			r.bad(n, "rules: write a list of rules: an empty policy would refuse everything")
			return
		}
		for _, e := range n.Content {
			out = append(out, r.rule(e))
		}
	}}, {"subjects", func(n *yaml.Node) { subjects = r.subjects(n) }}, {"break_glass", func(n *yaml.Node) { glass = r.glasses(n) }}})
	if !found && len(r.errs) == 0 {
		r.bad(doc, "no rules: an empty policy would refuse everything")
	}
	return out, subjects, glass
}

// names refuses two rules of one name.
func (p *Policy) names() (errs []*Error) {
	first := map[string]*rule{}
	for _, x := range p.rules {
		if o := first[x.name]; o != nil && x.name != "" {
			errs = append(errs, &Error{x.file, x.line, fmt.Sprintf("rule %q: the name is taken by the rule at %s:%d", x.name, o.file, o.line)})
			continue
		}
		first[x.name] = x
	}
	return errs
}

// conflicts refuses two different masks on one field for identities that
// surely meet. Where a condition or an exception may keep them apart, the
// evaluation refuses instead.
func (p *Policy) conflicts() (errs []*Error) {
	byField := map[events.Field][]*rule{}
	limits := map[*rule]map[string]globs{}
	for _, x := range p.rules {
		limits[x] = x.restrictions()
		for f := range x.masks {
			if x.cond == nil && x.except == nil {
				byField[f] = append(byField[f], x)
			}
		}
	}
	for _, x := range p.rules {
		for f, m := range x.masks {
			for _, o := range byField[f] {
				if o == x {
					break // each pair once, at the later rule
				}
				if x.cond == nil && x.except == nil && x.observe == o.observe && o.masks[f] != m && surelyOverlap(limits[x], limits[o]) {
					errs = append(errs, &Error{x.file, x.fields[f], fmt.Sprintf(
						"%s has another mask by rule %q (%s:%d), for some of the same identities: use one mask, or except them from one of the rules",
						f, o.name, o.file, o.fields[f])})
				}
			}
		}
	}
	return errs
}

// index sorts rules by the workload that they name.
func (p *Policy) index() {
	for _, x := range p.rules {
		names, ok := x.workloads()
		if !ok {
			p.general = append(p.general, x)
			continue
		}
		for _, n := range names {
			p.literal[n] = append(p.literal[n], x)
		}
	}
}

// workloads returns the workloads that a rule is about, false if it names
// them by patterns or not at all.
func (x *rule) workloads() ([]string, bool) {
	if x.who == nil || len(x.who.Workload) == 0 {
		return nil, false
	}
	var names []string
	for _, g := range x.who.Workload {
		if g.tokens != nil {
			return nil, false
		}
		if !slices.Contains(names, g.lit) {
			names = append(names, g.lit)
		}
	}
	return names, true
}

func join(errs []*Error) error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	list := make([]error, len(errs))
	for i, e := range errs {
		list[i] = e
	}
	return errors.Join(list...)
}

// NeedsKey reports, as an *Error, the first field with a keyed mask; nil where
// there is none.
func (p *Policy) NeedsKey() error {
	var first *Error
	for _, x := range p.rules {
		for f, m := range x.masks {
			if !mask.Keyed(m) || first != nil && first.File == x.file && first.Line <= x.fields[f] {
				continue
			}
			first = &Error{x.file, x.fields[f], fmt.Sprintf(
				"%s: mask %s needs a key: make one with openssl rand -hex 32, and name its file as masking.key_file in the configuration", f, m.Kind)}
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// Rule describes a rule to people.
type Rule struct {
	Name   string `json:"name"`
	Effect string `json:"effect"`
	File   string `json:"file"`
	Line   int    `json:"line"`
}

// Rules lists the rules by name.
func (p *Policy) Rules() []Rule {
	out := make([]Rule, len(p.rules))
	for i, x := range p.rules {
		for name, e := range effects {
			if e == x.effect {
				out[i] = Rule{x.name, name, x.file, x.line}
			}
		}
	}
	return out
}

// Unmatched lists the rules that name no resource and no workload of those
// given: on this host they never apply, which is a slip of the pen or meant
// for other hosts.
func (p *Policy) Unmatched(resources, workloads []string) []*Error {
	var out []*Error
	check := func(x *rule, what string, want globs, have []string) {
		for _, g := range want {
			if !slices.ContainsFunc(have, g.match) {
				out = append(out, &Error{x.file, x.line, fmt.Sprintf("rule %q: no %s %q here", x.name, what, g.source)})
			}
		}
	}
	for _, x := range p.rules {
		if x.where != nil {
			check(x, "resource", x.where.Name, resources)
		}
		if x.who != nil {
			check(x, "workload", x.who.Workload, workloads)
		}
	}
	return append(out, p.unmatchedGlass(resources, workloads)...)
}

var _ policy.Engine = (*Policy)(nil)
