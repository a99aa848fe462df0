package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/intercept/redirect"
)

// section returns a part of docs/operations.md.
func section(t *testing.T, title string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, s, ok := strings.Cut(string(b), "\n"+title+"\n")
	if !ok {
		t.Fatalf("no section %q", title)
	}
	s, _, _ = strings.Cut(s, "\n##")
	return s
}

func firstColumn(s string) map[string]bool {
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(s, -1) {
		for _, name := range regexp.MustCompile("`([a-z_-]+)").FindAllStringSubmatch(m[1], -1) {
			rows[name[1]] = true
		}
	}
	return rows
}

func same(t *testing.T, what string, doc, code map[string]bool) {
	t.Helper()
	for name := range code {
		if !doc[name] {
			t.Errorf("docs/operations.md does not list %s %s", what, name)
		}
	}
	for name := range doc {
		if !code[name] {
			t.Errorf("docs/operations.md lists %s %s, which there is not", what, name)
		}
	}
}

func TestDocsListMetrics(t *testing.T) {
	m := newMetrics()
	m.journal(func() journal.Stats { return journal.Stats{} })
	m.guard(func() (redirect.Counters, error) { return redirect.Counters{}, nil })
	m.flows.WithLabelValues("")
	m.refused.WithLabelValues("", "")
	m.sessions.WithLabelValues("")
	m.undecoded.WithLabelValues("")
	m.reloads.WithLabelValues("")
	m.statements.WithLabelValues("")
	all, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	// Gauges that are added when their owners are there.
	code := map[string]bool{"sallyport_shipping_lag_records": true, "sallyport_catalogs": true}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "sallyport_") {
			code[f.GetName()] = true
		}
	}
	same(t, "metric", firstColumn(section(t, "### Metrics")), code)
}

func TestDocsListAlarms(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	code := map[string]bool{"break-glass": true, "clock": true} // policy/approval writes them itself
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.raise\("([a-z]+)"`).FindAllStringSubmatch(string(b), -1) {
			code[m[1]] = true
		}
	}
	same(t, "alarm", firstColumn(section(t, "### Alarms")), code)
}
