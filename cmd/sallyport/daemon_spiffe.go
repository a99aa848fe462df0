package main

import (
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/spiffe"
)

// proving returns who proves processes under a configuration, and who tells
// their SVIDs, nil where no agent is configured. The agent is not waited for.
func (d *daemon) proving(cfg *config.Config) (intercept.Prover, identity.Attester, error) {
	c := cfg.Identity.SPIFFE
	if c == nil {
		return d.prover, nil, nil
	}
	if d.spiffe != nil { // a reload can't change the agent
		return d.spiffe, d.spiffe, nil
	}
	o := spiffe.Config{Agent: c.Agent, Admin: c.Admin, Broker: c.Broker, Recheck: cfg.Identity.Recheck, Offline: c.Offline}
	for _, name := range c.TrustDomains {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, nil, configError(fmt.Errorf("%s: %w", cfg.At("identity", "spiffe", "trust_domains"), err))
		}
		o.TrustDomains = append(o.TrustDomains, td)
	}
	var err error
	if d.attestor, err = spiffe.Open(o); err != nil {
		return nil, nil, configError(fmt.Errorf("%s: %w", cfg.At("identity", "spiffe"), err))
	}
	d.spiffe = spiffe.NewSessions(d.attestor, d.prover, idsOf(cfg))
	return d.spiffe, d.spiffe, nil
}

// idsOf are the SPIFFE IDs that a workload's processes may have, by its name.
func idsOf(cfg *config.Config) map[string][]spiffeid.ID {
	ids := map[string][]spiffeid.ID{}
	for _, w := range cfg.Identity.Workloads {
		if id, err := spiffeid.FromString(w.SPIFFE); err == nil {
			ids[w.Name] = []spiffeid.ID{id}
		}
	}
	return ids
}

// watchSVID ends a session as soon as its process's SPIFFE identity ends. The
// caller calls stop when the session has ended.
func (d *daemon) watchSVID(m *member, peer *intercept.Peer) (stop func()) {
	if d.spiffe == nil {
		return func() {}
	}
	lease := d.spiffe.Lease(peer)
	if lease == nil {
		return func() {}
	}
	over := make(chan struct{})
	go func() {
		select {
		case <-lease.Done():
			d.cut(m, fmt.Sprint(lease.Err()), "see that the workload is registered with SPIRE, and connect again")
		case <-over:
		}
	}()
	return func() { close(over) }
}

// released forgets a peer that was proved.
func (d *daemon) released(peer *intercept.Peer) {
	if d.spiffe != nil {
		d.spiffe.Release(peer)
	}
}

// commitSPIFFE puts a configuration's IDs in force.
func (d *daemon) commitSPIFFE(cfg *config.Config) {
	if d.spiffe != nil {
		d.spiffe.SetIDs(idsOf(cfg))
	}
}

// closeSPIFFE ends what is held of the agent.
func (d *daemon) closeSPIFFE() error {
	if d.attestor == nil {
		return nil
	}
	return d.attestor.Close()
}
