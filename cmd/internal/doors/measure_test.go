package doors_test

import (
	"cmp"
	_ "embed"
	"maps"
	"os"
	"strings"
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
	patience := 1500 * time.Millisecond            // a lost SYN is sent again after a second
	if s := os.Getenv("DOORS_PATIENCE"); s != "" { // slow machines, emulated ones
		if patience, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	once := func(p phase, ds []*door) (out map[string]*attempt) {
		if len(ds) == 0 {
			return nil
		}
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
	found := standing(t)
	in := func(p phase, ds []*door) map[string]*attempt {
		out := once(p, ds)
		var lost []*door
		for _, a := range out {
			if a.answer(t) == doors.Refused && found.further(p, a.door) {
				lost = append(lost, a.door)
			}
		}
		p.again = true
		again := once(p, lost)
		maps.Copy(out, again)
		return out
	}
	var all []*door
	for _, g := range table {
		all = append(all, g.doors...)
	}
	r := result{kernel: kernel(t), unverified: map[string]string{}}
	var open, listed []*door
	for name, a := range in(phase{}, all) {
		d := a.door
		switch {
		case a.answer(t) != doors.Passes:
			r.unverified[name] = cmp.Or(d.Why[doors.Unverified], a.last())
		case !d.listed:
			open = append(open, d)
		case redirect.HaveUnix() == nil:
			listed = append(listed, d)
		}
	}
	for _, mode := range []string{"cgroup", "host"} {
		alive, dead := in(phase{mode: mode}, open), in(phase{mode: mode, dead: true}, open)
		if mode == "cgroup" { // in the other it would cut off all processes of this machine
			p := phase{mode: mode, listed: true}
			maps.Copy(alive, in(p, listed))
			p.dead = true
			maps.Copy(dead, in(p, listed))
		}
		for _, d := range all {
			r.add(t, mode, d, alive[d.Name], dead[d.Name])
		}
	}
	if err := doors.WriteRows(to, r.rows); err != nil {
		t.Fatal(err)
	}
	to.Close()
}

// result collects the rows of a kernel.
type result struct {
	kernel     string
	unverified map[string]string // why a door does not get through anyway
	rows       []doors.Row
}

// add judges a door in a mode by the attempts with a daemon, and without one;
// nil if it was not tried.
func (r *result) add(t *testing.T, mode string, d *door, alive, dead *attempt) {
	t.Helper()
	row := doors.Row{Kernel: r.kernel, Door: d.Name, Mode: mode}
	switch why := r.unverified[d.Name]; {
	case alive != nil:
		row.Answer, row.Dead = alive.answer(t), dead.answer(t)
		row.Why = d.Because(row.Answer)
		if row.Why == byNaming && redirect.HaveUnix() != nil {
			row.Why = beforeUnix
		}
		if row.Dead != doors.Refused && row.Answer != doors.Passes {
			t.Errorf("mode %s: %s: with the daemon dead: %s; with one: %s\n%q", mode, d.Name, row.Dead, row.Answer, dead.log)
		}
		if row.Why == "" {
			t.Errorf("mode %s: %s: %s, and nobody has written why that is out of scope\n%q", mode, d.Name, row.Answer, alive.log)
		}
	case why != "":
		row.Answer, row.Why = doors.Unverified, why
	case redirect.HaveUnix() != nil:
		row.Answer, row.Why = doors.Unverified, noList
	default:
		row.Answer, row.Why = doors.Unverified, "the same hook as in mode `cgroup`; a list in mode `host` would cut off every process of the machine that tests"
	}
	r.rows = append(r.rows, row)
}

//go:embed rows.jsonl
var stand string

// past is what was found of this kernel before, by door and mode.
type past map[[2]string]doors.Row

func standing(t *testing.T) past {
	t.Helper()
	rows, err := doors.ReadRows(strings.NewReader(stand))
	if err != nil {
		t.Fatal(err)
	}
	out := past{}
	for _, r := range rows {
		if r.Kernel == kernel(t) {
			out[[2]string{r.Door, r.Mode}] = r
		}
	}
	return out
}

// further reports whether a door led somewhere before. If it leads nowhere now,
// that may be for want of time, on a machine that is emulated or busy, and it is
// tried once more. A door that leads anywhere is never tried again.
func (p past) further(now phase, d *door) bool {
	switch r := p[[2]string{d.Name, cmp.Or(now.mode, "cgroup")}]; {
	case now.mode == "":
		return r.Answer != doors.Unverified && r.Answer != ""
	case now.dead:
		return r.Dead != doors.Refused && r.Dead != ""
	default:
		return r.Answer == doors.Redirected || r.Answer == doors.Passes
	}
}
