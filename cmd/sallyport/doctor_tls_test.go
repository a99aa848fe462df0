package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
)

// What the doctor says of TLS: each finding shows where it must, and nowhere else.
func TestDoctorLooksAtTLS(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	cfg, err := config.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	at := authorityAt(cfg.State)
	key := at.key
	now := time.Now()
	ask := func(now time.Time) (bad string) {
		t.Helper()
		var l findings
		l.tls(cfg, now)
		for _, f := range l {
			if f.OK && f.Remedy == "" {
				continue
			}
			if f.Remedy == "" {
				t.Errorf("no remedy: %+v", f)
			}
			bad += f.Check + ": " + f.Detail + "\n"
		}
		return bad
	}
	if bad := ask(now); bad != "" {
		t.Errorf("of nothing: %s", bad)
	}
	for name, c := range map[string]struct {
		do, undo func()
		now      time.Time
		want     string
	}{
		"soon":    {now: now.AddDate(3, 0, -50), want: "authority: ends in "},
		"expired": {now: now.AddDate(3, 0, 1), want: "authority: has expired"},
		"a mode": {
			do: func() { _ = os.Chmod(key, 0o644) }, undo: func() { _ = os.Chmod(key, 0o600) },
			want: "others may read it",
		},
		"an owner": {
			do: func() { _ = os.Chown(key, agentUID, 0) }, undo: func() { _ = os.Chown(key, 0, 0) },
			want: "belongs to user",
		},
		"a second name": {
			do: func() { _ = os.Link(key, filepath.Join(h.dir, "second")) }, undo: func() { _ = os.Remove(filepath.Join(h.dir, "second")) },
			want: "second name",
		},
		"a part": {
			do:   func() { _ = os.Rename(at.intermediate, at.intermediate+".away") },
			undo: func() { _ = os.Rename(at.intermediate+".away", at.intermediate) },
			want: "authority: the intermediate certificate of the authority is not its root's",
		},
		"a name": {
			do:   func() { cfg.Resources[0].TLS.Names = []string{"other.test"} },
			undo: func() { cfg.Resources[0].TLS.Names = []string{"db.test"} },
			want: "names of the authority: it may not vouch for other.test",
		},
		"undecoded": {
			do:   func() { cfg.Resources[0].TLS.Undecoded = config.Always },
			undo: func() { cfg.Resources[0].TLS.Undecoded = "" },
			want: "TLS to db: agents that a rule of policy names (undecoded) may have it with the server itself",
		},
		"in clear": {
			do: func() {
				cfg.Resources[0].TLS.Server = config.Off
				cfg.Resources[0].Addresses = append(cfg.Resources[0].Addresses, config.Endpoint(netip.MustParseAddrPort("127.0.0.2:5432")))
				cfg.Resources[0].TLS.Agent = config.Off
				cfg.Resources[0].Addresses[0] = config.Endpoint(netip.MustParseAddrPort("192.0.2.1:5432"))
			},
			undo: func() {
				cfg.Resources[0].TLS.Server, cfg.Resources[0].TLS.Agent = "", ""
				cfg.Resources[0].Addresses = []config.Address{config.Endpoint(netip.MustParseAddrPort("127.0.0.1:5432"))}
			},
			want: "TLS to db: off for 192.0.2.1:5432: ",
		},
	} {
		if c.do != nil {
			c.do()
		}
		if c.now.IsZero() {
			c.now = now
		}
		if bad := ask(c.now); !strings.Contains(bad, c.want) || strings.Count(bad, "\n") != 1 {
			t.Errorf("%s: %q, want %q alone", name, bad, c.want)
		}
		if c.undo != nil {
			c.undo()
		}
	}
	if err := os.RemoveAll(filepath.Dir(key)); err != nil {
		t.Fatal(err)
	}
	if bad := ask(now); !strings.Contains(bad, "has no authority") {
		t.Error(bad)
	}
}
