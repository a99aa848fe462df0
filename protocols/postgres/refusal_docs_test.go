package postgres

import (
	"os"
	"strings"
	"testing"
)

// What programs may rely on is what the page says.
func TestKindsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if c := strings.Split(line, "|"); len(c) == 6 && strings.HasPrefix(c[1], " `") {
			kinds[strings.Trim(c[1], " `")] = c[2]
		}
	}
	for code, kind := range kindsOfCodes {
		if !strings.Contains(kinds[kind], code) {
			t.Errorf("%s (%s) is not documented: %q", kind, code, kinds[kind])
		}
	}
	for _, kind := range kindsOfRules {
		if kinds[kind] == "" {
			t.Errorf("%s is not documented", kind)
		}
	}
}
