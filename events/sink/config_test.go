package sink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events/sink"
)

func TestConfigErrorsHaveLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const head = "state: s\nsinks:\n- name: a\n"
	for name, c := range map[string][2]string{
		"empty":     {"", "sinks.yaml:1: the file is empty"},
		"field":     {head + "  fil: {path: x}\n", "sinks.yaml:4: field fil not found"},
		"type":      {head + "  batch: many\n  file: {path: x}\n", "sinks.yaml:4: cannot unmarshal"},
		"none":      {"state: s\n", "sinks.yaml:1: sinks: name at least one"},
		"state":     {"sinks:\n- name: a\n  file: {path: x}\n", "sinks.yaml:1: state: required"},
		"target":    {head, "sinks.yaml:3: sink \"a\": give exactly one"},
		"two":       {head + "  file: {path: x}\n  webhook: {url: https://x, secret_file: token}\n", "give exactly one"},
		"twice":     {head + "  file: {path: x}\n- name: a\n  file: {path: y}\n", "sinks.yaml:5: name \"a\": must be unique"},
		"name":      {"state: s\nsinks:\n- name: a.>\n  file: {path: x}\n", "sinks.yaml:3: name \"a.>\""},
		"kind":      {head + "  kinds:\n  - block\n  - blok\n  file: {path: x}\n", "sinks.yaml:6: kind \"blok\""},
		"clear":     {head + "  splunk:\n    url: http://splunk.example.org:8088\n    token_file: token\n", "sinks.yaml:5: url: http is for loopback only"},
		"password":  {head + "  splunk:\n    url: https://a:b@splunk.example.org:8088\n    token_file: token\n", "sinks.yaml:5: url: a password does not belong here"},
		"missing":   {head + "  splunk:\n    url: https://splunk.example.org\n    token_file: gone\n", "sinks.yaml:6: token_file: open"},
		"required":  {head + "  webhook:\n    url: https://x.example.org\n", "secret_file: required"},
		"transport": {head + "  syslog:\n    address: a:514\n    transport: dtls\n", "sinks.yaml:6: transport \"dtls\": must be one of tls, tcp, udp"},
		"address":   {head + "  syslog:\n    address: a\n", "sinks.yaml:5: address \"a\""},
		"tcp":       {head + "  syslog:\n    address: siem.example.org:514\n    transport: tcp\n", "sinks.yaml:6: tcp is in clear, and for loopback only"},
		"udp":       {head + "  syslog:\n    address: 192.0.2.1:514\n    transport: udp\n", "sinks.yaml:6: udp is in clear, and for loopback only"},
		"format":    {head + "  file:\n    path: x\n    format: leef\n", "sinks.yaml:6: format \"leef\""},
		"metrics":   {"metrics: 0.0.0.0:9\n" + head + "  file: {path: x}\n", "sinks.yaml:1: metrics \"0.0.0.0:9\": must be a loopback"},
		"syntax":    {head + "  file: {path: x\n", "sinks.yaml:"},
		"two files": {head + "  file: {path: x}\n---\nstate: s\n", "more than one document"},
		"one file":  {head + "  file: {path: out/x}\n- name: b\n  file:\n    path: out/../out/x\n", "sinks.yaml:7: path: sink \"a\" writes it already"},
		"refused":   {head + "  file:\n    path: s/a.rejected.jsonl\n", "sinks.yaml:5: path: events are written there"},
		"nats tls":  {"nats_tls:\n  ca_file: token\n" + head + "  file: {path: x}\n", "sinks.yaml:1: ca_file, cert_file and key_file are for TLS, which the address \"nats://127.0.0.1:4222\" does not ask for"},
		"nats ca":   {"nats: tls://a\nnats_tls:\n  ca_file: token\n" + head + "  file: {path: x}\n", "sinks.yaml:3: ca_file: " + filepath.Join(dir, "token") + ": holds no certificate"},
		"nats key":  {"nats: tls://a\nnats_tls:\n  cert_file: token\n" + head + "  file: {path: x}\n", "sinks.yaml:3: cert_file and key_file: a client certificate needs both"},
		"user":      {head + "  elasticsearch: {url: https://x, user: u}\n", "give user and password_file"},
	} {
		_, err := sink.Parse([]byte(c[0]), filepath.Join(dir, "sinks.yaml"))
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key that anybody may read is no key.
func TestKeysOfOthersAreRefused(t *testing.T) {
	s := load(t, "  webhook: {url: https://x.example.org, secret_file: secret}\n")
	for name, spoil := range map[string]func(string) error{
		"readable": func(f string) error { return os.Chmod(f, 0o644) },
		"short":    func(f string) error { return os.WriteFile(f, []byte("QUJD"), 0o600) },
		"empty":    func(f string) error { return os.WriteFile(f, nil, 0o600) },
	} {
		file := s.Sinks[0].Webhook.SecretFile
		if err := spoil(file); err != nil {
			t.Fatal(err)
		}
		if target, err := sink.Open(&s.Sinks[0]); err == nil {
			target.Close()
			t.Errorf("%s: taken", name)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Syslog in clear over a network is for who says so; the key of its client is
// held as others are.
func TestSyslogInClear(t *testing.T) {
	load(t, "  syslog: {address: 'siem.example.org:514', transport: tcp, insecure: true}\n")
	load(t, "  syslog: {address: 'localhost:514', transport: udp}\n")
	s := load(t, "  syslog: {address: 'siem.example.org:6514', cert: secret, key: token}\n")
	if err := os.Chmod(s.Sinks[0].Syslog.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Open(&s.Sinks[0]); err == nil || !strings.Contains(err.Error(), "anybody may read or write it") {
		t.Errorf("a key that anybody may read: %v", err)
	}
}

// The documented example is one that is taken, and shows every field.
func TestDocumentedConfiguration(t *testing.T) {
	b, err := os.ReadFile("../../docs/sinks.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range []string{"splunk.token", "elastic.key", "webhook.secret", "siem-ca.pem", "client.pem", "client.key"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sink.Parse(b, filepath.Join(dir, "sinks.yaml"))
	if err != nil || len(s.Sinks) != 5 {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/siem.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields() {
		if !strings.Contains(string(page), "`"+f+"`") {
			t.Errorf("%s is not documented in docs/siem.md", f)
		}
		if name := f[strings.LastIndex(f, ".")+1:]; !strings.Contains(string(b), name+":") {
			t.Errorf("%s is not shown in docs/sinks.example.yaml", f)
		}
	}
}
