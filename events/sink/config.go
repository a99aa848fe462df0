package sink

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/outbound"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/internal/lined"
	"sallyport.dev/sallyport/internal/loopback"
)

// Settings of sallyport-recorder sink: docs/siem.md documents each field.
type Settings struct {
	NATS    string        `yaml:"nats"`     // address; default nats://127.0.0.1:4222
	NKey    string        `yaml:"nkey"`     // nkey seed or .creds file
	NATSTLS jetstream.TLS `yaml:"nats_tls"` // towards NATS
	State   string        `yaml:"state"`    // folder of refused events
	Metrics string        `yaml:"metrics"`  // loopback ip:port; "" for none
	Sinks   []Config      `yaml:"sinks"`
}

// Config is one sink; exactly one of the targets is given.
type Config struct {
	Name       string    `yaml:"name"`
	Kinds      []string  `yaml:"kinds"`       // of events; none: all
	Since      time.Time `yaml:"since"`       // older events are passed over
	Batch      int       `yaml:"batch"`       // events sent at once; default 500
	BatchBytes int       `yaml:"batch_bytes"` // bytes of them; default 1 MiB

	File    *File    `yaml:"file"`
	Syslog  *Syslog  `yaml:"syslog"`
	Webhook *Webhook `yaml:"webhook"`
	HEC     *HEC     `yaml:"splunk"`
	Elastic *Elastic `yaml:"elasticsearch"`
}

// Load reads and checks a file. Errors name file, line and remedy; there may be
// several, joined. Relative paths are relative to the file.
func Load(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return Parse(text, path)
}

// Parse is Load of a file's text.
func Parse(text []byte, path string) (*Settings, error) {
	s := &Settings{}
	f, err := lined.Decode(text, path, s)
	if err != nil {
		return nil, err
	}
	c := &check{f}
	c.settings(s)
	return s, f.Err()
}

type check struct{ *lined.File }

// ValidName is what a sink's name may be: it becomes part of a consumer's.
var ValidName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$`)

func (c *check) settings(s *Settings) {
	def(&s.NATS, "nats://127.0.0.1:4222")
	c.Resolve(&s.NKey)
	s.NATSTLS.CheckIn(c.File, s.NATS)
	c.Resolve(&s.State)
	if s.State == "" {
		c.Bad("state: required: the folder where events are written that a target refuses", "state")
	}
	if h, _, err := net.SplitHostPort(s.Metrics); s.Metrics != "" && (err != nil || !loopback.Host(h)) {
		c.Bad(fmt.Sprintf("metrics %q: must be a loopback ip:port", s.Metrics), "metrics")
	}
	if len(s.Sinks) == 0 {
		c.Bad("sinks: name at least one", "sinks")
	}
	names, files := map[string]bool{}, map[string]string{}
	for i := range s.Sinks {
		k := &s.Sinks[i]
		if !ValidName.MatchString(k.Name) || names[k.Name] {
			c.Bad(fmt.Sprintf("name %q: must be unique, of letters, digits, - and _, 32 at most", k.Name), "sinks", i, "name")
		}
		names[k.Name] = true
		c.sink(k, i)
		if k.File == nil || k.File.Path == "" {
			continue
		}
		path := resolved(k.File.Path)
		if other := files[path]; other != "" {
			c.Bad(fmt.Sprintf("path: sink %q writes it already", other), "sinks", i, "file", "path")
		}
		if s.State != "" && filepath.Dir(path) == resolved(s.State) && strings.HasSuffix(path, rejectedEnd) {
			c.Bad("path: events are written there that a target refuses", "sinks", i, "file", "path")
		}
		files[path] = k.Name
	}
}

func (c *check) sink(k *Config, i int) {
	for n, kind := range k.Kinds {
		if !isKind(kind) {
			c.Bad(fmt.Sprintf("kind %q: there is none of that name", kind), "sinks", i, "kinds", n)
		}
	}
	def(&k.Batch, 500)
	def(&k.BatchBytes, 1<<20)
	if k.Batch < 1 || k.Batch > 10000 {
		c.Bad("batch: must be between 1 and 10000", "sinks", i, "batch")
	}
	if k.BatchBytes < 1<<10 || k.BatchBytes > 64<<20 {
		c.Bad("batch_bytes: must be between 1 KiB and 64 MiB", "sinks", i, "batch_bytes")
	}
	n := 0
	if k.File != nil {
		n++
		c.file(k.File, i)
	}
	if k.Syslog != nil {
		n++
		c.syslog(k.Syslog, i)
	}
	if w := k.Webhook; w != nil {
		n++
		c.url(w.URL, i, "webhook")
		c.need(&w.SecretFile, i, "webhook", "secret_file")
		c.optional(&w.CA, i, "webhook", "ca")
	}
	if h := k.HEC; h != nil {
		n++
		c.url(h.URL, i, "splunk")
		c.need(&h.TokenFile, i, "splunk", "token_file")
		c.optional(&h.CA, i, "splunk", "ca")
	}
	if e := k.Elastic; e != nil {
		n++
		c.url(e.URL, i, "elasticsearch")
		if (e.User == "") != (e.PasswordFile == "") || e.User != "" && e.APIKeyFile != "" {
			c.Bad("give user and password_file, or api_key_file, or none of them", "sinks", i, "elasticsearch")
		}
		c.optional(&e.APIKeyFile, i, "elasticsearch", "api_key_file")
		c.optional(&e.PasswordFile, i, "elasticsearch", "password_file")
		c.optional(&e.CA, i, "elasticsearch", "ca")
	}
	if n != 1 {
		c.Bad(fmt.Sprintf("sink %q: give exactly one of file, syslog, webhook, splunk, elasticsearch", k.Name), "sinks", i)
	}
}

func (c *check) file(f *File, i int) {
	def(&f.MaxBytes, 256<<20)
	def(&f.Format, "ocsf")
	c.Resolve(&f.Path)
	if f.Path == "" {
		c.Bad("path: required", "sinks", i, "file", "path")
	}
	if f.MaxBytes < 64<<10 {
		c.Bad("max_bytes: must be at least 64 KiB", "sinks", i, "file", "max_bytes")
	}
	if f.Keep < 0 {
		c.Bad("keep: must be 0 (all), or how many", "sinks", i, "file", "keep")
	}
	c.oneOf(f.Format, []string{"ocsf", "cloudevents", "ecs"}, i, "file", "format")
}

func (c *check) syslog(s *Syslog, i int) {
	def(&s.Transport, "tls")
	def(&s.Format, "cef")
	def(&s.Facility, 13)
	def(&s.MaxBytes, 8192)
	if s.Transport == "udp" && s.MaxBytes == 8192 {
		s.MaxBytes = 2048
	}
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" || port == "" {
		c.Bad(fmt.Sprintf("address %q: must be host:port, such as siem.example.org:6514", s.Address), "sinks", i, "syslog", "address")
	}
	if (s.Transport == "tcp" || s.Transport == "udp") && !loopback.Host(host) && !s.Insecure {
		c.Bad(s.Transport+" is in clear, and for loopback only: use transport: tls, or say insecure: true", "sinks", i, "syslog", "transport")
	}
	c.oneOf(s.Transport, []string{"tls", "tcp", "udp"}, i, "syslog", "transport")
	c.oneOf(s.Format, []string{"cef", "json"}, i, "syslog", "format")
	if s.Facility < 1 || s.Facility > 23 {
		c.Bad("facility: must be between 1 and 23", "sinks", i, "syslog", "facility")
	}
	if s.MaxBytes < 480 || s.MaxBytes > 1<<20 || s.Transport == "udp" && s.MaxBytes > 65000 {
		c.Bad("max_bytes: must be between 480 and 1 MiB, over UDP 65000", "sinks", i, "syslog", "max_bytes")
	}
	if (s.Cert == "") != (s.Key == "") {
		c.Bad("cert and key go together", "sinks", i, "syslog")
	}
	if s.Transport != "tls" && (s.CA != "" || s.Cert != "") {
		c.Bad("ca, cert and key are for transport: tls", "sinks", i, "syslog", "transport")
	}
	for _, f := range []struct {
		p    *string
		name string
	}{{&s.CA, "ca"}, {&s.Cert, "cert"}, {&s.Key, "key"}} {
		c.optional(f.p, i, "syslog", f.name)
	}
}

func (c *check) url(u string, i int, target string) {
	if err := outbound.CheckURL(u); err != nil {
		c.Bad(err.Error(), "sinks", i, target, "url")
	}
}

func (c *check) need(p *string, i int, target, field string) {
	if *p == "" {
		c.Bad(field+": required", "sinks", i, target, field)
	}
	c.optional(p, i, target, field)
}

// optional resolves a file's name, and refuses one that can't be read.
func (c *check) optional(p *string, i int, target, field string) {
	if *p == "" {
		return
	}
	c.Resolve(p)
	if err := outbound.CheckFile(*p); err != nil {
		c.Bad(field+": "+err.Error(), "sinks", i, target, field)
	}
}

func (c *check) oneOf(v string, of []string, i int, target, field string) {
	if !slices.Contains(of, v) {
		c.Bad(fmt.Sprintf("%s %q: must be one of %s", field, v, strings.Join(of, ", ")), "sinks", i, target, field)
	}
}

// resolved is the path without links, as far as there is something at it.
func resolved(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

func def[T comparable](p *T, v T) {
	if *p == *new(T) {
		*p = v
	}
}

func isKind(s string) bool {
	for k := events.Kind(1); k.String() != ""; k++ {
		if k.String() == s {
			return true
		}
	}
	return false
}

// Open opens the target of a checked Config.
func Open(k *Config) (t Target, err error) {
	switch {
	case k.File != nil:
		t, err = newFile(*k.File)
	case k.Syslog != nil:
		t, err = newSyslog(*k.Syslog)
	case k.Webhook != nil:
		t, err = newWebhook(*k.Webhook)
	case k.HEC != nil:
		t, err = newHEC(*k.HEC)
	case k.Elastic != nil:
		t, err = newElastic(*k.Elastic)
	default:
		return nil, fmt.Errorf("sink %s: no target", k.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", k.Name, err)
	}
	return t, nil
}
