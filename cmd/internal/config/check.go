package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/internal/loopback"
)

// Protocols are the names that a resource's protocol may have; cmd fills it
// from protocols/all.
var Protocols = []string{"postgres"}

type checker struct {
	path string
	doc  *yaml.Node
	errs []error
}

// bad notes an error at the line of the node that the keys lead to, or of the
// deepest one on the way that the file holds. An int key is a list's index.
func (c *checker) bad(msg string, keys ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", c.at(keys...), msg))
}

// at returns "file:line".
func (c *checker) at(keys ...any) string {
	n := c.doc
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, k := range keys {
		next := child(n, k)
		if next == nil {
			break
		}
		n = next
	}
	return fmt.Sprintf("%s:%d", c.path, max(n.Line, 1))
}

func child(n *yaml.Node, key any) *yaml.Node {
	if i, ok := key.(int); ok {
		if n.Kind == yaml.SequenceNode && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

func (c *checker) config(cfg *Config) {
	if !name.MatchString(cfg.Host) {
		c.bad(fmt.Sprintf("host %q: use letters, digits, - and _ (it becomes part of NATS subjects)", cfg.Host), "host")
	}
	for _, d := range [][2]string{{"state", cfg.State}, {"run", cfg.Run}} {
		if !filepath.IsAbs(d[1]) {
			c.bad(fmt.Sprintf("%s %q: must be an absolute path", d[0], d[1]), d[0])
		}
	}
	if uid, gid, pair := strings.Cut(cfg.User, ":"); uid == "root" || isZero(uid) || pair && (!isNumber(uid) || !isNumber(gid) || isZero(gid)) {
		c.bad(fmt.Sprintf("user %q: must be an unprivileged account: its name, or uid:gid as numbers, neither of them 0", cfg.User), "user")
	}
	if cfg.Metrics != "" {
		c.loopback(cfg.Metrics, "metrics")
	}
	c.oneOf(cfg.Log.Level, []string{"debug", "info", "warn", "error"}, "log", "level")
	c.oneOf(cfg.Log.Format, []string{"text", "json"}, "log", "format")
	c.enforcement(cfg)
	c.forwarders(cfg)
	c.interception(&cfg.Interception)
	c.allowed(&cfg.Interception)
	c.workloads(&cfg.Interception, &cfg.Identity)
	c.resources(cfg.Resources, cfg.Interception.Port)
	c.identity(&cfg.Identity)
	c.accounts(cfg)
	c.spiffe(&cfg.Identity)
	c.saml(&cfg.Identity)
	c.authority(&cfg.Authority, cfg.Resources)
	c.oneOf(cfg.Evidence.Journal.Sync, []string{"fsync", "write"}, "evidence", "journal", "sync")
	for i, r := range cfg.Resources {
		if r.Durability == "fsync" && cfg.Evidence.Journal.Sync == "write" {
			c.bad("durability: fsync can't be had while evidence.journal.sync is write", "resources", i, "durability")
		}
	}
	if j := cfg.Evidence.Journal; j.SegmentBytes < 1<<20 || j.MaxBytes < 4*j.SegmentBytes {
		c.bad("journal: segment_bytes must be at least 1 MiB and max_bytes at least four segments", "evidence", "journal", "max_bytes")
	}
	if d := cfg.Evidence.Heartbeat; d < time.Second || d > time.Hour {
		c.bad(fmt.Sprintf("heartbeat %s: must be between 1s and 1h", d), "evidence", "heartbeat")
	}
	c.nats(&cfg.Evidence.NATS)
	c.limits(&cfg.Limits)
	c.approvals(&cfg.Approvals)
}

func (c *checker) nats(n *NATS) {
	for i, s := range n.Sinks {
		if !name.MatchString(s) || len(s) > 32 || slices.Contains(n.Sinks[:i], s) {
			c.bad(fmt.Sprintf("sink %q: must be unique, of letters, digits, - and _, 32 at most", s), "evidence", "nats", "sinks", i)
		}
	}
	if n.URL == "" {
		c.loopback(n.Listen, "evidence", "nats", "listen")
		if n.Credentials != "" {
			c.bad("credentials: they are for a NATS of your own (url); the embedded server makes its own", "evidence", "nats", "credentials")
		}
		if n.Replicas != 0 || n.Weaker {
			c.bad("replicas and weaker: they are for a NATS of your own (url)", "evidence", "nats")
		}
		if n.TLS != (jetstream.TLS{}) {
			c.bad("tls: it is for a NATS of your own (url); the embedded server is on loopback", "evidence", "nats", "tls")
		}
		return
	}
	n.TLS.Mistakes(n.URL, func(why string, at ...any) { c.bad(why, append([]any{"evidence", "nats", "tls"}, at...)...) })
	if n.Replicas < 0 || n.Replicas > 5 {
		c.bad(fmt.Sprintf("replicas %d: must be between 1 and 5, or left out", n.Replicas), "evidence", "nats", "replicas")
	}
	u, err := url.Parse(n.URL)
	if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		c.bad("url: must be one URL like nats://host:4222 or tls://host:4222", "evidence", "nats", "url")
	} else if u.User != nil {
		c.bad("url: a password does not belong here: name a file in credentials", "evidence", "nats", "url")
	} else if n.Approvals {
		if err := jetstream.CheckURL(n.URL); err != nil {
			c.bad(fmt.Sprintf("url: with approvals statements and tokens go there: %v", err), "evidence", "nats", "url")
		}
	}
}

func (c *checker) limits(l *Limits) {
	if l.Sessions < 1 || l.PerWorkload < 1 || l.PerWorkload > l.Sessions {
		c.bad("limits: sessions must be at least 1, and sessions_per_workload between 1 and sessions", "limits")
	}
	if l.Drain < 0 || l.Drain > time.Hour {
		c.bad(fmt.Sprintf("drain %s: must be between 0 and 1h", l.Drain), "limits", "drain")
	}
	if l.Handover < 0 || l.Handover > time.Minute {
		c.bad(fmt.Sprintf("handover %s: must be between 0 and 1m: new connections wait so long", l.Handover), "limits", "handover")
	}
}

func (c *checker) interception(i *Interception) {
	c.oneOf(i.Mode, []string{"host", "cgroup"}, "interception", "mode")
	if i.OldAddresses < time.Minute || i.OldAddresses > 366*24*time.Hour {
		c.bad(fmt.Sprintf("old_addresses %s: must be between 1m and 8784h", i.OldAddresses), "interception", "old_addresses")
	}
}

func (c *checker) resources(rs []Resource, passage uint16) {
	if len(rs) == 0 {
		c.bad("no resources: name at least one protected service", "resources")
	}
	c.destinations(rs, passage)
	c.sockets(rs)
	names := map[string]bool{}
	for i, r := range rs {
		if !name.MatchString(r.Name) || names[r.Name] {
			c.bad(fmt.Sprintf("resource name %q: must be unique, of letters, digits, - and _", r.Name), "resources", i, "name")
		}
		names[r.Name] = true
		c.oneOf(r.Protocol, Protocols, "resources", i, "protocol")
		c.oneOf(r.Durability, []string{"fsync", "write"}, "resources", i, "durability")
		c.tls(i, &r.TLS)
		if r.Catalog != nil {
			if r.Catalog.User == "" {
				c.bad("user: required: the role of the side connection that reads the catalog", "resources", i, "catalog")
			}
			c.catalogAddress(i, r.Catalog)
			if d := r.Catalog.Refresh; d < 100*time.Millisecond || d > time.Minute {
				c.bad(fmt.Sprintf("refresh %s: must be between 100ms and 1m: it is how long another session's DDL can go unseen", d), "resources", i, "catalog", "refresh")
			}
		}
	}
}

func (c *checker) identity(id *Identity) {
	var urls []string
	for i, is := range id.Issuers {
		u, err := url.Parse(is.URL)
		if err != nil || u.Host == "" || (u.Scheme != "https" && !(u.Scheme == "http" && loopback.Host(u.Hostname()))) {
			c.bad(fmt.Sprintf("issuer %q: must be an https URL (http only on loopback)", is.URL), "identity", "issuers", i, "url")
		}
		if slices.Contains(urls, is.URL) {
			c.bad(fmt.Sprintf("issuer %q: is listed twice", is.URL), "identity", "issuers", i, "url")
		}
		urls = append(urls, is.URL)
		if is.Skew < 0 || is.Skew > 5*time.Minute {
			c.bad(fmt.Sprintf("skew %s: must be between 0 and 5m", is.Skew), "identity", "issuers", i, "skew")
		}
		if is.Audience == "" {
			c.bad("audience: required; a token for somebody else must not open this door", "identity", "issuers", i)
		}
		if is.MaxAge < 0 || is.MaxAge > 366*24*time.Hour {
			c.bad(fmt.Sprintf("max_age %s: must be between 0 (as a token says itself) and 8784h", is.MaxAge), "identity", "issuers", i, "max_age")
		}
		if is.OfflineGrace < time.Second || is.OfflineGrace > 7*24*time.Hour {
			c.bad(fmt.Sprintf("offline_grace %s: must be between 1s and 168h: a key that the issuer withdraws is believed so long while it can't be reached", is.OfflineGrace), "identity", "issuers", i, "offline_grace")
		}
		if x := is.Exchange; x != nil && (x.Client == "" || x.SecretFile == "" || x.Audience == "") {
			c.bad("exchange: needs client, secret_file and audience", "identity", "issuers", i, "exchange")
		}
		if is.Exchange != nil && is.OneTime {
			c.bad("one_time: such a token can't be exchanged: its one use is here", "identity", "issuers", i, "one_time")
		}
		for k, p := range is.Parties {
			if p == "" {
				c.bad("azp: a party without a name", "identity", "issuers", i, "azp", k)
			}
		}
		for k, a := range is.Algorithms {
			if !slices.Contains([]string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}, a) {
				c.bad(fmt.Sprintf("algorithm %q: use an asymmetric signature algorithm", a), "identity", "issuers", i, "algorithms", k)
			}
		}
	}
	if d := id.Recheck; d < time.Second || d > 10*time.Minute {
		c.bad(fmt.Sprintf("recheck %s: must be between 1s and 10m: what is revoked holds on so long in running sessions", d), "identity", "recheck")
	}
	if d := id.ExpiredGrace; d < time.Second || d > 24*time.Hour {
		c.bad(fmt.Sprintf("expired_grace %s: must be between 1s and 24h", d), "identity", "expired_grace")
	}
	seen := map[string]bool{}
	for i, w := range id.Workloads {
		at := func(msg string, keys ...any) { c.bad(msg, append([]any{"identity", "workloads", i}, keys...)...) }
		if w.Name == "" || seen[w.Name] {
			at(fmt.Sprintf("workload name %q: must be set and unique", w.Name), "name")
		}
		seen[w.Name] = true
		if len(w.Subjects) == 0 && w.SPIFFE == "" {
			at("subjects: list those that this workload may present; a token is transferable otherwise")
		}
		c.inBand(&w, at)
		if w.Issuer != "" && !slices.Contains(urls, w.Issuer) {
			at(fmt.Sprintf("issuer %q is not among identity.issuers", w.Issuer), "issuer")
		}
		if w.Token != "" && w.Token[0] != '/' {
			at("token_file: must be an absolute path", "token_file")
		}
	}
}

func (c *checker) oneOf(v string, of []string, keys ...any) {
	if !slices.Contains(of, v) {
		c.bad(fmt.Sprintf("%v %q: must be one of %v", keys[len(keys)-1], v, of), keys...)
	}
}

func (c *checker) loopback(addr string, keys ...any) {
	h, p, err := net.SplitHostPort(addr)
	if n, perr := strconv.ParseUint(p, 10, 16); err != nil || perr != nil || n > 65535 || !loopback.Host(h) {
		c.bad(fmt.Sprintf("%v %q: must be a loopback ip:port", keys[len(keys)-1], addr), keys...)
	}
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}

func isZero(s string) bool { return isNumber(s) && strings.Trim(s, "0") == "" }
