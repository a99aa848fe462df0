package config

// What Enforcement may be. Everything that is not Observe enforces.
const (
	Enforce = "enforce"
	Observe = "observe"
)

// Observes reports whether nothing is enforced on this host.
func (c *Config) Observes() bool { return c.Enforcement == Observe }

// enforcement checks it, and what only a host that enforces must have.
func (c *checker) enforcement(cfg *Config) {
	c.oneOf(cfg.Enforcement, []string{Enforce, Observe}, "enforcement")
	if len(cfg.Identity.Issuers) == 0 && cfg.Identity.SPIFFE == nil && !cfg.Observes() {
		c.bad("no issuers: nobody could prove who they are, and every connection would be refused (enforcement: observe can do without)", "identity", "issuers")
	}
}
