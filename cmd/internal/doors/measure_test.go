package doors_test

import (
	"os"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/doors"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// measure tries all doors in all phases and writes their rows.
func measure(t *testing.T, to *os.File) {
	h := &host{}
	var err error
	if h.root, err = (redirect.Host{}).CgroupRoot(); err != nil {
		t.Fatal(err)
	}
	h.setUp(t)
	patience := 800 * time.Millisecond
	if s := os.Getenv("DOORS_PATIENCE"); s != "" { // slow machines, emulated ones
		if patience, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	var all []*door
	for _, g := range table {
		all = append(all, g.doors...)
	}
	in := func(p phase, ds []*door) (out map[string]*attempt) {
		t.Run(p.String(), func(t *testing.T) {
			redirecttest.Lock(t)
			begin := time.Now()
			w := &world{host: h, phase: p, up: make(chan struct{}), patience: patience}
			out = w.try(t, ds)
			t.Logf("%s: %d doors in %s", p, len(ds), time.Since(begin).Round(time.Millisecond))
		})
		if t.Failed() {
			t.FailNow()
		}
		return out
	}
	unverified := map[string]string{}
	var open []*door
	for name, a := range in(phase{}, all) {
		if a.answer(t) == doors.Passes {
			open = append(open, a.door)
		} else {
			if unverified[name] = a.door.Why[doors.Unverified]; unverified[name] == "" {
				unverified[name] = a.last()
			}
		}
	}
	var rows []doors.Row
	k := kernel(t)
	for _, mode := range []string{"cgroup", "host"} {
		alive, dead := in(phase{mode: mode}, open), in(phase{mode: mode, dead: true}, open)
		for _, d := range all {
			r := doors.Row{Kernel: k, Door: d.Name, Mode: mode, Answer: doors.Unverified, Why: unverified[d.Name]}
			if a := alive[d.Name]; a != nil {
				r.Answer, r.Dead = a.answer(t), dead[d.Name].answer(t)
				r.Why = d.Because(r.Answer)
				if r.Dead != doors.Refused && r.Answer != doors.Passes {
					t.Errorf("mode %s: %s: with the daemon dead: %s; with one: %s\n%q", mode, d.Name, r.Dead, r.Answer, dead[d.Name].log)
				}
				if r.Why == "" {
					t.Errorf("mode %s: %s: %s, and nobody has written why that is out of scope\n%q", mode, d.Name, r.Answer, a.log)
				}
			}
			rows = append(rows, r)
		}
	}
	if err := doors.WriteRows(to, rows); err != nil {
		t.Fatal(err)
	}
	to.Close()
}
