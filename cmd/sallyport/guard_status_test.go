package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

// What a running sallyport finds against its guard fails `guard status`, as it
// does the doctor's check, whatever the kernel says.
func TestGuardStatusTellsWhatTheLoaderFound(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	cfg, err := config.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "a look that finds nothing", func() bool {
		_, err := command("guard", "status", "-c", h.config)
		return err == nil
	})
	for want, found := range map[string]health{
		"do not get into the passage: /agents": {Time: time.Now(), Whole: true, Canaries: []canaryResult{{Scope: "/agents", Tried: true, Detail: "timed out"}}},
		"not whole: link_connect4 is gone":     {Time: time.Now(), Problem: "link_connect4 is gone"},
		"it hangs":                             {Time: time.Now().Add(-time.Hour), Whole: true},
	} {
		b, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		within(t, want, func() bool { // the loader may have written its own meanwhile
			if err := os.WriteFile(healthFile(cfg), b, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := command("guard", "status", "-c", h.config)
			return err != nil && strings.Contains(err.Error(), want) && strings.Contains(out, "ALARM")
		})
	}
}

func TestSweptNamesItsProcess(t *testing.T) {
	var out strings.Builder
	printSwept(&out, []redirect.Bypass{
		{Process: &events.Process{PID: 17, Exe: "/usr/bin/ps\x1bql"}}, {},
	})
	if s := out.String(); !strings.Contains(s, "process 17, /usr/bin/ps") || strings.Contains(s, "\x1b") || !strings.Contains(s, "its process has ended") {
		t.Errorf("%q", s)
	}
}
