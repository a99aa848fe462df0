package config

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Port checks that a configuration has nothing in it that needs root, or the
// kernel's part of sallyport: a passage that is only a port (sallyport proxy)
// can't give it, and leaves nothing out in silence. resource is the one that it
// leads to, of the workload's connections. Errors name the lines.
func (c *Config) Port(resource, workload string) (*Resource, *Workload, error) {
	ck := checker{path: c.Path, doc: &c.doc}
	no := func(why string, keys ...any) {
		if ck.given(keys...) {
			ck.bad(fmt.Sprintf("%v: sallyport proxy does without: %s", keys[len(keys)-1], why), keys...)
		}
	}
	no("it guards nothing", "interception")
	no("what nothing leads to can't be observed", "enforcement")
	no("its clients are on this host, and speak in clear", "authority")
	no("it runs as whoever starts it", "user")
	no("it has no control socket", "run")
	no("give --state, a folder of its own", "state")
	no("no process is proved", "identity", "spiffe")
	no("nobody ties a login to a process (sallyport exec)", "identity", "saml")
	no("it ships nothing: the record stays in its folder", "evidence", "nats")
	no("it ships nothing: the record stays in its folder", "evidence", "recorder_key")
	for i, r := range c.Resources {
		no("it is a port", "resources", i, "unix")
		no("its clients are on this host, and speak in clear", "resources", i, "tls", "agent")
		no("it reads what it passes on", "resources", i, "tls", "undecoded")
		for k := range r.Accounts {
			no("no SPIFFE agent is asked", "resources", i, "accounts", k, "svid")
		}
	}
	r, err := pick(c.Resources, func(r *Resource) string { return r.Name }, resource)
	if err != nil {
		ck.bad(fmt.Sprintf("resources: %v: name it with --resource", err), "resources")
	}
	w, err := pick(c.Identity.Workloads, func(w *Workload) string { return w.Name }, workload)
	if err != nil {
		ck.bad(fmt.Sprintf("identity.workloads: %v: name it with --workload", err), "identity", "workloads")
	}
	return r, w, errors.Join(ck.errs...)
}

// pick returns the one that is named, or the only one.
func pick[T any](list []T, name func(*T) string, want string) (*T, error) {
	for i := range list {
		if want == "" && len(list) == 1 || want != "" && name(&list[i]) == want {
			return &list[i], nil
		}
	}
	if want == "" {
		return nil, fmt.Errorf("there are %d", len(list))
	}
	return nil, fmt.Errorf("there is no %q", want)
}

// given reports whether the file has what the keys lead to.
func (c *checker) given(keys ...any) bool {
	n := c.doc
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, k := range keys {
		if n = child(n, k); n == nil {
			return false
		}
	}
	return true
}
