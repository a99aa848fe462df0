package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept/redirect"
)

// A canary from each guarded scope gets into the passage; with the program at
// connect4 detached behind the loader's back it does not, which is found and
// told, and put right.
func TestCanary(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	cfg, err := config.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the canaries are back", func() bool {
		found, err := readHealth(cfg)
		if err != nil || len(found.Canaries) == 0 || !found.Whole {
			return false
		}
		for _, c := range found.Canaries {
			if !c.OK {
				t.Fatalf("%+v\n%s", c, h.log)
			}
		}
		return true
	})
	if h.metric("sallyport_canaries_total") == "0" {
		t.Error("no canary was counted")
	}
	// What the loader sends, sent by hand where no program stands.
	l, err := link.LoadPinnedLink(filepath.Join(h.pins, "v3", "link_connect4"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Unpin(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = sendCanary(t.Context(), root, "/sallyport.guarded", daemonUID, daemonUID)
	if healthy, herr := readHealth(cfg); err == nil && (herr != nil || healthy.Time.Before(start)) {
		t.Error("a canary got through without a program at connect4")
	}
	within(t, "it is noticed and put right", func() bool {
		s, err := redirect.GetStatus(h.pins)
		return err == nil && s.Up
	})
	h.stop()
	var alarmed bool
	for _, e := range h.record() {
		b, _ := json.Marshal(e)
		alarmed = alarmed || has(string(b), "not whole")
	}
	if !alarmed {
		t.Errorf("no alarm on the record\n%s", h.log)
	}
	if _, err := os.Stat(healthFile(cfg)); err != nil {
		t.Error(err)
	}
}

// Canaries that nobody answers are an alarm on the record, a figure of the
// metrics, and a guard status that fails.
func TestLostCanaryIsAnAlarm(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	cfg, err := config.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	pid := h.daemon()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	lost := func() bool { f, err := readHealth(cfg); return err == nil && f.failedCanaries() > 0 }
	for end := time.Now().Add(2 * time.Minute); !lost(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("canaries are not missed; log:\n%s", h.log)
		}
	}
	if out, err := command("guard", "status", "-c", h.config); err == nil || !strings.Contains(out, "ALARM") {
		t.Errorf("guard status: %v\n%s", err, out)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	within(t, "a figure", func() bool { return h.metric("sallyport_canaries_lost") != "0" })
	h.stop()
	alarmed := false
	for _, e := range h.record() {
		b, _ := json.Marshal(e)
		alarmed = alarmed || has(string(b), "do not get into the passage")
	}
	h.alerts("alarm")
	if !alarmed {
		t.Errorf("no alarm on the record\n%s", h.log)
	}
}
