package broker

import (
	"fmt"
	"regexp"
	"strings"

	"sallyport.dev/sallyport/intercept"
)

// Who selects identities by what is proved of them. All parts that are given
// must hold, each by one of its globs, in which * stands for anything. The zero
// Who is nobody.
type Who struct {
	Workloads, SPIFFE, Issuers, Actors, PrincipalIssuers, Principals []string
	Proofs                                                           []string // how strongly it is proved; not globs
}

// Is reports whether an identity is meant.
func (w *Who) Is(id *intercept.Identity) bool {
	given := false
	for _, p := range []struct {
		globs []string
		value string
	}{
		{w.Workloads, id.Workload},
		{w.SPIFFE, id.SPIFFE},
		{w.Issuers, id.Issuer},
		{w.Actors, id.Actor()},
		{w.PrincipalIssuers, id.PrincipalIssuer()},
		{w.Principals, id.Principal()},
	} {
		if p.globs == nil {
			continue
		}
		given = true
		if p.value == "" || !anyGlob(p.globs, p.value) {
			return false
		}
	}
	if w.Proofs == nil {
		return given
	}
	for _, p := range w.Proofs {
		if p != "" && p == id.Proof {
			return true
		}
	}
	return false
}

func anyGlob(globs []string, s string) bool {
	for _, g := range globs {
		if glob(g, s) {
			return true
		}
	}
	return false
}

// glob reports whether s is meant by g, in which * stands for anything.
func glob(g, s string) bool {
	first, rest, star := strings.Cut(g, "*")
	if !star {
		return g == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		_, after, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = after
	}
	return strings.HasSuffix(s, last)
}

// Template is a name of a database's, or one that is made of what is proved of
// an identity: text with at most one of {workload}, {actor} and {principal}.
type Template string

var places = map[string]func(*intercept.Identity) string{
	"{workload}":  func(id *intercept.Identity) string { return id.Workload },
	"{actor}":     func(id *intercept.Identity) string { return id.Actor() },
	"{principal}": func(id *intercept.Identity) string { return id.Principal() },
}

// word is what a proved name must be to become part of a database's: nothing
// that any server folds, cuts or reads otherwise.
var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]*$`)

// maxName is the longest name that PostgreSQL does not cut, in bytes
// (NAMEDATALEN - 1).
const maxName = 63

// split parts a template at its place; place is "" where it has none.
func (t Template) split() (before, place, after string) {
	i, j := strings.IndexByte(string(t), '{'), strings.IndexByte(string(t), '}')
	if i < 0 || j < i {
		return string(t), "", ""
	}
	return string(t[:i]), string(t[i : j+1]), string(t[j+1:])
}

// Place returns the template's "{workload}", "{actor}" or "{principal}", "" for
// none.
func (t Template) Place() string {
	_, place, _ := t.split()
	return place
}

// Check says what is wrong with a template.
func (t Template) Check() error {
	before, place, after := t.split()
	if place != "" && places[place] == nil || strings.ContainsAny(after, "{}") || place == "" && strings.ContainsAny(before, "{}") {
		return fmt.Errorf("%q: one of {workload}, {actor} and {principal} may stand in it, once: two could be told apart by nobody", string(t))
	}
	if place == "" && t != "" {
		return checkName(string(t), false)
	}
	return nil
}

// For returns the name for an identity, "" of the empty template.
func (t Template) For(id *intercept.Identity) (string, error) {
	if t == "" {
		return "", nil
	}
	if err := t.Check(); err != nil {
		return "", err
	}
	before, place, after := t.split()
	if place == "" {
		return string(t), nil
	}
	v := places[place](id)
	if !word.MatchString(v) {
		return "", fmt.Errorf("the identity's %s can't be part of a database's name: it may only have letters, digits and _ . @ -", place)
	}
	name := before + v + after
	return name, checkName(name, true)
}

// checkName refuses names that a server cuts, and those that mean something
// else than a role; made of an identity, also the server's own roles.
func checkName(name string, made bool) error {
	lower := strings.ToLower(name)
	switch {
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes: the server would cut it at %d", len(name), maxName)
	case lower == "none", lower == "public", lower == "default", made && (lower == "postgres" || strings.HasPrefix(lower, "pg_")):
		return fmt.Errorf("name %q: it is one of the server's own", name)
	}
	for _, c := range []byte(name) {
		if c < 0x20 || c == 0x7f {
			return fmt.Errorf("name %q: control characters", name)
		}
	}
	return nil
}
