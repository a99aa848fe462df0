package config

import (
	"fmt"
	"net/netip"

	"sallyport.dev/sallyport/intercept/workload"
)

// What is done with a Forwarder.
const (
	ForwarderGuard  = "guard"
	ForwarderExempt = "exempt"
)

// Forwarder is a local process that carries the connections of others to a
// protected service: a pooler, ssh -L, docker-proxy.
type Forwarder struct {
	Name string `yaml:"name"`
	// Cgroup is its path below the cgroup2 root, Exe its executable: at least
	// one. Only a cgroup can be exempt.
	Cgroup string `yaml:"cgroup"`
	Exe    string `yaml:"exe"`
	// Do is ForwarderGuard (the default): it is covered like any agent, and
	// needs a workload of its own; or ForwarderExempt, of mode host.
	Do string `yaml:"do"`
	// Listens are the ip:port pairs at which agents dial it. Each must be an
	// address of a resource, so that they are turned into the passage.
	Listens []netip.AddrPort `yaml:"listens"`
}

// forward fills in the defaults, and exempts what the rulings exempt.
func (i *Interception) forward() {
	for k := range i.Forwarders {
		f := &i.Forwarders[k]
		def(&f.Do, ForwarderGuard)
		if f.Do == ForwarderExempt {
			i.Exempt = append(i.Exempt, Exempt{workload.Selector{Cgroup: f.Cgroup}})
		}
	}
}

// Protects reports whether an endpoint is an address of a resource. Where
// names lead is not looked at.
func (c *Config) Protects(a netip.AddrPort) bool {
	for i := range c.Resources {
		for _, have := range c.Resources[i].Addresses {
			if have.Name == "" && have.Contains(a) {
				return true
			}
		}
	}
	return false
}

func (c *checker) forwarders(cfg *Config) {
	names := map[string]bool{}
	for i, f := range cfg.Interception.Forwarders {
		at := func(key string) []any { return []any{"interception", "forwarders", i, key} }
		if f.Name == "" || names[f.Name] {
			c.bad(fmt.Sprintf("forwarder %q: name: must be set and unique", f.Name), at("name")...)
		}
		names[f.Name] = true
		c.oneOf(f.Do, []string{ForwarderGuard, ForwarderExempt}, at("do")...)
		switch {
		case f.Cgroup == "" && f.Exe == "":
			c.bad(fmt.Sprintf("forwarder %s: give its cgroup or its exe", f.Name), at("cgroup")...)
		case f.Exe != "" && f.Exe[0] != '/':
			c.bad(fmt.Sprintf("exe %q: must be an absolute path", f.Exe), at("exe")...)
		case f.Do == ForwarderExempt && f.Cgroup == "":
			c.bad(fmt.Sprintf("forwarder %s: only a cgroup can be exempt: give it", f.Name), at("do")...)
		case f.Do == ForwarderExempt && cfg.Interception.Mode != "host":
			c.bad(fmt.Sprintf("forwarder %s: exempt means something in mode host only: in mode cgroup leave its cgroup out", f.Name), at("do")...)
		}
		for k, a := range f.Listens {
			if !cfg.Protects(a) {
				c.bad(fmt.Sprintf("listens %s: agents would reach what is behind the forwarder without the passage: add it to the addresses of the resource behind it", a), append(at("listens"), k)...)
			}
		}
	}
}
