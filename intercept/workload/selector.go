package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Selector selects cgroups by what they are. All parts that are given must
// hold, and one must be given: the zero Selector is refused. Values are globs;
// see Glob.
type Selector struct {
	// Systemd is a unit or slice by its full name: agents.slice, agent@*.service.
	// What is below it is meant too. A user's own unit is named with the unit
	// that runs that user's manager, user@1201.service/agent.service, since it
	// is that user who says what runs under the name.
	Systemd string `yaml:"systemd"`
	// Cgroup is a path below the cgroup2 root, starting with a slash.
	Cgroup     string      `yaml:"cgroup"`
	Container  *Container  `yaml:"container"`
	Kubernetes *Kubernetes `yaml:"kubernetes"`
}

// Container selects containers; all parts that are given must hold.
type Container struct {
	Name   string            `yaml:"name"`   // as docker ps, podman ps, nerdctl ps show it; in a pod the container's name there
	Image  string            `yaml:"image"`  // as it was named at the start
	Labels map[string]string `yaml:"labels"` // each must be there and match
}

// Kubernetes selects what runs in pods; all parts that are given must hold.
type Kubernetes struct {
	Namespace      string            `yaml:"namespace"`
	Pod            string            `yaml:"pod"`
	ServiceAccount string            `yaml:"service_account"`
	Labels         map[string]string `yaml:"labels"` // of the pod
}

// Check says what is wrong with a selector, and what to write instead.
func (s *Selector) Check() error {
	_, err := s.compile()
	return err
}

// Path returns the one cgroup that a selector means, known before it is there:
// a path or a slice without wildcards. ok is false where it means anything
// else: a unit may be put into any slice.
func (s *Selector) Path() (path string, ok bool) {
	switch {
	case s.Container != nil || s.Kubernetes != nil || !literal(s.Cgroup+s.Systemd):
		return "", false
	case s.Systemd == "":
		return s.Cgroup, s.Cgroup != ""
	case s.Cgroup == "":
		path, ok = expandSlice(s.Systemd)
		return path, ok && path != ""
	}
	return "", false
}

// unitKinds are the kinds of units that have a cgroup.
var unitKinds = []string{".slice", ".service", ".scope", ".socket", ".mount", ".swap"}

type compiled struct {
	systemd, user Glob // user: of the user's own unit, where userUnits
	userUnits     bool
	cgroup        Glob
	parts         struct{ systemd, cgroup bool }
	fields        []field
}

// field is one value of a Description that must match.
type field struct {
	get  func(*Description) (string, bool)
	glob Glob
}

func (s *Selector) compile() (*compiled, error) {
	c := &compiled{}
	if s.Systemd == "" && s.Cgroup == "" && s.Container == nil && s.Kubernetes == nil {
		return nil, errors.New("give at least one of systemd, cgroup, container, kubernetes: an empty selector would select everything")
	}
	var err error
	if s.Systemd != "" {
		if err = c.unit(s.Systemd); err != nil {
			return nil, err
		}
	}
	if s.Cgroup != "" {
		if s.Cgroup[0] != '/' || len(s.Cgroup) < 2 {
			return nil, fmt.Errorf("cgroup %q: give a path below the cgroup2 root, starting with /", s.Cgroup)
		}
		if slices.ContainsFunc(strings.Split(s.Cgroup[1:], "/"), func(n string) bool { return n == "" || n == "." || n == ".." }) {
			return nil, fmt.Errorf("cgroup %q: no name in it may be empty, . or .. (write it plainly)", s.Cgroup)
		}
		c.parts.cgroup = true
		if c.cgroup, err = CompileGlob(s.Cgroup); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	if k := s.Container; k != nil {
		err := errors.Join(
			c.text("container.name", k.Name, func(d *Description) string { return d.Container.Name }),
			c.text("container.image", k.Image, func(d *Description) string { return d.Container.Image }),
			c.labels("container.labels", k.Labels, func(d *Description) map[string]string { return d.Container.Labels }))
		if err != nil {
			return nil, err
		}
		if k.Name == "" && k.Image == "" && len(k.Labels) == 0 {
			return nil, errors.New("container: give at least one of name, image, labels (name: \"**\" selects every container)")
		}
	}
	if k := s.Kubernetes; k != nil {
		err := errors.Join(
			c.text("kubernetes.namespace", k.Namespace, func(d *Description) string { return d.Pod.Namespace }),
			c.text("kubernetes.pod", k.Pod, func(d *Description) string { return d.Pod.Name }),
			c.text("kubernetes.service_account", k.ServiceAccount, func(d *Description) string { return d.Pod.ServiceAccount }),
			c.labels("kubernetes.labels", k.Labels, func(d *Description) map[string]string { return d.Pod.Labels }))
		if err != nil {
			return nil, err
		}
		if k.Namespace == "" {
			return nil, errors.New("kubernetes: namespace: required: names, labels and service accounts belong to one (\"*\" takes them all)")
		}
	}
	return c, nil
}

func (c *compiled) unit(pattern string) (err error) {
	outer, inner, user := strings.Cut(pattern, "/")
	for _, p := range []string{outer, inner} {
		if p == "" && !user {
			continue
		}
		if strings.Contains(p, "/") || !slices.ContainsFunc(unitKinds, func(k string) bool { return strings.HasSuffix(p, k) && p != k }) {
			return fmt.Errorf("systemd %q: give a unit's or slice's full name, like agents.slice or agent@*.service; a user's own as user@1201.service/agent.service", pattern)
		}
	}
	if user && !strings.HasPrefix(outer, "user@") {
		return fmt.Errorf("systemd %q: a user's own unit is named below the user's manager, like user@1201.service/agent.service", pattern)
	}
	c.parts.systemd, c.userUnits = true, user
	if c.systemd, err = CompileGlob(outer); err == nil && user {
		c.user, err = CompileGlob(inner)
	}
	return err
}

// text adds a value that must match; "" asks for nothing.
func (c *compiled) text(what, pattern string, get func(*Description) string) error {
	if pattern == "" {
		return nil
	}
	g, err := CompileGlob(pattern)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c.fields = append(c.fields, field{glob: g, get: func(d *Description) (string, bool) {
		s := get(d)
		return s, s != ""
	}})
	return nil
}

func (c *compiled) labels(what string, want map[string]string, get func(*Description) map[string]string) error {
	for name, pattern := range want {
		if name == "" {
			return fmt.Errorf("%s: a label without a name", what)
		}
		f := field{get: func(d *Description) (string, bool) {
			v, ok := get(d)[name]
			return v, ok
		}}
		if pattern != "" { // "" asks for an empty value
			g, err := CompileGlob(pattern)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", what, name, err)
			}
			f.glob = g
		}
		c.fields = append(c.fields, f)
	}
	return nil
}

func (c *compiled) match(d *Description) bool {
	if c.parts.systemd && !c.matchUnit(d) || c.parts.cgroup && !c.cgroup.Match(d.Path) {
		return false
	}
	for _, f := range c.fields {
		v, ok := f.get(d)
		if !ok || !f.glob.Match(v) && (v != "" || f.glob.re != nil) {
			return false
		}
	}
	return true
}

func (c *compiled) matchUnit(d *Description) bool {
	if c.userUnits {
		return c.systemd.Match(d.Unit) && (c.user.Match(d.UserUnit) || slices.ContainsFunc(d.UserSlices, c.user.Match))
	}
	return c.systemd.Match(d.Unit) || slices.ContainsFunc(d.Slices, c.systemd.Match)
}

// Set is a list of selectors, compiled. The zero Set selects nothing.
type Set struct {
	all   []*compiled
	state bool // some look at a container or pod
}

// Compile compiles selectors; an error names the one it is about by its index.
func Compile(ss []Selector) (Set, error) {
	var set Set
	for i := range ss {
		c, err := ss[i].compile()
		if err != nil {
			return Set{}, fmt.Errorf("selector %d: %w", i, err)
		}
		set.all = append(set.all, c)
		set.state = set.state || len(c.fields) > 0
	}
	return set, nil
}

// Match returns the index of the first selector that a cgroup matches.
func (s Set) Match(d *Description) (index int, ok bool) {
	for i, c := range s.all {
		if c.match(d) {
			return i, true
		}
	}
	return 0, false
}
