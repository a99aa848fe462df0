package notify

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/internal/outbound"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/internal/lined"
	"sallyport.dev/sallyport/internal/loopback"
)

// Settings of sallyport-recorder notify: docs/notify.md documents each field.
type Settings struct {
	NATS     string            `yaml:"nats"`     // address; default nats://127.0.0.1:4222
	NKey     string            `yaml:"nkey"`     // nkey seed or .creds file
	NATSTLS  jetstream.TLS     `yaml:"nats_tls"` // towards NATS
	State    string            `yaml:"state"`    // folder of what is to be told, and was
	Metrics  string            `yaml:"metrics"`  // loopback ip:port; "" for none
	Page     string            `yaml:"page"`     // where the pages of requests are: https://recorder.example.org
	Listen   string            `yaml:"listen"`   // loopback ip:port that takes callbacks; "" for none
	Channels []ChannelConfig   `yaml:"channels"`
	People   map[string]Person `yaml:"people"`
	OnCall   map[string]OnCall `yaml:"on_call"`
	Routes   []Route           `yaml:"routes"`
	// BreakGlass is who is told of emergency access, at once. Default: all whom the
	// routes for its resource and host name, or every channel.
	BreakGlass *Step `yaml:"break_glass"`
}

// ChannelConfig is one channel; exactly one of the ways is given.
type ChannelConfig struct {
	Name string `yaml:"name"`
	// PerMinute bounds the messages; more requests are told of in one. Default 20,
	// of a webhook 600.
	PerMinute int      `yaml:"per_minute"`
	Webhook   *Webhook `yaml:"webhook"`
	Slack     *Slack   `yaml:"slack"`
	Teams     *Teams   `yaml:"teams"`
}

// Person is somebody whom a message may mention.
type Person struct {
	Slack string `yaml:"slack"` // member ID: U... or W...
	Teams string `yaml:"teams"` // user principal name, or object ID
}

// Route says who is told of which requests: the first that fits counts.
type Route struct {
	// Patterns, in which * is any text; none: all. One of each must fit.
	Rules     []string `yaml:"rules"`
	Resources []string `yaml:"resources"`
	Hosts     []string `yaml:"hosts"`
	Steps     []Step   `yaml:"steps"`
}

// Step is one list of a Route. It is told when nobody has decided for so long.
type Step struct {
	After  time.Duration `yaml:"after"`   // since the request; of the first 0
	Tell   []string      `yaml:"tell"`    // channels
	People []string      `yaml:"people"`  // who is mentioned
	OnCall []string      `yaml:"on_call"` // so is whoever it is then
}

// Load reads and checks a file. Errors name file, line and remedy; there may be
// several, joined. Relative paths are relative to the file.
func Load(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
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

// route returns the steps for a request, nil where no route fits.
func (s *Settings) route(r *Request) []Step {
	for i := range s.Routes {
		k := &s.Routes[i]
		if fits(k.Rules, r.Rule) && fits(k.Resources, r.Resource) && fits(k.Hosts, r.Host) {
			return k.Steps
		}
	}
	return nil
}

func fits(patterns []string, s string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return glob(p, s) })
}

// glob reports whether s fits a pattern, in which * is any text.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, last)
}

type check struct{ *lined.File }

var (
	validName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$`)
	validPerson  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,63}$`)
	slackMember  = regexp.MustCompile(`^[UW][A-Z0-9]{2,20}$`)
	slackChannel = regexp.MustCompile(`^[CGD][A-Z0-9]{2,20}$`)
	teamsUser    = regexp.MustCompile(`^[a-zA-Z0-9._%+-]{1,64}(@[a-zA-Z0-9.-]{1,190})?$`)
)

func (c *check) settings(s *Settings) {
	if s.NATS == "" {
		s.NATS = "nats://127.0.0.1:4222"
	}
	if err := jetstream.CheckURL(s.NATS); err != nil {
		c.Bad(fmt.Sprintf("nats: what waits is told there: %v", err), "nats")
	}
	c.Resolve(&s.NKey)
	s.NATSTLS.CheckIn(c.File, s.NATS)
	c.Resolve(&s.State)
	if s.State == "" {
		c.Bad("state: required: the folder of what is to be told, and was", "state")
	}
	for name, addr := range map[string]string{"metrics": s.Metrics, "listen": s.Listen} {
		if h, _, err := net.SplitHostPort(addr); addr != "" && (err != nil || !loopback.Host(h)) {
			c.Bad(fmt.Sprintf("%s %q: must be a loopback ip:port (a proxy with TLS stands before it)", name, addr), name)
		}
	}
	s.Page = strings.TrimRight(s.Page, "/")
	switch u, err := url.Parse(s.Page); {
	case err != nil || outbound.CheckURL(s.Page) != nil || u.RawQuery != "" || u.Fragment != "":
		c.Bad(fmt.Sprintf("page %q: must be the address of the approval pages, like https://recorder.example.org", s.Page), "page")
	}
	if len(s.Channels) == 0 {
		c.Bad("channels: name at least one", "channels")
	}
	channels := map[string]bool{}
	for i := range s.Channels {
		k := &s.Channels[i]
		if !validName.MatchString(k.Name) || channels[k.Name] {
			c.Bad(fmt.Sprintf("name %q: must be unique, of letters, digits and -, 32 at most", k.Name), "channels", i, "name")
		}
		channels[k.Name] = true
		c.channel(k, i)
	}
	for name, p := range s.People {
		if !validPerson.MatchString(name) {
			c.Bad(fmt.Sprintf("%q: a person's name has letters, digits, '.' and '-'", name), "people", name)
		}
		if p.Slack != "" && !slackMember.MatchString(p.Slack) {
			c.Bad(fmt.Sprintf("slack %q: must be a member ID, like U012AB3CD", p.Slack), "people", name, "slack")
		}
		if p.Teams != "" && !teamsUser.MatchString(p.Teams) {
			c.Bad(fmt.Sprintf("teams %q: must be a user principal name, like alice@example.org", p.Teams), "people", name, "teams")
		}
	}
	c.onCall(s)
	if len(s.Routes) == 0 {
		c.Bad("routes: name at least one, or nobody is told", "routes")
	}
	for i := range s.Routes {
		c.steps(s, channels, i)
	}
	if p := s.BreakGlass; p != nil {
		if p.After != 0 {
			c.Bad("after: of emergency access people are told at once", "break_glass", "after")
		}
		c.told(s, channels, p, func(more ...any) []any { return append([]any{"break_glass"}, more...) })
	}
}

func (c *check) channel(k *ChannelConfig, i int) {
	at := func(more ...any) []any { return append([]any{"channels", i}, more...) }
	n := 0
	if w := k.Webhook; w != nil {
		n++
		c.each(w.SecretFiles, 1, at("webhook", "secret_files"))
		if err := outbound.CheckURL(w.URL); err != nil {
			c.Bad(err.Error(), at("webhook", "url")...)
		}
		c.file(&w.CA, at("webhook", "ca"))
		if k.PerMinute == 0 {
			k.PerMinute = 600
		}
	}
	if s := k.Slack; s != nil {
		n++
		if (s.TokenFile == "") == (s.WebhookFile == "") {
			c.Bad("give token_file and channel, or webhook_file", at("slack")...)
		}
		if s.TokenFile != "" && !slackChannel.MatchString(s.Channel) {
			c.Bad(fmt.Sprintf("channel %q: must be a channel's ID, like C012AB3CD", s.Channel), at("slack", "channel")...)
		}
		if s.API == "" {
			s.API = "https://slack.com/api"
		}
		s.API = strings.TrimRight(s.API, "/")
		if err := outbound.CheckURL(s.API); err != nil {
			c.Bad("api: "+err.Error(), at("slack", "api")...)
		}
		c.file(&s.TokenFile, at("slack", "token_file"))
		c.file(&s.WebhookFile, at("slack", "webhook_file"))
		c.each(s.SigningSecretFiles, 0, at("slack", "signing_secret_files"))
		c.file(&s.CA, at("slack", "ca"))
	}
	if t := k.Teams; t != nil {
		n++
		if t.WebhookFile == "" {
			c.Bad("webhook_file: required", at("teams", "webhook_file")...)
		}
		c.file(&t.WebhookFile, at("teams", "webhook_file"))
		c.file(&t.CA, at("teams", "ca"))
	}
	if n != 1 {
		c.Bad(fmt.Sprintf("channel %q: give exactly one of webhook, slack, teams", k.Name), at()...)
	}
	if k.PerMinute == 0 {
		k.PerMinute = 20
	}
	if k.PerMinute < 2 || k.PerMinute > 6000 {
		c.Bad("per_minute: must be between 2 and 6000", at("per_minute")...)
	}
}

// file resolves a file's name, and refuses one that can't be read.
func (c *check) file(p *string, at []any) {
	if *p == "" {
		return
	}
	c.Resolve(p)
	if err := outbound.CheckFile(*p); err != nil {
		c.Bad(fmt.Sprintf("%v: %v", at[len(at)-1], err), at...)
	}
}

// each is file for a list of least to two.
func (c *check) each(files []string, least int, at []any) {
	if len(files) < least || len(files) > 2 {
		c.Bad(fmt.Sprintf("%v: name one file, or two while a secret is changed", at[len(at)-1]), at...)
	}
	for n := range files {
		c.file(&files[n], append(slices.Clone(at), n))
	}
}

func (c *check) steps(s *Settings, channels map[string]bool, i int) {
	r := &s.Routes[i]
	if len(r.Steps) == 0 || len(r.Steps) > 10 {
		c.Bad("steps: name one to ten", "routes", i, "steps")
	}
	for n, p := range r.Steps {
		at := func(more ...any) []any { return append([]any{"routes", i, "steps", n}, more...) }
		switch {
		case n == 0 && p.After != 0:
			c.Bad("after: the first step is told at once", at("after")...)
		case n > 0 && (p.After <= r.Steps[n-1].After || p.After >= mostWait):
			c.Bad("after: must be more than of the step before, and less than a week", at("after")...)
		}
		c.told(s, channels, &p, at)
	}
}

// told checks whom a step names.
func (c *check) told(s *Settings, channels map[string]bool, p *Step, at func(more ...any) []any) {
	if len(p.Tell) == 0 {
		c.Bad("tell: name a channel", at("tell")...)
	}
	for m, name := range p.Tell {
		if !channels[name] {
			c.Bad(fmt.Sprintf("channel %q: there is none of that name", name), at("tell", m)...)
		}
	}
	for m, name := range p.People {
		if _, ok := s.People[name]; !ok {
			c.Bad(fmt.Sprintf("%q: people has none of that name", name), at("people", m)...)
		}
	}
	for m, name := range p.OnCall {
		if _, ok := s.OnCall[name]; !ok {
			c.Bad(fmt.Sprintf("%q: on_call has none of that name", name), at("on_call", m)...)
		}
	}
}
