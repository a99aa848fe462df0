package notify_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/notify"
)

func TestConfigErrorsHaveLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "s"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const hook = "state: s\npage: https://r.example.org\nchannels:\n- name: a\n  webhook: {url: https://x.example.org, secret_files: [s]}\n"
	const routes = "routes:\n- steps:\n  - tell: [a]\n"
	for name, c := range map[string][2]string{
		"empty":        {"", "n.yaml:1: the file is empty"},
		"field":        {hook + routes + "page2: x\n", "n.yaml:9: field page2 not found"},
		"state":        {strings.Replace(hook, "state: s\n", "", 1) + routes, "n.yaml:1: state: required"},
		"page":         {strings.Replace(hook, "https://r", "http://r", 1) + routes, "n.yaml:2: page \"http://r.example.org\""},
		"no page":      {strings.Replace(hook, "page: https://r.example.org\n", "", 1) + routes, "page \"\""},
		"listen":       {"listen: 0.0.0.0:80\n" + hook + routes, "n.yaml:1: listen \"0.0.0.0:80\": must be a loopback"},
		"no channels":  {"state: s\npage: https://r.example.org\n", "channels: name at least one"},
		"nats":         {"nats: nats://nats.example.org:4222\n" + hook + routes, "n.yaml:1: nats: what waits is told there: nats://nats.example.org:4222: in clear"},
		"nats tls":     {"nats: tls://a\nnats_tls:\n  ca_file: gone\n" + hook + routes, "n.yaml:3: ca_file: "},
		"no routes":    {hook, "routes: name at least one"},
		"name":         {strings.Replace(hook, "name: a", "name: a/b", 1) + routes, "n.yaml:4: name \"a/b\""},
		"clear":        {strings.Replace(hook, "https://x", "http://x", 1) + routes, "n.yaml:5: url: http is for loopback only"},
		"secrets":      {strings.Replace(hook, "[s]", "[s, s, s]", 1) + routes, "n.yaml:5: secret_files: name one file, or two"},
		"no secret":    {strings.Replace(hook, "[s]", "[]", 1) + routes, "secret_files: name one file"},
		"missing":      {strings.Replace(hook, "[s]", "[gone]", 1) + routes, "n.yaml:5: 0: open"},
		"two ways":     {hook + "  teams: {webhook_file: s}\n" + routes, "give exactly one of webhook, slack, teams"},
		"slack":        {hook + "- name: b\n  slack: {token_file: s, channel: general}\n" + routes, "n.yaml:7: channel \"general\": must be a channel's ID"},
		"slack both":   {hook + "- name: b\n  slack: {token_file: s, webhook_file: s, channel: C012AB3CD}\n" + routes, "n.yaml:7: give token_file and channel, or webhook_file"},
		"teams":        {hook + "- name: b\n  teams: {}\n" + routes, "webhook_file: required"},
		"flood":        {hook + "  per_minute: 1\n" + routes, "n.yaml:6: per_minute: must be between 2 and 6000"},
		"unknown":      {hook + "routes:\n- steps:\n  - tell: [b]\n", "n.yaml:8: channel \"b\": there is none"},
		"first":        {hook + "routes:\n- steps:\n  - {after: 1m, tell: [a]}\n", "n.yaml:8: after: the first step is told at once"},
		"order":        {hook + "routes:\n- steps:\n  - tell: [a]\n  - {after: 5m, tell: [a]}\n  - {after: 5m, tell: [a]}\n", "n.yaml:10: after: must be more"},
		"person":       {hook + "people:\n  al: {slack: alice}\n" + routes, "n.yaml:7: slack \"alice\": must be a member ID"},
		"mention":      {hook + "people:\n  al: {teams: 'x</at>'}\n" + routes, "n.yaml:7: teams \"x</at>\""},
		"no person":    {hook + "routes:\n- steps:\n  - {tell: [a], people: [al]}\n", "n.yaml:8: \"al\": people has none"},
		"no list":      {hook + "routes:\n- steps:\n  - {tell: [a], on_call: [dba]}\n", "n.yaml:8: \"dba\": on_call has none"},
		"rota or file": {hook + "on_call:\n  dba: {}\n" + routes, "n.yaml:7: on_call \"dba\": give rota or file"},
		"rota":         {hook + "on_call:\n  dba:\n    rota:\n      people: [al]\n" + routes, "from: required"},
		"rota's":       {hook + "on_call:\n  dba:\n    rota:\n      from: 2026-11-02T09:00:00Z\n      people: [al]\n" + routes, "n.yaml:10: \"al\": people has none"},
	} {
		_, err := notify.Parse([]byte(c[0]), filepath.Join(dir, "n.yaml"))
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A secret that anybody may read, or that is none, is not used.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s")
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		k    notify.ChannelConfig
	}{
		"readable": {strings.Repeat("QUJD", 8), 0o644, notify.ChannelConfig{Webhook: &notify.Webhook{URL: "https://x", SecretFiles: []string{file}}}},
		"short":    {"QUJD", 0o600, notify.ChannelConfig{Webhook: &notify.Webhook{URL: "https://x", SecretFiles: []string{file}}}},
		"slack":    {"http://hooks.slack.example/x", 0o600, notify.ChannelConfig{Slack: &notify.Slack{WebhookFile: file}}},
		"teams":    {"not an address", 0o600, notify.ChannelConfig{Teams: &notify.Teams{WebhookFile: file}}},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		if ch, err := notify.Open(&c.k); err == nil {
			ch.Close()
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
}

// fields are the members of the configuration, "channels.slack.token_file".
func fields(of reflect.Type, at string) (out []string) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
		return []string{at}
	}
	for f := range of.Fields() {
		out = append(out, fields(f.Type, strings.TrimPrefix(at+"."+f.Tag.Get("yaml"), "."))...)
	}
	return out
}

// The documented example is one that is taken, and shows every field.
func TestDocumentedConfiguration(t *testing.T) {
	b, err := os.ReadFile("../../docs/notify.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range []string{"webhook.secret", "webhook.secret.old", "slack.token", "slack.signing", "slack.webhook", "teams.webhook", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := notify.Parse(b, filepath.Join(dir, "notify.yaml")); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields(reflect.TypeFor[notify.Settings](), "") {
		if !strings.Contains(string(page), "`"+f+"`") {
			t.Errorf("%s is not documented in docs/notify.md", f)
		}
		if name := f[strings.LastIndex(f, ".")+1:]; !strings.Contains(string(b), name+":") {
			t.Errorf("%s is not shown in docs/notify.example.yaml", f)
		}
	}
}
