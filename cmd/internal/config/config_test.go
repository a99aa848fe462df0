package config_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// small is the least that a configuration says.
const small = `host: h
resources:
  - name: clinic
    protocol: postgres
    addresses: ["192.0.2.7:5432"]
identity:
  issuers:
    - {url: "https://issuer.example", audience: sallyport}
`

func TestDefaults(t *testing.T) {
	c, err := config.Parse([]byte(small), "/etc/sallyport/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	is := c.Identity.Issuers[0]
	for what, ok := range map[string]bool{
		"state":     c.State == "/var/lib/sallyport" && c.Run == "/run/sallyport" && c.User == "sallyport",
		"policy":    c.Policy == "/etc/sallyport/policy.yaml",
		"log":       c.Log == config.Log{Level: "info", Format: "text"},
		"passage":   c.Interception.Mode == "host" && c.Interception.Port == 15432 && c.Interception.Pins == "/sys/fs/bpf/sallyport",
		"issuer":    len(is.Algorithms) == 2 && is.Skew == 30*time.Second,
		"journal":   c.Evidence.Journal == config.Journal{MaxBytes: 4 << 30, SegmentBytes: 64 << 20, Sync: "fsync"},
		"nats":      reflect.DeepEqual(c.Evidence.NATS, config.NATS{Listen: "127.0.0.1:4222"}),
		"heartbeat": c.Evidence.Heartbeat == time.Minute,
		"limits":    c.Limits == config.Limits{Sessions: 10_000, PerWorkload: 5_000, Drain: 30 * time.Second, Handover: 5 * time.Second},
		"addresses": c.Resources[0].Addresses[0] == config.Endpoint(netip.MustParseAddrPort("192.0.2.7:5432")),
	} {
		if !ok {
			t.Errorf("%s: %+v", what, c)
		}
	}
	if at := c.At("resources", 0, "protocol"); at != "/etc/sallyport/sallyport.yaml:4" {
		t.Error(at)
	}
	if at := c.At("resources", 0, "catalog", "user"); at != "/etc/sallyport/sallyport.yaml:3" {
		t.Error(at)
	}
}

// Names of files are the configuration's neighbours.
func TestRelativeFiles(t *testing.T) {
	c, err := config.Parse([]byte(`policy: rules
resources:
  - {name: a, protocol: postgres, addresses: ["[::1]:1"], catalog: {user: u, password_file: pw}}
  - {name: b, protocol: postgres, addresses: ["[::1]:2"], catalog: {user: u, password_file: /run/pw}}
identity: {issuers: [{url: "http://127.0.0.1:9", audience: a}]}
evidence: {recorder_key: r.pub, nats: {url: "nats://n:4222", credentials: host.creds}}
`), "/etc/s/s.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Policy, c.Resources[0].Catalog.PasswordFile, c.Resources[1].Catalog.PasswordFile, c.Evidence.Recorder, c.Evidence.NATS.Credentials}
	want := []string{"/etc/s/rules", "/etc/s/pw", "/run/pw", "/etc/s/r.pub", "/etc/s/host.creds"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s, want %s", got[i], want[i])
		}
	}
	if c.Resources[0].Catalog.Refresh != 2*time.Second {
		t.Error(c.Resources[0].Catalog.Refresh)
	}
	if c.Host == "" || strings.Contains(c.Host, ".") {
		t.Errorf("host %q", c.Host)
	}
}

// replaced is small with another text in place of one of its own.
func replaced(old, with string) string {
	if !strings.Contains(small, old) {
		panic(old)
	}
	return strings.Replace(small, old, with, 1)
}

func TestErrorsNameTheirLine(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string // "line: text"
	}{
		"empty":            {"", []string{"1: no resources", "1: no issuers"}},
		"no YAML":          {"host: [\n", []string{"1: did not find expected node content"}},
		"tab":              {"host: h\n\tlog: {}\n", []string{"2: found a tab character"}},
		"two documents":    {small + "---\nhost: b\n", []string{": a second document"}},
		"unknown":          {small + "nonsense: 1\n", []string{`9: unknown field "nonsense"`, "docs/operations.md"}},
		"unknown, deep":    {replaced("audience", "audiense"), []string{`8: unknown field "audiense"`}},
		"twice":            {small + "host: b\n", []string{`9: mapping key "host" already defined at line 1`}},
		"type":             {small + "limits: {sessions: many}\n", []string{"9: cannot unmarshal !!str `many` into int"}},
		"duration":         {small + "limits: {drain: soon}\n", []string{"9: cannot unmarshal !!str `soon` into time.Duration"}},
		"host":             {replaced("host: h", "host: a.b"), []string{`1: host "a.b": use letters`}},
		"protocol":         {replaced("postgres", "gopher"), []string{`4: protocol "gopher": must be one of [postgres]`}},
		"address is none":  {replaced("192.0.2.7:5432", "db..example:5432"), []string{`5: address "db..example:5432": must be like`}},
		"address, no port": {replaced("192.0.2.7:5432", "192.0.2.7:0"), []string{`5: address "192.0.2.7:0": must be like`}},
		"name, no port":    {replaced("192.0.2.7:5432", "db.example"), []string{`5: address "db.example": must be like`}},
		"prefix":           {replaced("192.0.2.7:5432", "192.0.2.7/24:5432"), []string{`5: address "192.0.2.7/24:5432": must be like`, "write 192.0.2.0/24"}},
		"ports":            {replaced("192.0.2.7:5432", "db:9-8"), []string{`5: address "db:9-8": must be like`}},
		"any address":      {replaced("192.0.2.7:5432", "0.0.0.0:5432"), []string{`5: address "0.0.0.0:5432"`}},
		"address twice":    {replaced(`"192.0.2.7:5432"`, `"192.0.2.7:5432", "[::ffff:192.0.2.7]:5432"`), []string{`5: address "192.0.2.7:5432": overlaps "192.0.2.7:5432" of resource clinic (s.yaml:5)`}},
		"the passage":      {replaced("192.0.2.7:5432", "127.0.0.1:15432"), []string{`5: address "127.0.0.1:15432": is the passage itself`}},
		"no addresses":     {replaced(`["192.0.2.7:5432"]`, "[]"), []string{"5: no addresses"}},
		"resource name":    {replaced("name: clinic", "name: a b"), []string{`3: resource name "a b"`}},
		"durability":       {replaced("protocol: postgres", "protocol: postgres\n    durability: maybe"), []string{"5: "}},
		"durability twice": {replaced("protocol: postgres", "protocol: postgres\n    durability: fsync") + "\nevidence: {journal: {sync: write}}", []string{"5: durability: fsync can't be had"}},
		"catalog":          {replaced("protocol: postgres", "protocol: postgres\n    catalog: {refresh: 1h}"), []string{"5: user: required", "5: refresh 1h0m0s"}},
		"issuer":           {replaced("https://", "http://"), []string{`8: issuer "http://issuer.example": must be an https URL`}},
		"issuer twice":     {small + `    - {url: "https://issuer.example", audience: b}` + "\n", []string{`9: issuer "https://issuer.example": is listed twice`}},
		"audience":         {replaced("audience: sallyport", "audience: ''"), []string{"8: audience: required"}},
		"algorithm":        {replaced("audience: sallyport", "audience: a, algorithms: [HS256]"), []string{`8: algorithm "HS256": use an asymmetric`}},
		"approvals device": {small + "approvals:\n  issuers:\n  - url: https://p\n    client: c\n    device_client: c\n", []string{"13: device_client: must be another than client"}},
		"approvals person": {small + "approvals: {issuers: [{url: \"https://p\", client: c, person: \"o id\"}]}\n", []string{`9: person "o id": must be the name of a claim`}},
		"skew":             {replaced("audience: sallyport", "audience: a, skew: 1h"), []string{"8: skew 1h0m0s"}},
		"workload": {small + "  workloads:\n    - name: a\n      issuer: x\n      token_file: t\n    - name: a\n", []string{
			"10: subjects:", "10: match:", `11: issuer "x" is not among`, "12: token_file: must be an absolute path", `13: workload name "a"`,
		}},
		"mode":          {small + "interception: {mode: vm}\n", []string{`9: mode "vm": must be one of`}},
		"covers none":   {small + "interception: {mode: cgroup}\n", []string{"9: mode cgroup covers nothing"}},
		"cgroup":        {small + "interception:\n  mode: cgroup\n  cgroups: [agents]\n  exempt: [x]\n", []string{`11: cgroup "agents"`, `12: cgroup "x"`}},
		"root":          {small + "user: root\n", []string{`9: user "root": must be an unprivileged account`}},
		"root's number": {small + `user: "0:0"` + "\n", []string{`9: user "0:0"`}},
		"root's group":  {small + `user: "5:0"` + "\n", []string{`9: user "5:0"`}},
		"half a user":   {small + `user: "5:"` + "\n", []string{`9: user "5:"`}},
		"relative":      {small + "state: s\nrun: r\n", []string{`9: state "s": must be an absolute`, `10: run "r": must be an absolute`}},
		"metrics":       {small + "metrics: 0.0.0.0:9\n", []string{`9: metrics "0.0.0.0:9": must be a loopback`}},
		"log":           {small + "log:\n  level: loud\n  format: xml\n", []string{`10: level "loud"`, `11: format "xml"`}},
		"sync":          {small + "evidence:\n  journal: {sync: never}\n", []string{`10: sync "never"`}},
		"journal":       {small + "evidence:\n  journal: {max_bytes: 5}\n", []string{"10: journal: segment_bytes"}},
		"listen":        {small + "evidence: {nats: {listen: ':4222'}}\n", []string{`9: listen ":4222": must be a loopback`}},
		"credentials":   {small + "evidence: {nats: {credentials: c}}\n", []string{"9: credentials: they are for a NATS of your own"}},
		"own stream":    {small + "evidence: {nats: {weaker: true}}\n", []string{"9: replicas and weaker: they are for a NATS of your own"}},
		"own TLS":       {small + "evidence: {nats: {tls: {ca_file: c}}}\n", []string{"9: tls: it is for a NATS of your own"}},
		"TLS in clear":  {small + "evidence:\n  nats:\n    url: nats://h\n    tls: {ca_file: c}\n", []string{"12: ca_file, cert_file and key_file are for TLS"}},
		"half a TLS":    {small + "evidence:\n  nats:\n    url: tls://h\n    tls:\n      cert_file: c\n", []string{"13: cert_file and key_file: a client certificate needs both"}},
		"replicas":      {small + "evidence: {nats: {url: 'nats://h', replicas: 6}}\n", []string{"9: replicas 6: must be between 1 and 5"}},
		"url":           {small + "evidence: {nats: {url: 'localhost'}}\n", []string{"9: url: must be one URL"}},
		"in clear":      {small + "evidence: {nats: {approvals: true, url: 'nats://h'}}\n", []string{"9: url: with approvals statements and tokens go there"}},
		"password":      {small + "evidence: {nats: {url: 'nats://u:secret@h'}}\n", []string{"9: url: a password does not belong here"}},
		"limits":        {small + "limits: {sessions: 3, sessions_per_workload: 4}\n", []string{"9: limits: sessions must be"}},
		"drain":         {small + "limits: {drain: 2h}\n", []string{"9: drain 2h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse([]byte(c.text), "s.yaml")
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if want[0] >= '0' && want[0] <= '9' {
					want = "s.yaml:" + want
				}
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the error tells a password")
			}
			for _, line := range strings.Split(err.Error(), "\n") {
				if !strings.HasPrefix(line, "s.yaml:") {
					t.Errorf("without its place: %q", line)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "docs/sallyport.example.yaml") {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := config.Load(file); err != nil || c.Path != file {
		t.Error(c, err)
	}
}
