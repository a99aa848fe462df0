package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
)

// Settings of sallyport-recorder sink: docs/siem.md documents each field.
type Settings struct {
	NATS    string   `yaml:"nats"`    // address; default nats://127.0.0.1:4222
	NKey    string   `yaml:"nkey"`    // nkey seed or .creds file
	State   string   `yaml:"state"`   // folder of refused events
	Metrics string   `yaml:"metrics"` // loopback ip:port; "" for none
	Sinks   []Config `yaml:"sinks"`
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
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(s); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s:1: the file is empty", path)
		}
		return nil, yamlError(path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one document", path)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, yamlError(path, err)
	}
	c := &check{path: path, doc: &doc, dir: filepath.Dir(path)}
	c.settings(s)
	return s, errors.Join(c.errs...)
}

var ofLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)`)

// yamlError puts file and line in front.
func yamlError(path string, err error) error {
	var lines []string
	var t *yaml.TypeError
	if errors.As(err, &t) {
		lines = t.Errors
	} else {
		lines = []string{err.Error()}
	}
	var errs []error
	for _, l := range lines {
		if m := ofLine.FindStringSubmatch(l); m != nil {
			errs = append(errs, fmt.Errorf("%s:%s: %s", path, m[1], m[2]))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", path, l))
		}
	}
	return errors.Join(errs...)
}

type check struct {
	path, dir string
	doc       *yaml.Node
	errs      []error
}

// bad notes what is wrong, with the line of the deepest part of at that is there.
func (c *check) bad(why string, at ...any) {
	n := c.doc
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	line := n.Line
	for _, p := range at {
		var next *yaml.Node
		switch p := p.(type) {
		case int:
			if n.Kind == yaml.SequenceNode && p < len(n.Content) {
				next = n.Content[p]
				line = next.Line
			}
		case string:
			for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == p {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	c.errs = append(c.errs, fmt.Errorf("%s:%d: %s", c.path, line, why))
}

// ValidName is what a sink's name may be: it becomes part of a consumer's.
var ValidName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$`)

func (c *check) settings(s *Settings) {
	def(&s.NATS, "nats://127.0.0.1:4222")
	c.resolve(&s.NKey)
	c.resolve(&s.State)
	if s.State == "" {
		c.bad("state: required: the folder where events are written that a target refuses", "state")
	}
	if h, _, err := net.SplitHostPort(s.Metrics); s.Metrics != "" && (err != nil || !isLoopback(h)) {
		c.bad(fmt.Sprintf("metrics %q: must be a loopback ip:port", s.Metrics), "metrics")
	}
	if len(s.Sinks) == 0 {
		c.bad("sinks: name at least one", "sinks")
	}
	names, files := map[string]bool{}, map[string]string{}
	for i := range s.Sinks {
		k := &s.Sinks[i]
		if !ValidName.MatchString(k.Name) || names[k.Name] {
			c.bad(fmt.Sprintf("name %q: must be unique, of letters, digits, - and _, 32 at most", k.Name), "sinks", i, "name")
		}
		names[k.Name] = true
		c.sink(k, i)
		if k.File == nil || k.File.Path == "" {
			continue
		}
		path := resolved(k.File.Path)
		if other := files[path]; other != "" {
			c.bad(fmt.Sprintf("path: sink %q writes it already", other), "sinks", i, "file", "path")
		}
		if s.State != "" && filepath.Dir(path) == resolved(s.State) && strings.HasSuffix(path, rejectedEnd) {
			c.bad("path: events are written there that a target refuses", "sinks", i, "file", "path")
		}
		files[path] = k.Name
	}
}

func (c *check) sink(k *Config, i int) {
	for n, kind := range k.Kinds {
		if !isKind(kind) {
			c.bad(fmt.Sprintf("kind %q: there is none of that name", kind), "sinks", i, "kinds", n)
		}
	}
	def(&k.Batch, 500)
	def(&k.BatchBytes, 1<<20)
	if k.Batch < 1 || k.Batch > 10000 {
		c.bad("batch: must be between 1 and 10000", "sinks", i, "batch")
	}
	if k.BatchBytes < 1<<10 || k.BatchBytes > 64<<20 {
		c.bad("batch_bytes: must be between 1 KiB and 64 MiB", "sinks", i, "batch_bytes")
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
			c.bad("give user and password_file, or api_key_file, or none of them", "sinks", i, "elasticsearch")
		}
		c.optional(&e.APIKeyFile, i, "elasticsearch", "api_key_file")
		c.optional(&e.PasswordFile, i, "elasticsearch", "password_file")
		c.optional(&e.CA, i, "elasticsearch", "ca")
	}
	if n != 1 {
		c.bad(fmt.Sprintf("sink %q: give exactly one of file, syslog, webhook, splunk, elasticsearch", k.Name), "sinks", i)
	}
}

func (c *check) file(f *File, i int) {
	def(&f.MaxBytes, 256<<20)
	def(&f.Format, "ocsf")
	c.resolve(&f.Path)
	if f.Path == "" {
		c.bad("path: required", "sinks", i, "file", "path")
	}
	if f.MaxBytes < 64<<10 {
		c.bad("max_bytes: must be at least 64 KiB", "sinks", i, "file", "max_bytes")
	}
	if f.Keep < 0 {
		c.bad("keep: must be 0 (all), or how many", "sinks", i, "file", "keep")
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
		c.bad(fmt.Sprintf("address %q: must be host:port, such as siem.example.org:6514", s.Address), "sinks", i, "syslog", "address")
	}
	if (s.Transport == "tcp" || s.Transport == "udp") && !isLoopback(host) && !s.Insecure {
		c.bad(s.Transport+" is in clear, and for loopback only: use transport: tls, or say insecure: true", "sinks", i, "syslog", "transport")
	}
	c.oneOf(s.Transport, []string{"tls", "tcp", "udp"}, i, "syslog", "transport")
	c.oneOf(s.Format, []string{"cef", "json"}, i, "syslog", "format")
	if s.Facility < 1 || s.Facility > 23 {
		c.bad("facility: must be between 1 and 23", "sinks", i, "syslog", "facility")
	}
	if s.MaxBytes < 480 || s.MaxBytes > 1<<20 || s.Transport == "udp" && s.MaxBytes > 65000 {
		c.bad("max_bytes: must be between 480 and 1 MiB, over UDP 65000", "sinks", i, "syslog", "max_bytes")
	}
	if (s.Cert == "") != (s.Key == "") {
		c.bad("cert and key go together", "sinks", i, "syslog")
	}
	if s.Transport != "tls" && (s.CA != "" || s.Cert != "") {
		c.bad("ca, cert and key are for transport: tls", "sinks", i, "syslog", "transport")
	}
	for _, f := range []struct {
		p    *string
		name string
	}{{&s.CA, "ca"}, {&s.Cert, "cert"}, {&s.Key, "key"}} {
		c.optional(f.p, i, "syslog", f.name)
	}
}

func (c *check) url(u string, i int, target string) {
	if err := checkURL(u); err != nil {
		c.bad(err.Error(), "sinks", i, target, "url")
	}
}

func (c *check) need(p *string, i int, target, field string) {
	if *p == "" {
		c.bad(field+": required", "sinks", i, target, field)
	}
	c.optional(p, i, target, field)
}

// optional resolves a file's name, and refuses one that can't be read.
func (c *check) optional(p *string, i int, target, field string) {
	if *p == "" {
		return
	}
	c.resolve(p)
	if err := checkFile(*p); err != nil {
		c.bad(field+": "+err.Error(), "sinks", i, target, field)
	}
}

func (c *check) oneOf(v string, of []string, i int, target, field string) {
	if !slices.Contains(of, v) {
		c.bad(fmt.Sprintf("%s %q: must be one of %s", field, v, strings.Join(of, ", ")), "sinks", i, target, field)
	}
}

func (c *check) resolve(p *string) {
	if *p != "" && !filepath.IsAbs(*p) {
		*p = filepath.Join(c.dir, *p)
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
