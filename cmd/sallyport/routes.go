package main

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/names"
)

// routes say which resource an endpoint belongs to. They do not change, but
// for what the names lead to.
type routes struct {
	cfg   *config.Config
	fixed *intercept.Routes[fixedRoute]
	unix  map[string]*config.Resource
	named atomic.Pointer[map[netip.Addr][]claim]
}

// fixedRoute is what the configuration says of an address.
type fixedRoute struct {
	resource *config.Resource
	single   bool // of the address itself, not of a prefix
}

// claim is what DNS says of one.
type claim struct {
	resource    *config.Resource
	first, last uint16
}

// target is where a flow leads.
type target struct {
	resource         *config.Resource // nil: nothing is configured there
	network, address string           // for the daemon to dial
	conflict         *config.Resource // it may as well belong to this one: nobody can tell
}

func newRoutes(cfg *config.Config) (*routes, error) {
	r := &routes{cfg: cfg, unix: map[string]*config.Resource{}}
	var all []intercept.Route[fixedRoute]
	for i := range cfg.Resources {
		res := &cfg.Resources[i]
		for _, a := range res.Addresses {
			if a.Name == "" {
				all = append(all, intercept.Route[fixedRoute]{Destination: a.Destination, To: fixedRoute{res, a.Prefix.IsSingleIP()}})
			}
		}
		for _, p := range res.Unix {
			r.unix[p] = res
		}
	}
	var err error
	r.fixed, err = intercept.NewRoutes(all)
	r.learn(nil)
	return r, err
}

// learn replaces what is known of names.
func (r *routes) learn(m names.Map) {
	claims := map[netip.Addr][]claim{}
	for i := range r.cfg.Resources {
		res := &r.cfg.Resources[i]
		for _, a := range res.Addresses {
			// An old address is as good as a new one: somebody's data may stand
			// there still.
			known := m[a.Name]
			for _, list := range [][]netip.Addr{known.Current, known.Old} {
				for _, addr := range list {
					claims[addr] = append(claims[addr], claim{res, a.First, a.Last})
				}
			}
		}
	}
	r.named.Store(&claims)
}

// find returns where a flow leads: by what its client asked for or, when that
// is nobody's, by what it would have reached.
func (r *routes) find(f *intercept.Flow) target {
	if f.Path != "" {
		return target{resource: r.unix[f.Path], network: "unix", address: f.Path}
	}
	t := r.endpoint(f.Destination)
	if t.resource == nil && f.Reached.IsValid() {
		if reached := r.endpoint(f.Reached); reached.resource != nil {
			return reached
		}
	}
	return t
}

// endpoint returns whose an endpoint is. DNS can't take one from a resource:
// where the configuration or DNS say that it belongs to several, only a
// configuration that has the very address decides.
func (r *routes) endpoint(a netip.AddrPort) target {
	a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	t := target{network: "tcp", address: a.String()}
	fixed, _ := r.fixed.Find(a)
	t.resource = fixed.resource
	if fixed.single {
		return t
	}
	for _, c := range (*r.named.Load())[a.Addr()] {
		switch {
		case a.Port() < c.first || a.Port() > c.last || c.resource == t.resource:
		case t.resource == nil:
			t.resource = c.resource
		default:
			t.conflict = c.resource
		}
	}
	return t
}

// refusal is why nobody is let through to t, nil if somebody may be.
func (t *target) refusal() error {
	switch {
	case t.resource == nil:
		return refusal("unknown", "session", fmt.Sprintf("%s is guarded, but no resource is configured for it", t.address),
			"name it in sallyport.yaml (resources), or bring the guard to this configuration: sallyport guard up")
	case t.conflict != nil:
		return refusal("unknown", "session", fmt.Sprintf("%s belongs to resource %s and to %s, by the names of at least one of them", t.address, t.resource.Name, t.conflict.Name),
			"list the address itself, in sallyport.yaml, under the resource that it belongs to")
	}
	return nil
}
