package main

import (
	"context"
	"crypto/tls"
	"reflect"
	"sync"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/intercept/broker/rds"
	"sallyport.dev/sallyport/intercept/broker/vault"
	"sallyport.dev/sallyport/protocols"
)

// brokers are whom the daemon logs in as at the servers of resources.
type brokers struct {
	store broker.Store
	// svid gives this host's own X.509-SVID.
	svid func(context.Context) (*tls.Certificate, error)
	fail func(error)

	mu     sync.Mutex
	of     map[string]brokered // by resource
	vaults map[vaultPath]*vault.Source
	server *vault.Client
	access *config.Vault // that server is a client of
}

// brokered are a resource's accounts, each with the weakest way to prove it.
type brokered struct {
	list    []broker.Account
	weakest []protocols.Method
	agents  map[string]string // verifiers; nil: no agent is asked for a password
}

// vaultPath is what all accounts share that are the same of Vault's.
type vaultPath struct {
	config.VaultPath

	resource string
}

// methods are the names of ways to prove a password.
var methods = map[string]protocols.Method{
	"": protocols.Bound, "scram-sha-256-plus": protocols.Bound, "scram-sha-256": protocols.Mutual,
	"md5": protocols.Hashed, "password": protocols.Clear, "none": protocols.None,
}

// commit puts a setting in force for sessions to come. Those that are there
// keep what they were given.
func (a *brokers) commit(s *setting) {
	a.store.Replace(s.takeSecrets())
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.vaults
	a.of, a.vaults = map[string]brokered{}, map[vaultPath]*vault.Source{}
	if a.reach(s) {
		a.drop(old)
		old = nil
	}
	for i := range s.cfg.Resources {
		r := &s.cfg.Resources[i]
		var of brokered
		for _, agent := range r.Agents {
			if of.agents == nil {
				of.agents = map[string]string{}
			}
			of.agents[agent.User] = agent.Verifier
		}
		for k := range r.Accounts {
			account, weakest := a.make(r, &r.Accounts[k], old)
			of.list, of.weakest = append(of.list, account), append(of.weakest, weakest)
		}
		a.of[r.Name] = of
	}
	a.drop(old)
}

// drop lets go of those that are not in use any more; mu is held.
func (a *brokers) drop(old map[vaultPath]*vault.Source) {
	for path, v := range old {
		if a.vaults[path] != v {
			go v.Close(context.Background())
		}
	}
}

// reach makes the client of Vault, and reports whether it is another one than
// before; mu is held.
func (a *brokers) reach(s *setting) (other bool) {
	v := s.cfg.Vault
	if a.server != nil && reflect.DeepEqual(v, a.access) && s.vaultRoots.Equal(a.server.Roots) {
		return false
	}
	a.access, a.server = v, nil
	if v == nil {
		return true
	}
	c := &vault.Client{Address: v.Address, Namespace: v.Namespace, Roots: s.vaultRoots, Store: &a.store, TokenFile: v.TokenFile}
	if r := v.AppRole; r != nil {
		c.Mount, c.RoleID, c.SecretIDFile = r.Mount, r.RoleID, r.SecretIDFile
	}
	a.server = c
	return true
}

// make makes an account of its configuration; of old it keeps what Vault has
// lent already; mu is held.
func (a *brokers) make(r *config.Resource, c *config.Account, old map[vaultPath]*vault.Source) (out broker.Account, weakest protocols.Method) {
	out = broker.Account{For: c.Who(), User: c.User, Role: c.SetRole}
	weakest = methods[c.Auth]
	switch {
	case c.Vault != nil:
		path := vaultPath{*c.Vault, r.Name}
		v := a.vaults[path]
		if v == nil {
			if v = old[path]; v == nil {
				v = &vault.Source{Client: a.server, Path: c.Vault.Path, PerSession: c.Vault.PerSession, Fail: a.fail}
			}
			a.vaults[path] = v
		}
		out.Source, out.Origin = v, "vault:"+c.Vault.Path
	case c.RDS != nil:
		out.Source = &rds.Source{
			Store: &a.store, File: c.RDS.CredentialsFile, Profile: c.RDS.Profile, Endpoint: c.RDS.Endpoint, Region: c.RDS.Region, Now: time.Now,
		}
		weakest = protocols.Clear // the only way that RDS takes it
	case c.Certificate != nil:
		out.Source = broker.KeyPair{Store: &a.store, Cert: c.Certificate.Certificate, Key: c.Certificate.Key}
	case c.SVID:
		out.Source = broker.Certified(a.svid)
	default:
		out.Source = broker.Password{Store: &a.store, File: c.PasswordFile}
	}
	return out, weakest
}

// choose returns the account that an identity is given at a resource, nil where
// the client logs in itself.
func (a *brokers) choose(r *config.Resource, id *intercept.Identity) (*granted, error) {
	if !r.Brokered() {
		return nil, nil
	}
	a.mu.Lock()
	of := a.of[r.Name]
	a.mu.Unlock()
	g, err := broker.Choose(of.list, id)
	if err != nil {
		return nil, refusal("account", "account", err.Error(), "have the administrator of this host add one (resources[].accounts in sallyport.yaml)")
	}
	return &granted{g, of.weakest[g.Index], of.agents}, nil
}

// close gives back what is not used any more.
func (a *brokers) close(ctx context.Context) {
	a.mu.Lock()
	all := a.vaults
	a.of, a.vaults = nil, nil
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, v := range all {
		wg.Go(func() { v.Close(ctx) })
	}
	wg.Wait()
	a.store.Replace(nil)
}

// granted is the account of one session.
type granted struct {
	*broker.Grant

	weakest protocols.Method
	agents  map[string]string
}

// account is how the protocol knows it.
func (g *granted) account() *protocols.Account {
	if g == nil {
		return nil
	}
	return &protocols.Account{
		User: g.User, Role: g.Role, Agents: g.agents,
		Login: func(ctx context.Context, again bool) (*protocols.Login, error) {
			c, err := g.Credential(ctx, again)
			if err != nil {
				return nil, err
			}
			return &protocols.Login{User: c.User, Password: c.Password, Weakest: g.weakest}, nil
		},
	}
}

// certificate is what the server is shown, nil for none.
func (g *granted) certificate(ctx context.Context) (*tls.Certificate, error) {
	if g == nil {
		return nil, nil
	}
	return g.Certificate(ctx)
}

// end gives back what the session had.
func (g *granted) end() {
	if g != nil {
		g.End()
	}
}
