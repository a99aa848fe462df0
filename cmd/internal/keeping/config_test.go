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
	if err != nil || len(c.Retention.Rules) != 3 || !filepath.IsAbs(c.Transcripts.S3.Credentials) {
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
	for _, text := range []string{
		"retantion: {}", "retention: {keep: 6}", "retention: {keep: 0d}", "retention: {rules: [{resource: x, keep: 1d}]}",
		"transcripts: {recipients: [age1]}", "retention: {}\n---\nretention: {}",
	} {
		if _, err := load(t, text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
