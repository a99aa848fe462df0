// Package config reads sallyport.yaml: strictly, as a whole, and with the line
// of what is wrong. docs/operations.md documents each field;
// docs/sallyport.example.yaml shows them all.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/intercept/workload"
)

// Config is one host's sallyport.yaml, defaults filled in and checked.
type Config struct {
	Host    string `yaml:"host"`    // name in events and subjects; default: the hostname
	State   string `yaml:"state"`   // journal, NATS store, keys
	Run     string `yaml:"run"`     // control socket
	User    string `yaml:"user"`    // unprivileged account of the daemon: a name, or uid:gid
	Metrics string `yaml:"metrics"` // loopback address of the Prometheus listener, "" for none
	Policy  string `yaml:"policy"`  // file or folder, relative to this file
	Log     Log    `yaml:"log"`

	// Enforcement is Enforce (the default) or Observe: of the whole host.
	Enforcement string `yaml:"enforcement"`

	Interception Interception `yaml:"interception"`
	Resources    []Resource   `yaml:"resources"`
	Identity     Identity     `yaml:"identity"`
	Authority    Authority    `yaml:"authority"`
	Evidence     Evidence     `yaml:"evidence"`
	Masking      Masking      `yaml:"masking"`
	Limits       Limits       `yaml:"limits"`
	Approvals    Approvals    `yaml:"approvals"`
	Vault        *Vault       `yaml:"vault"` // that accounts come from

	Path string `yaml:"-"` // of the file itself
	Text []byte `yaml:"-"` // what stands in it

	doc yaml.Node // for line numbers
}

// Log configures the daemon's own log, which never holds data values.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// Interception says whose connections are turned.
type Interception struct {
	Mode    string   `yaml:"mode"`                 // "host" (default) or "cgroup"
	Cgroups []string `yaml:"cgroups"`              // covered, in cgroup mode; below the cgroup2 root
	Exempt  []Exempt `yaml:"exempt"`               // not covered, in host mode
	Unix    []string `yaml:"unix_allow,omitempty"` // the only other unix sockets that covered processes may connect to; nil: all
	Port    uint16   `yaml:"port"`                 // the passage's port on loopback
	Pins    string   `yaml:"pins"`                 // folder on bpffs

	Workloads []workload.Selector `yaml:"workloads"` // covered, in cgroup mode

	// OldAddresses is how long an address stays protected that a name does not
	// lead to any more.
	OldAddresses time.Duration `yaml:"old_addresses"`

	// Forwarders are local processes that carry the connections of others.
	Forwarders []Forwarder `yaml:"forwarders"`
}

// Resource is one protected service.
type Resource struct {
	Name      string            `yaml:"name"`
	Protocol  string            `yaml:"protocol"`
	Addresses []Address         `yaml:"addresses"` // as agents dial it
	Unix      []string          `yaml:"unix"`      // paths of its unix sockets
	Labels    map[string]string `yaml:"labels"`
	Catalog   *Catalog          `yaml:"catalog"`
	TLS       TLS               `yaml:"tls"`
	Login     string            `yaml:"login"`    // LoginPass (the default where no accounts are listed) or LoginBroker
	Accounts  []Account         `yaml:"accounts"` // at its server, first to last
	// Durability is what a statement's record must survive before it is answered
	// or does something: "fsync", the machine, or "write", the process. Default:
	// as Journal.Sync.
	Durability string  `yaml:"durability"`
	Agents     []Agent `yaml:"agents,omitempty"` // whose passwords clients must know; nil: none is asked for
}

// Catalog is the side connection that reads a database's catalog.
type Catalog struct {
	Address      netip.AddrPort `yaml:"address"` // of the server; default: the first single one that agents dial
	User         string         `yaml:"user"`
	PasswordFile string         `yaml:"password_file"` // "" where the server asks for none
	Refresh      time.Duration  `yaml:"refresh"`       // polling for foreign DDL
}

// Identity says which tokens are believed, from whom.
type Identity struct {
	Issuers   []Issuer   `yaml:"issuers"`
	Workloads []Workload `yaml:"workloads"`
	SPIFFE    *SPIFFE    `yaml:"spiffe"` // nil: no agent is asked
	SAML      []SAML     `yaml:"saml"`   // that people log in at
	// Recheck is how often the identities of running sessions are proved again.
	Recheck time.Duration `yaml:"recheck"`
	// ExpiredGrace is how long a session in which nothing is under way may wait
	// for a new token after its own expired; its requests are refused meanwhile.
	ExpiredGrace time.Duration `yaml:"expired_grace"`
}

// Issuer is an OpenID Connect issuer.
type Issuer struct {
	URL        string        `yaml:"url"`
	Audience   string        `yaml:"audience"`      // that a token must carry
	Algorithms []string      `yaml:"algorithms"`    // signature algorithms; default RS256, ES256
	Skew       time.Duration `yaml:"skew"`          // accepted clock skew
	Parties    []string      `yaml:"azp,omitempty"` // to whom its tokens may be issued; default: anybody
	MaxAge     time.Duration `yaml:"max_age"`       // of a token since it was issued; default: as it says itself
	// OfflineGrace is how long its keys are believed while it does not answer.
	OfflineGrace time.Duration `yaml:"offline_grace"`
	OneTime      bool          `yaml:"one_time"` // each of its tokens opens one connection
	Exchange     *Exchange     `yaml:"exchange"`
}

// Exchange has an issuer's tokens exchanged there before they count.
type Exchange struct {
	Client     string `yaml:"client"`      // sallyport's at the issuer
	SecretFile string `yaml:"secret_file"` // its secret
	Audience   string `yaml:"audience"`    // of the token that is asked for
	Scope      string `yaml:"scope"`       // default: the issuer's
}

// Workload is who a process is taken for, and what it may present.
type Workload struct {
	Name     string   `yaml:"name"`
	Match    Match    `yaml:"match"`
	Token    string   `yaml:"token_file"` // template: {pid}, {uid}; "" where exec gives it
	Issuer   string   `yaml:"issuer"`     // default: any configured
	Subjects []string `yaml:"subjects"`   // that it may present
	SPIFFE   string   `yaml:"spiffe"`     // ID that the agent must give its processes; "" where that is not asked

	// InBand is where its client sends its token: InBandPassword, "" for nowhere.
	InBand string `yaml:"in_band"`

	// SpeaksFor lets it say for whom each of its requests is: it serves many people.
	SpeaksFor bool `yaml:"speaks_for"`
}

// InBandPassword is the password field of the protocol.
const InBandPassword = "password"

// Match selects processes; all given parts must hold.
type Match struct {
	Cgroup string  `yaml:"cgroup"` // glob over the path below the cgroup2 root; ** crosses slashes
	UID    *uint32 `yaml:"uid"`
	Exe    string  `yaml:"exe"` // path

	// What its cgroup is; see workload.Selector.
	Systemd    string               `yaml:"systemd"`
	Container  *workload.Container  `yaml:"container"`
	Kubernetes *workload.Kubernetes `yaml:"kubernetes"`
}

// Evidence configures the record.
type Evidence struct {
	Journal  Journal `yaml:"journal"`
	NATS     NATS    `yaml:"nats"`
	Recorder string  `yaml:"recorder_key"` // public key file that receipts are checked with; "" keeps everything
	// Heartbeat is how often it is put on the record that this host is at work.
	Heartbeat time.Duration `yaml:"heartbeat"`

	SubjectKeyFile string `yaml:"subject_key_file"` // of the key that subjects are named by; "": a policy may name none

	Transcripts Transcripts `yaml:"transcripts"`
}

// Transcripts says for whom they are encrypted on this host.
type Transcripts struct {
	RecipientsFile string `yaml:"recipients_file"` // who can read them, as the recorder's; "": the host records them in clear
}

// SubjectKey is the file of the key that subjects are named by, nil where there is none.
func (c *Config) SubjectKey() *SecretFile {
	if c.Evidence.SubjectKeyFile == "" {
		return nil
	}
	return &SecretFile{c.Evidence.SubjectKeyFile, c.At("evidence", "subject_key_file")}
}

// Journal is the local durable log.
type Journal struct {
	MaxBytes     int64  `yaml:"max_bytes"`     // full at this size
	SegmentBytes int64  `yaml:"segment_bytes"` // size of a file
	Sync         string `yaml:"sync"`          // "fsync" (default) or "write"
}

// Masking says what keyed masks are made with.
type Masking struct {
	KeyFile string `yaml:"key_file"` // "": a policy may have no keyed mask
}

// MaskingKey is the file of the key, nil where there is none.
func (c *Config) MaskingKey() *SecretFile {
	if c.Masking.KeyFile == "" {
		return nil
	}
	return &SecretFile{c.Masking.KeyFile, c.At("masking", "key_file")}
}

// Limits bound what agents can take of the daemon.
type Limits struct {
	Sessions    int           `yaml:"sessions"`              // open at once, of all resources
	PerWorkload int           `yaml:"sessions_per_workload"` // of one workload
	Drain       time.Duration `yaml:"drain"`                 // for sessions to end when the daemon stops
	Handover    time.Duration `yaml:"handover"`              // for sessions to end when another sallyport takes over
}

// NATS says where events are published.
type NATS struct {
	URL         string `yaml:"url"`         // of the user's NATS; "" embeds a server
	Credentials string `yaml:"credentials"` // nkey seed or .creds file for URL
	Listen      string `yaml:"listen"`      // loopback address of the embedded server

	TLS jetstream.TLS `yaml:"tls"` // towards URL

	Replicas int  `yaml:"replicas"` // that the stream at URL has at least; 0: 3 in a cluster
	Weaker   bool `yaml:"weaker"`   // the stream at URL may have weaker settings than evidence asks for

	Sinks []string `yaml:"sinks,omitempty"` // that sallyport-recorder sink may read for
	// Approvals: approvals may be asked about and decided over NATS.
	Approvals bool `yaml:"approvals"`
}

var name = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)

// Load reads and checks a file. Errors name file, line and remedy; there may
// be several, joined.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (write one from docs/sallyport.example.yaml, or name it with --config)", err)
	}
	return Parse(b, path)
}

// Parse is Load from memory; path is for messages and relative names.
func Parse(b []byte, path string) (*Config, error) {
	c := &Config{Path: path, Text: b}
	if err := yaml.Unmarshal(b, &c.doc); err != nil {
		return nil, located(path, err)
	}
	ck := checker{path: path, doc: &c.doc}
	// The decoder does not tell the line of an address that it can't read.
	if ck.addresses(); ck.errs != nil {
		return nil, errors.Join(ck.errs...)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, located(path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: a second document: one configuration is one YAML document", path)
	}
	if err := c.defaults(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ck.config(c)
	if ck.errs != nil {
		return nil, errors.Join(ck.errs...)
	}
	return c, nil
}

// At returns "file:line" of what the keys lead to, for errors that only show
// where the value is used. An int key is a list's index.
func (c *Config) At(keys ...any) string {
	ck := checker{path: c.Path, doc: &c.doc}
	return ck.at(keys...)
}

// located turns yaml's own "line N: ..." messages into file:line: ones.
func located(path string, err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return fmt.Errorf("%s:%s", path, strings.TrimPrefix(err.Error(), "yaml: line "))
	}
	var errs []error
	for _, m := range te.Errors {
		m = strings.TrimPrefix(m, "line ")
		m = regexp.MustCompile(`field (\S+) not found in type \S+`).ReplaceAllString(m, `unknown field "$1": remove or correct it (docs/operations.md lists the fields)`)
		errs = append(errs, fmt.Errorf("%s:%s", path, m))
	}
	return errors.Join(errs...)
}

func (c *Config) defaults() error {
	if c.Host == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("host: %w: set it", err)
		}
		c.Host, _, _ = strings.Cut(h, ".")
	}
	def(&c.State, "/var/lib/sallyport")
	def(&c.Run, "/run/sallyport")
	def(&c.User, "sallyport")
	def(&c.Policy, "policy.yaml")
	def(&c.Enforcement, Enforce)
	def(&c.Log.Level, "info")
	def(&c.Log.Format, "text")
	def(&c.Interception.Mode, "host")
	def(&c.Interception.Port, 15432)
	def(&c.Interception.Pins, "/sys/fs/bpf/sallyport")
	def(&c.Interception.OldAddresses, 24*time.Hour)
	c.Interception.forward()
	def(&c.Evidence.Journal.MaxBytes, 4<<30)
	def(&c.Evidence.Journal.SegmentBytes, 64<<20)
	def(&c.Evidence.Journal.Sync, "fsync")
	for i := range c.Resources {
		def(&c.Resources[i].Durability, c.Evidence.Journal.Sync)
	}
	def(&c.Evidence.NATS.Listen, "127.0.0.1:4222")
	def(&c.Evidence.Heartbeat, time.Minute)
	def(&c.Limits.Sessions, 10_000)
	def(&c.Limits.PerWorkload, max(c.Limits.Sessions/2, 1))
	def(&c.Limits.Drain, 30*time.Second)
	def(&c.Limits.Handover, 5*time.Second)
	for i := range c.Identity.Issuers {
		is := &c.Identity.Issuers[i]
		if len(is.Algorithms) == 0 {
			is.Algorithms = []string{"RS256", "ES256"}
		}
		def(&is.Skew, 30*time.Second)
		def(&is.OfflineGrace, time.Hour)
	}
	files := append(c.Identity.saml(), c.Approvals.defaults()...)
	def(&c.Identity.Recheck, 30*time.Second)
	def(&c.Identity.ExpiredGrace, 5*time.Minute)
	for i := range c.Resources {
		if cat := c.Resources[i].Catalog; cat != nil {
			def(&cat.Refresh, 2*time.Second)
			def(&cat.Address, c.Resources[i].single())
		}
	}
	c.broker()
	files = append(files, &c.Policy, &c.Evidence.Recorder, &c.Evidence.NATS.Credentials, &c.Evidence.Transcripts.RecipientsFile)
	for i := range c.Resources {
		files = append(files, c.Resources[i].TLS.files()...)
		if cat := c.Resources[i].Catalog; cat != nil {
			files = append(files, &cat.PasswordFile)
		}
	}
	for i := range c.Identity.Issuers {
		if x := c.Identity.Issuers[i].Exchange; x != nil {
			files = append(files, &x.SecretFile)
		}
	}
	for _, f := range files {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(filepath.Dir(c.Path), *f)
		}
	}
	return nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
