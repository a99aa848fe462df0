package main

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/policy/rules"
)

// What only observes is warned of when it is put in force, and by the doctor; what
// is enforced is not.
func TestObservingRulesAreLoud(t *testing.T) {
	good, _ := manualExamples(t)
	text := strings.ReplaceAll(good, "- name: identifiers", "- observe: true\n    name: identifiers")
	path := policyFiles(t, text, "127.0.0.1:1", "")
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := rules.Load(cfg.Policy)
	if err != nil {
		t.Fatal(err)
	}
	const want = `rule "identifiers" only observes: what it would mask is SHOWN AS IT IS STORED`
	d := &daemon{}
	d.observing(p)
	if a := d.alarms.early; len(a) != 1 || a[0][0] != "observing" || !strings.Contains(a[0][1], want) {
		t.Errorf("%q", a)
	}
	var l findings
	l.observing(cfg)
	if len(l) != 1 || !strings.Contains(l[0].Detail, want) || l[0].Remedy == "" {
		t.Errorf("%+v", l)
	}
	l = nil
	if cfg, err = config.Load(policyFiles(t, good, "127.0.0.1:1", "")); err != nil {
		t.Fatal(err)
	}
	if l.observing(cfg); len(l) != 0 {
		t.Errorf("%+v", l)
	}
}
