package keeping_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/keeping"
)

func load(t *testing.T, text string) (keeping.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recorder.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return keeping.Load(file)
}

// The documented example is one that is taken, and shows every field.
func TestDocumentedConfiguration(t *testing.T) {
	b, err := os.ReadFile("../../../docs/recorder.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(t, string(b))
	if err != nil || len(c.Retention.Rules) != 4 || !filepath.IsAbs(c.Transcripts.S3.Credentials) {
		t.Fatalf("%+v %v", c, err)
	}
	var shown func(reflect.Type)
	shown = func(x reflect.Type) {
		for i := range x.NumField() {
			f := x.Field(i)
			if name := f.Tag.Get("yaml"); !strings.Contains(string(b), name+":") || name == "" {
				t.Errorf("%s %s is not shown", x, f.Name)
			}
			y := f.Type
			if y.Kind() == reflect.Slice {
				y = y.Elem()
			}
			if y.Kind() == reflect.Struct {
				shown(y)
			}
		}
	}
	shown(reflect.TypeFor[keeping.Config]())
}

// TestRefuses takes no field that it does not know and no time that is none.
func TestRefuses(t *testing.T) {
	if c, err := load(t, ""); err != nil || c.Transcripts.Store != "" {
		t.Error(c, err)
	}
	if _, err := load(t, "# nothing yet\n"); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"\nretantion: {}":       "recorder.yaml:2: field retantion",
		"retention:\n  keep: 6": "recorder.yaml:2: ",
		"retention: {keep: 0d}": "recorder.yaml:1: ",
		"retention:\n  rules:\n  - {name: a, resource: x, keep: 1d}\n  - {resource: x, keep: 1d}":        "recorder.yaml:4: rule 2 needs a name",
		"retention:\n  rules:\n  - name: a\n    keep: 1d\n    verdict: never":                            "recorder.yaml:5: rule \"a\": there is no verdict",
		"retention:\n  rules:\n  - name: a\n    keep: 1d\n    recording: events":                         "recorder.yaml:5: rule \"a\": where events alone",
		"transcripts:\n  recipients: [age1]":                                                             "recorder.yaml:2: field recipients",
		"retention: {}\ntranscripts:\n  store: tape":                                                     "recorder.yaml:3: store \"tape\"",
		"transcripts:\n  store: jetstream\n  jetstream:\n    bucket: b":                                  "recorder.yaml:3: jetstream: name the server",
		"transcripts:\n  store: jetstream\n  jetstream:\n    nats: nats://b\n    nats_tls: {ca_file: c}": "recorder.yaml:5: ca_file, cert_file and key_file are for TLS",
		"retention: {}\n---\nretention: {}":                                                              "more than one document",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
