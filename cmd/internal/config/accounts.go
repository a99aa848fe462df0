package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/internal/loopback"
)

// What a resource's Login may be.
const (
	LoginPass   = "pass"   // the client logs in itself
	LoginBroker = "broker" // the passage does, as one of Accounts
)

// Account is whom the passage logs in as at a resource's server, for those whom
// its selectors mean. All that are given must hold, each by one of its globs.
type Account struct {
	Workloads        []string `yaml:"workloads"`
	SPIFFE           []string `yaml:"spiffe"`
	Issuers          []string `yaml:"issuers"` // of the actor's token
	Actors           []string `yaml:"actors"`
	PrincipalIssuers []string `yaml:"principal_issuers"`
	Principals       []string `yaml:"principals"`
	Proofs           []string `yaml:"proofs"` // one of which is the identity's

	User    broker.Template `yaml:"user"`     // "" with vault, which gives it
	SetRole broker.Template `yaml:"set_role"` // that the session runs as
	Auth    string          `yaml:"auth"`     // the weakest way to prove it; default: the strongest there is

	// One of these proves it.
	PasswordFile string       `yaml:"password_file"`
	Vault        *VaultPath   `yaml:"vault"`
	RDS          *RDS         `yaml:"rds"`
	Certificate  *Certificate `yaml:"certificate"`
	SVID         bool         `yaml:"svid"` // this host's own X.509-SVID
}

// Agent is a user that a client may name where the passage logs in, and how its
// password is checked. It never says who the client is.
type Agent struct {
	User     string `yaml:"user"`
	Verifier string `yaml:"verifier"` // as PostgreSQL keeps it (pg_authid.rolpassword)
}

// VaultPath is a path of a database secrets engine.
type VaultPath struct {
	Path       string `yaml:"path"` // MOUNT/creds/ROLE or MOUNT/static-creds/ROLE
	PerSession bool   `yaml:"per_session"`
}

// RDS says how tokens of AWS RDS are made.
type RDS struct {
	Region          string `yaml:"region"`
	Endpoint        string `yaml:"endpoint"`         // host:port; default: the resource's first name
	CredentialsFile string `yaml:"credentials_file"` // AWS's own form
	Profile         string `yaml:"profile"`
}

// Certificate is a client certificate for the server's door.
type Certificate struct {
	Certificate string `yaml:"certificate"` // file
	Key         string `yaml:"key"`         // file
}

// Vault is the Vault or OpenBao that accounts come from.
type Vault struct {
	Address   string   `yaml:"address"`
	Namespace string   `yaml:"namespace"`
	CA        string   `yaml:"ca"` // file; "": the system's roots
	TokenFile string   `yaml:"token_file"`
	AppRole   *AppRole `yaml:"approle"`
}

// AppRole is who this host is for Vault.
type AppRole struct {
	Mount        string `yaml:"mount"`
	RoleID       string `yaml:"role_id"`
	SecretIDFile string `yaml:"secret_id_file"`
}

// Brokered reports whether the passage logs in at the resource's server.
func (r *Resource) Brokered() bool { return r.Login == LoginBroker }

// Who returns whom an account is for.
func (a *Account) Who() broker.Who {
	return broker.Who{
		Workloads: a.Workloads, SPIFFE: a.SPIFFE, Issuers: a.Issuers, Actors: a.Actors,
		PrincipalIssuers: a.PrincipalIssuers, Principals: a.Principals, Proofs: a.Proofs,
	}
}

// credentials begins the name of a file that systemd keeps for the service
// (LoadCredential=).
const credentials = "$CREDENTIALS_DIRECTORY/"

// secrets are the names of the files of an account, with their keys.
func (a *Account) secrets() map[string]*string {
	m := map[string]*string{"password_file": &a.PasswordFile}
	if a.RDS != nil {
		m["rds"] = &a.RDS.CredentialsFile
	}
	if a.Certificate != nil {
		m["certificate"], m["key"] = &a.Certificate.Certificate, &a.Certificate.Key
	}
	return m
}

// SecretFile is a file that holds a secret, and where the configuration names it.
type SecretFile struct {
	Name string // as it stands there; see Where
	At   string // "file:line"
}

// Where is the file's path. getenv finds the folder of systemd's credentials.
func (f *SecretFile) Where(getenv func(string) string) (string, error) {
	name, ok := strings.CutPrefix(f.Name, credentials)
	if !ok {
		return f.Name, nil
	}
	dir := getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("%s: systemd has given this service no credentials (LoadCredential= in its unit)", f.Name)
	}
	return filepath.Join(dir, name), nil
}

// SecretFiles are those of the accounts, of Vault and of the TLS with NATS: what may
// change while sallyport runs.
func (c *Config) SecretFiles() (out []SecretFile) {
	add := func(name string, keys ...any) {
		if name != "" {
			out = append(out, SecretFile{name, c.At(keys...)})
		}
	}
	for i := range c.Resources {
		for k := range c.Resources[i].Accounts {
			a := &c.Resources[i].Accounts[k]
			for key, name := range a.secrets() {
				add(*name, "resources", i, "accounts", k, key)
			}
		}
	}
	if v := c.Vault; v != nil {
		add(v.CA, "vault", "ca")
		add(v.TokenFile, "vault", "token_file")
		if v.AppRole != nil {
			add(v.AppRole.SecretIDFile, "vault", "approle", "secret_id_file")
		}
	}
	for key, name := range c.Evidence.NATS.TLS.Files() {
		add(*name, "evidence", "nats", "tls", key)
	}
	return out
}

// broker fills in what accounts have by default, and where secrets are.
func (c *Config) broker() {
	files := []*string{&c.Masking.KeyFile, &c.Evidence.SubjectKeyFile}
	for _, f := range c.Evidence.NATS.TLS.Files() {
		files = append(files, f)
	}
	for i := range c.Resources {
		r := &c.Resources[i]
		if len(r.Accounts) > 0 {
			def(&r.Login, LoginBroker)
		}
		def(&r.Login, LoginPass)
		for k := range r.Accounts {
			for _, f := range r.Accounts[k].secrets() {
				files = append(files, f)
			}
			if rds := r.Accounts[k].RDS; rds != nil && rds.Endpoint == "" {
				for _, a := range r.Addresses {
					if a.Name != "" && a.First == a.Last {
						rds.Endpoint = net.JoinHostPort(a.Name, fmt.Sprint(a.First))
						break
					}
				}
			}
		}
	}
	if v := c.Vault; v != nil {
		files = append(files, &v.CA, &v.TokenFile)
		if v.AppRole != nil {
			def(&v.AppRole.Mount, "approle")
			files = append(files, &v.AppRole.SecretIDFile)
		}
	}
	for _, f := range files {
		if *f != "" && !filepath.IsAbs(*f) && !strings.HasPrefix(*f, credentials) {
			*f = filepath.Join(filepath.Dir(c.Path), *f)
		}
	}
}

// Auths are what an account's auth may be, from strong to weak.
var Auths = []string{"scram-sha-256-plus", "scram-sha-256", "md5", "password", "none"}

var (
	vaultPath  = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/(creds|static-creds)/[A-Za-z0-9_.-]+$`)
	vaultMount = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)
	region     = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)
)

// accounts checks who may be whom at the servers.
func (c *checker) accounts(cfg *Config) {
	vault := false
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		at := func(msg string, keys ...any) { c.bad(msg, append([]any{"resources", i}, keys...)...) }
		c.oneOf(r.Login, []string{LoginPass, LoginBroker}, "resources", i, "login")
		switch {
		case r.Login == LoginPass && len(r.Accounts) > 0:
			at("login is pass: the accounts would have no effect", "login")
		case r.Login == LoginBroker && len(r.Accounts) == 0:
			at("login is broker: list accounts, or everybody is refused", "login")
		}
		c.agents(r, at)
		c.onePassword(cfg, r, at)
		for k := range r.Accounts {
			a := &r.Accounts[k]
			vault = vault || a.Vault != nil
			c.account(cfg, r, a, func(msg string, keys ...any) { at(msg, append([]any{"accounts", k}, keys...)...) })
		}
	}
	c.vault(cfg.Vault, vault)
}

func (c *checker) account(cfg *Config, r *Resource, a *Account, at func(string, ...any)) {
	selectors := [][]string{a.Workloads, a.SPIFFE, a.Issuers, a.Actors, a.PrincipalIssuers, a.Principals, a.Proofs}
	given := false
	for i, key := range []string{"workloads", "spiffe", "issuers", "actors", "principal_issuers", "principals", "proofs"} {
		given = given || selectors[i] != nil
		if selectors[i] != nil && (len(selectors[i]) == 0 || slices.Contains(selectors[i], "")) {
			at(key+": an empty list, or an empty text in it, means nobody", key)
		}
	}
	if !given {
		at(`whom is it for? Give workloads, spiffe, issuers, actors, principal_issuers, principals or proofs (workloads: ["*"] for everybody)`)
	}
	for i, p := range a.Proofs {
		if intercept.Strength(p) == 0 {
			at(fmt.Sprintf("proof %q: must be one of %v", p, intercept.Strengths()), "proofs", i)
		}
	}
	several := len(cfg.Identity.Issuers) > 1
	for _, key := range []string{"user", "set_role"} {
		t := map[string]broker.Template{"user": a.User, "set_role": a.SetRole}[key]
		if err := t.Check(); err != nil {
			at(fmt.Sprintf("%s: %v", key, err), key)
		}
		if several && (t.Place() == "{principal}" && len(a.PrincipalIssuers) != 1 || t.Place() == "{actor}" && len(a.Issuers) != 1) {
			at(fmt.Sprintf("%s: %s is somebody else's with each issuer: say whose in issuers or principal_issuers", key, t.Place()), key)
		}
	}
	if a.Auth != "" && !slices.Contains(Auths, a.Auth) {
		at(fmt.Sprintf("auth %q: must be one of %v", a.Auth, Auths), "auth")
	}
	ways := 0
	for _, given := range []bool{a.PasswordFile != "", a.Vault != nil, a.RDS != nil, a.Certificate != nil, a.SVID} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		at("one of password_file, vault, rds, certificate and svid must prove the account")
	}
	if (a.User == "") != (a.Vault != nil) {
		at("user: required, but not with vault, which gives it", "user")
	}
	if v := a.Vault; v != nil && !vaultPath.MatchString(v.Path) {
		at(fmt.Sprintf("path %q: must be MOUNT/creds/ROLE or MOUNT/static-creds/ROLE", v.Path), "vault", "path")
	} else if v != nil && v.PerSession && strings.Contains(v.Path, "/static-creds/") {
		at("per_session: a static role has one account for all", "vault", "per_session")
	}
	if d := a.RDS; d != nil {
		if !region.MatchString(d.Region) {
			at(fmt.Sprintf("region %q: give AWS's name of it, like eu-central-1", d.Region), "rds", "region")
		}
		if h, p, err := net.SplitHostPort(d.Endpoint); err != nil || h == "" || !isNumber(p) {
			at("endpoint: give host:port as RDS names the database: the token is only good for that", "rds", "endpoint")
		}
		if d.CredentialsFile == "" {
			at("credentials_file: required", "rds", "credentials_file")
		}
	}
	if t := a.Certificate; t != nil && (t.Certificate == "" || t.Key == "") {
		at("certificate and key: both are required", "certificate")
	}
	if a.SVID && cfg.Identity.SPIFFE == nil {
		at("svid: this host asks no SPIFFE agent (identity.spiffe)", "svid")
	}
	inTLS := r.TLS.Server != Off
	if !inTLS && (a.RDS != nil || a.Certificate != nil || a.SVID || a.Auth == "password") {
		at("it is only used inside of TLS, and tls.server is off")
	}
	if (a.Certificate != nil || a.SVID) && (r.TLS.Certificate != "" || a.Auth != "") {
		at("certificate: tls.certificate and auth would have no effect beside an account's own certificate")
	}
}

func (c *checker) agents(r *Resource, at func(string, ...any)) {
	if r.Agents != nil && (len(r.Agents) == 0 || r.Login == LoginPass) {
		at("agents: list at least one, where login is broker; elsewhere the server asks", "agents")
	}
	seen := map[string]bool{}
	for k, a := range r.Agents {
		if a.User == "" || seen[a.User] {
			at(fmt.Sprintf("user %q: must be set and unique", a.User), "agents", k, "user")
		}
		seen[a.User] = true
		if a.Verifier == "" {
			at("verifier: required, as PostgreSQL keeps it (pg_authid.rolpassword)", "agents", k)
		}
	}
}

func (c *checker) vault(v *Vault, used bool) {
	if v == nil {
		if used {
			c.bad("vault: an account comes from it: say where it is", "vault")
		}
		return
	}
	u, err := url.Parse(v.Address)
	if err != nil || u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.Scheme != "https" && !(u.Scheme == "http" && loopback.Host(u.Hostname())) {
		c.bad(fmt.Sprintf("address %q: must be an https URL without a path (http only on loopback)", v.Address), "vault", "address")
	}
	if (v.TokenFile == "") == (v.AppRole == nil) {
		c.bad("one of token_file and approle must say who this host is", "vault")
	}
	if a := v.AppRole; a != nil {
		if a.RoleID == "" || a.SecretIDFile == "" {
			c.bad("approle: role_id and secret_id_file are required", "vault", "approle")
		}
		if !vaultMount.MatchString(a.Mount) {
			c.bad(fmt.Sprintf("mount %q: must be the method's path, like approle", a.Mount), "vault", "approle", "mount")
		}
	}
}
