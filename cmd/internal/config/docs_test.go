package config_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// fields lists the paths of all fields, as the file spells them.
func fields(t reflect.Type, prefix string) (out []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		out = append(out, prefix+tag)
		ft := f.Type
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
			if ft.Kind() == reflect.Slice {
				tag += "[]"
			}
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct && strings.HasPrefix(ft.PkgPath(), "sallyport.dev/") {
			out = append(out, fields(ft, prefix+tag+".")...)
		}
	}
	return out
}

const example = "../../../docs/sallyport.example.yaml"

func TestExample(t *testing.T) {
	c, err := config.Load(example)
	if err != nil {
		t.Fatal(err)
	}
	if c.Resources[0].Catalog.Refresh != 2*time.Second || c.Identity.Workloads[0].Name != "billing-agent" {
		t.Errorf("%+v", c)
	}
	// It shows every field, and all but the optional ones with their default.
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields(reflect.TypeOf(*c), "") {
		name := f[strings.LastIndex(f, ".")+1:]
		if !regexp.MustCompile(`\b` + name + `:`).Match(text) {
			t.Errorf("%s is not shown", f)
		}
	}
	least, err := config.Parse([]byte(small), example)
	if err != nil {
		t.Fatal(err)
	}
	c.Text, c.Host, least.Text, least.Host = nil, "", nil, ""
	for what, got := range map[string][2]any{
		"state": {c.State, least.State}, "run": {c.Run, least.Run}, "user": {c.User, least.User}, "policy": {c.Policy, least.Policy},
		"log": {c.Log, least.Log}, "mode": {c.Interception.Mode, least.Interception.Mode}, "port": {c.Interception.Port, least.Interception.Port},
		"pins": {c.Interception.Pins, least.Interception.Pins}, "algorithms": {c.Identity.Issuers[0].Algorithms, least.Identity.Issuers[0].Algorithms},
		"skew": {c.Identity.Issuers[0].Skew, least.Identity.Issuers[0].Skew}, "journal": {c.Evidence.Journal, least.Evidence.Journal},
		"nats": {c.Evidence.NATS, least.Evidence.NATS}, "limits": {c.Limits, least.Limits},
	} {
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s: the example shows %v, the default is %v", what, got[0], got[1])
		}
	}
}

// docs/operations.md has a row for each field, and for no other.
func TestOperationsListsFields(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## Configuration\n")
	if !ok {
		t.Fatal("no section Configuration")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows[m[1]] = true
	}
	for _, f := range fields(reflect.TypeOf(config.Config{}), "") {
		if !rows[f] && !hasChildren(f) {
			t.Errorf("no row for %s", f)
		}
		delete(rows, f)
	}
	for r := range rows {
		t.Errorf("a row for %s, which is no field", r)
	}
}

// hasChildren reports whether a field is a mapping whose fields have rows.
func hasChildren(field string) bool {
	for _, f := range fields(reflect.TypeOf(config.Config{}), "") {
		if strings.HasPrefix(f, field+".") || strings.HasPrefix(f, field+"[].") {
			return true
		}
	}
	return false
}

// The YAML in the manual is taken as it stands.
func TestOperationsExamples(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		dec := yaml.NewDecoder(strings.NewReader(m[1]))
		dec.KnownFields(true)
		if err := dec.Decode(&config.Config{}); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
}
