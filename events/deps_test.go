package events_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "sallyport.dev/sallyport"

// imports returns what a package imports, tests apart.
func imports(t *testing.T, of string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, of).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", of, err)
	}
	return strings.Fields(string(out))
}

// The room's vocabulary imports the standard library only; its leaves know no
// other room, and of each other only what is listed.
func TestImports(t *testing.T) {
	std := func(p string) bool { first, _, _ := strings.Cut(p, "/"); return !strings.Contains(first, ".") }
	for _, p := range imports(t, module+"/events") {
		if !std(p) {
			t.Errorf("events imports %s", p)
		}
	}
	may := map[string][]string{
		"events/ocsf":      {"events"},
		"events/journal":   {"events"},
		"events/jetstream": {"events", "internal/lined", "internal/loopback", "events/internal/outbound", "events/internal/whole"},
		"events/seal":      {"events"},
		"events/vouch":     {"events", "events/internal/whole"},
		"events/recorder":  {"events", "events/jetstream", "events/ocsf", "events/seal", "internal/loopback"},
		"events/sink":      {"events", "internal/lined", "internal/loopback", "events/internal/outbound", "events/internal/whole", "events/jetstream", "events/ocsf"},
		"events/notify":    {"events", "internal/lined", "internal/loopback", "events/internal/outbound", "events/jetstream", "events/ocsf", "events/sink"},
	}
	for leaf, allowed := range may {
		for _, p := range imports(t, module+"/"+leaf) {
			own, ok := strings.CutPrefix(p, module+"/")
			if !ok {
				continue
			}
			fine := strings.HasPrefix(own, leaf+"/")
			for _, a := range allowed {
				fine = fine || own == a
			}
			if !fine {
				t.Errorf("%s imports %s", leaf, own)
			}
		}
	}
	for _, p := range imports(t, module+"/events/ocsf") {
		if !std(p) && p != module+"/events" {
			t.Errorf("events/ocsf imports %s: an encoder needs nothing of the world", p)
		}
	}
}
