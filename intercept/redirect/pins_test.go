package redirect_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/link"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

func TestUpAdopts(t *testing.T) {
	a, b := server(t, "127.0.0.1:0"), server(t, "127.0.0.1:0")
	cfg := config(t, a)
	up(t, cfg)
	before := linkIDs(t, cfg.Pins)
	cfg.Destinations = endpoints(b)
	g := up(t, cfg)
	for name, id := range linkIDs(t, cfg.Pins) {
		if before[name] != id {
			t.Errorf("%s was attached anew, not updated", name)
		}
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", a.String()); d.Line != "direct" {
		t.Errorf("a destination that was taken out: %+v", d)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", b.String()); !d.refused() {
		t.Errorf("a destination that came in: %+v", d)
	}
	if fi, err := os.Stat(filepath.Join(cfg.Pins, "v3")); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("pins: %v, %v", fi, err)
	}
	g.Close()
	if d := ask[dialled](t, guarded, "dial", "tcp", b.String()); !d.refused() {
		t.Errorf("after Close: %+v", d)
	}
	// A link taken away is seen, and put back.
	if err := os.Remove(filepath.Join(cfg.Pins, "v3", "link_connect4")); err != nil {
		t.Fatal(err)
	}
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || s.Up {
		t.Errorf("status without connect4: %+v, %v", s, err)
	}
	up(t, cfg)
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || !s.Up {
		t.Errorf("status after repair: %+v, %v", s, err)
	}
	if err := redirect.Down(cfg.Pins); err != nil {
		t.Fatal(err)
	}
	if _, err := redirect.GetStatus(cfg.Pins); !errors.Is(err, redirect.ErrNotUp) {
		t.Errorf("status after down: %v", err)
	}
	root, _ := redirect.Host{}.CgroupRoot()
	for _, c := range []string{"/sallyport.daemon", guarded} {
		if _, err := os.Stat(filepath.Join(root, c)); err == nil {
			t.Errorf("cgroup %s is left", c)
		}
	}
	for id := range attachedLinks(t) {
		for name, was := range before {
			if id == was {
				t.Errorf("link %s is left", name)
			}
		}
	}
	if err := redirect.Down(cfg.Pins); err != nil {
		t.Errorf("down twice: %v", err)
	}
}

func linkIDs(t *testing.T, pins string) map[string]link.ID {
	t.Helper()
	ids := map[string]link.ID{}
	files, _ := filepath.Glob(filepath.Join(pins, "v3", "link_*"))
	for _, f := range files {
		if filepath.Base(f) == "link_stream" {
			continue // no cgroup's, not on every kernel, and new each time: such links can't be updated
		}
		l, err := link.LoadPinnedLink(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		ids[filepath.Base(f)] = info.ID
	}
	if want := 19; len(ids) != want && len(ids) != want-5 {
		t.Fatalf("%d links pinned, want %d, or 5 less before kernel 6.7", len(ids), want)
	}
	return ids
}

func attachedLinks(t *testing.T) map[link.ID]bool {
	t.Helper()
	ids := map[link.ID]bool{}
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err == nil {
			ids[info.ID] = true
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestPinsOfANewerLayoutAreRefused(t *testing.T) {
	cfg := config(t)
	newer := filepath.Join(cfg.Pins, "v4")
	if err := os.MkdirAll(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := redirect.Up(cfg); !errors.Is(err, redirect.ErrLayout) {
		t.Errorf("up: %v", err)
	}
	if _, err := redirect.GetStatus(cfg.Pins); !errors.Is(err, redirect.ErrLayout) {
		t.Errorf("status: %v", err)
	}
	if err := redirect.Down(cfg.Pins); !errors.Is(err, redirect.ErrLayout) {
		t.Errorf("down: %v", err)
	}
	if err := os.Remove(newer); err != nil {
		t.Fatal(err)
	}
}

// Pins of an older layout stay until the new ones are in force: a whole guard
// is moved aside to stand for them.
func TestPinsOfAnOlderLayoutAreReplaced(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	up(t, cfg)
	if err := os.Rename(filepath.Join(cfg.Pins, "v3"), filepath.Join(cfg.Pins, "v1")); err != nil {
		t.Fatal(err)
	}
	if _, err := redirect.GetStatus(cfg.Pins); !errors.Is(err, redirect.ErrNotUp) {
		t.Errorf("status: %v", err)
	}
	before := attachedLinks(t)
	open(t, cfg)
	if _, err := os.Stat(filepath.Join(cfg.Pins, "v1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old pins are still there: %v", err)
	}
	after := attachedLinks(t)
	for id := range before {
		if after[id] {
			t.Errorf("link %d of the old guard is still attached", id)
		}
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Line == "direct" {
		t.Errorf("got through: %+v", d)
	} else if _, ok := d.facts(); !ok {
		t.Errorf("no passage: %+v", d)
	}
}

func TestUpRefusesBadConfiguration(t *testing.T) {
	loop := netip.MustParseAddrPort("127.0.0.1:15432")
	good := redirect.Config{Mode: "host", Port: 15432}
	for name, change := range map[string]func(*redirect.Config){
		"zero":            func(c *redirect.Config) { *c = redirect.Config{} },
		"mode":            func(c *redirect.Config) { c.Mode = "all" },
		"port":            func(c *redirect.Config) { c.Port = 0 },
		"guards itself":   func(c *redirect.Config) { c.Destinations = endpoints(loop) },
		"pins not on bpf": func(c *redirect.Config) { c.Pins = filepath.Join(t.TempDir(), "pins") },
	} {
		cfg := good
		change(&cfg)
		if g, err := redirect.Up(cfg); err == nil {
			g.Close()
			t.Errorf("%s: no error", name)
		}
	}
	redirecttest.Lock(t)
	pins := redirecttest.TempPins(t)
	for name, dst := range map[string]intercept.Destination{
		"no port": intercept.Endpoint(netip.MustParseAddrPort("10.0.0.1:0")), "any address": intercept.Endpoint(netip.MustParseAddrPort("0.0.0.0:5432")),
		"own port": {Prefix: netip.MustParsePrefix("127.0.0.0/8"), First: 1, Last: 65535}, "zero": {},
	} {
		cfg := redirect.Config{Mode: "host", Port: redirecttest.Port(t), Pins: pins, Destinations: []intercept.Destination{dst}}
		if _, err := redirect.Up(cfg); err == nil || !strings.Contains(err.Error(), "destination") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
