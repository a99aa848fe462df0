package spiffe

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Config says where the agent is, and how long its word is good.
type Config struct {
	// Sockets of the agent, as unix:///PATH: of the Workload API, of the
	// Delegated Identity API (SPIRE's admin socket), of the SPIFFE Broker API.
	// The first must be given, and one of the others; where both are, the
	// Broker API is asked first.
	Agent, Admin, Broker string
	// TrustDomains are those that a workload's SVID may be of. nil is the
	// daemon's own alone. Of each other the daemon's entry must be federated
	// with it.
	TrustDomains []spiffeid.TrustDomain
	// Recheck is the time from one attestation of a process with sessions to
	// the next; 0: 30 s. A change that the agent knows of is told at once.
	Recheck time.Duration
	// Wait is the time that the agent has for an answer; 0: 5 s.
	Wait time.Duration
	// Offline bounds how long an identity outlives the agent's last word, where
	// the agent is gone. 0: until its SVID expires.
	Offline time.Duration
	// Processes bounds how many are held at once; 0: 4096. A workload may have
	// half of them.
	Processes int
	// Keys keeps the private keys of the workloads' SVIDs, so that the passage
	// can present them (Lease.GetX509SVID). Else they are forgotten at once.
	Keys bool
	// Now is the clock that everything is held against; nil: time.Now.
	Now func() time.Time
}

func (c *Config) check() error {
	if c.Recheck < 0 || c.Wait < 0 || c.Offline < 0 || c.Processes < 0 {
		return errors.New("SPIFFE: no time and no number may be below zero")
	}
	c.Recheck = cmp.Or(c.Recheck, 30*time.Second)
	c.Wait = cmp.Or(c.Wait, 5*time.Second)
	c.Processes = cmp.Or(c.Processes, 4096)
	if c.Now == nil {
		c.Now = time.Now
	}
	for name, a := range map[string]string{"agent": c.Agent, "admin": c.Admin, "broker": c.Broker} {
		if a == "" && name != "agent" {
			continue
		}
		// Over TCP nobody would know who asks, or which host's processes are meant.
		if path, ok := strings.CutPrefix(a, "unix://"); !ok || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("SPIFFE: %s %q: give the agent's socket as unix:///PATH", name, a)
		}
	}
	return nil
}

func (c *Config) now() time.Time { return c.Now() }

// Open returns an Attestor with the agent's APIs and a Source of its own. It
// does not wait for the agent; until it answers, nobody is bound.
func Open(c Config) (*Attestor, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Admin == "" && c.Broker == "" {
		return nil, fmt.Errorf("SPIFFE: name the agent's admin socket, its broker socket, or both")
	}
	own, err := NewSource(c)
	if err != nil {
		return nil, err
	}
	var api API
	var closers []func() error
	fail := func(err error) (*Attestor, error) {
		for _, f := range closers {
			_ = f()
		}
		own.Close()
		return nil, err
	}
	if c.Admin != "" {
		d, err := NewDelegated(c.Admin)
		if err != nil {
			return fail(err)
		}
		api, closers = d, append(closers, d.Close)
	}
	if c.Broker != "" {
		b, err := NewBroker(c.Broker, own)
		if err != nil {
			return fail(err)
		}
		closers = append(closers, b.Close)
		if api == nil {
			api = b
		} else {
			api = Either(b, api)
		}
	}
	a, err := New(c, api, own)
	if err != nil {
		return fail(err)
	}
	a.closers = append(closers, own.Close)
	return a, nil
}
