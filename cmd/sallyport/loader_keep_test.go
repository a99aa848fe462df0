package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/names"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
	"sallyport.dev/sallyport/intercept/workload"
)

// namesConfig is a configuration without a file: resources are names, with the
// ports that are protected there.
func namesConfig(t *testing.T, state string, resources map[string][]uint16) *config.Config {
	t.Helper()
	cfg := &config.Config{State: state}
	cfg.Interception = config.Interception{Mode: "cgroup", OldAddresses: time.Hour}
	for name, ports := range resources {
		r := config.Resource{Name: name}
		for _, p := range ports {
			r.Addresses = append(r.Addresses, config.Address{Name: name, Destination: intercept.Destination{First: p, Last: p}})
		}
		cfg.Resources = append(cfg.Resources, r)
	}
	return cfg
}

// missed asks the kernel all the time whether an endpoint is protected, and
// counts how often it was not.
func missed(t *testing.T, pins string, at netip.AddrPort) (stop func() (asked, missed int64)) {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(pins, bpf.GuardMapDestinations), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	key := bpf.GuardPrefix{Bits: 128}
	b := at.Addr().As16()
	for i := range key.Addr {
		key.Addr[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	var asked, lost atomic.Int64
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
			}
			var p bpf.GuardPorts
			asked.Add(1)
			if err := m.Lookup(key, &p); err != nil || p.N == 0 || p.At[0].First != at.Port() {
				lost.Add(1)
			}
		}
	}()
	return func() (int64, int64) {
		close(end)
		<-done
		m.Close()
		return asked.Load(), lost.Load()
	}
}

// A name that the kernel's table can't hold costs no other name its cover, not
// for a moment: in a reload, and at a start over a guard that stands.
func TestNamesStayProtectedBesideOneThatDoesNotFit(t *testing.T) {
	redirecttest.Lock(t)
	pins, port := redirecttest.TempPins(t), redirecttest.Port(t)
	state := filepath.Join(t.TempDir(), "state")
	one := namesConfig(t, state, map[string][]uint16{"one.test": {5432}})
	var many []uint16
	for p := range uint16(40) {
		many = append(many, 1000+2*p)
	}
	both := namesConfig(t, state, map[string][]uint16{"one.test": {5432}, "many.test": many})
	for _, cfg := range []*config.Config{one, both} {
		cfg.Interception.Pins, cfg.Interception.Port = pins, port
	}
	learn := func(w *nameWatch, cfg *config.Config) {
		w.set.Want(cfg.Names(), time.Now())
		for i, name := range []string{"one.test", "many.test"} {
			w.set.Learn(names.Answer{Name: name, Status: names.OK, TTL: time.Minute, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(7 + i)})}}, time.Now(), nil)
		}
	}
	w, err := newNames(one)
	if err != nil {
		t.Fatal(err)
	}
	learn(&w, one)
	g, err := w.bringNames(one)
	if err != nil {
		t.Fatal(err)
	}
	folder := g.Pins()
	g.Close()
	again, err := newNames(both)
	if err != nil {
		t.Fatal(err)
	}
	for what, w := range map[string]*nameWatch{"reload": &w, "start": &again} {
		learn(w, both)
		stop := missed(t, folder, netip.MustParseAddrPort("192.0.2.7:5432"))
		g, err := w.bringNames(both)
		if err == nil {
			learn(w, both) // the next answer brings the address back
			err = w.protect(g, both)
			g.Close()
		}
		asked, lost := stop()
		if err != nil || lost > 0 || asked == 0 {
			t.Errorf("%s: %d of %d times one.test was not protected, %v", what, lost, asked, err)
		}
		if told := fmt.Sprint(w.set.Troubles(time.Now())); !has(told, "many.test leads to addresses that can't be protected", "ranges of ports") {
			t.Errorf("%s: told: %s", what, told)
		}
		if len(w.good["one.test"].Current) != 1 || len(w.good["many.test"].Current) != 0 {
			t.Errorf("%s: known as protected: %v", what, w.good)
		}
	}
}

// A container that can't be described stays covered if it was, whatever a
// reload says of others; in mode host it is covered.
func TestUndescribedStaysCovered(t *testing.T) {
	redirecttest.Lock(t)
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/docker-%s%06d.scope", strings.Repeat("ab", 29), os.Getpid()%1e6)
	if err := os.Mkdir(root+path, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(root + path)
	var st unix.Stat_t
	if err := unix.Stat(root+path, &st); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.Interception = config.Interception{
		Mode: "cgroup", Pins: redirecttest.TempPins(t), Port: redirecttest.Port(t),
		Workloads: []workload.Selector{{Container: &workload.Container{Name: "nothing-of-this-name"}}},
	}
	covered := func() bool {
		t.Helper()
		s, err := redirect.GetStatus(cfg.Interception.Pins)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Covered {
			if strings.HasPrefix(c, "#") {
				t.Errorf("a cgroup that is gone is covered: %s", c)
			}
		}
		return slices.Contains(s.Covered, path)
	}
	var w nameWatch
	g, err := w.bringNames(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if covered() {
		t.Fatal("it is covered before anybody said so")
	}
	if err := g.Cover(st.Ino); err != nil {
		t.Fatal(err)
	}
	if err := g.Cover(1 << 60); err != nil { // of a cgroup that is gone
		t.Fatal(err)
	}
	g.Close()
	if g, err = w.bringNames(cfg); err != nil {
		t.Fatal(err)
	}
	g.Close()
	if !covered() {
		t.Error("it is not covered any more")
	}
	if err := unix.Rmdir(root + path); err != nil {
		t.Fatal(err)
	}
	if g, err = w.bringNames(cfg); err != nil {
		t.Fatal(err)
	}
	g.Close()
	if covered() {
		t.Error("it is gone, and covered")
	}
}
