package ocsf_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// glanced is what a Glance tells, and told what Decode tells of the same.
func glanced(g ocsf.Glance, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%q %d %q %d %s", g.Kind, g.Number, g.Verdict, g.Rows, g.Time.UTC().Format(time.RFC3339Nano))
}

func told(b []byte) string {
	v, err := ocsf.Decode(b)
	known := false
	for verdict := events.Deny; verdict <= events.Observed; verdict++ {
		known = known || verdict.String() == v.Verdict
	}
	if !known {
		v.Verdict = ""
	}
	return glanced(ocsf.Glance{Kind: v.Kind, Time: v.Time, Number: v.Number, Verdict: v.Verdict, Rows: v.Rows}, err)
}

// A glance tells what a whole reading does, of the first event of a session and
// of those after it, also when the session changes.
func TestGlance(t *testing.T) {
	var g ocsf.Glancer
	other := session()
	other.Principal = "dr.yang"
	for _, s := range []*events.Session{session(), other, session()} {
		for _, ev := range append(examples(), more()...) {
			if ev.Session != nil && ev.Session.ID == s.ID {
				ev.Session = s
			}
			for _, number := range []uint64{ev.Number, 7, 1 << 63, 0} {
				ev.Number, ev.Rows = number, ev.Rows*1000
				ev.Message += `"quoted" and 	the like` + "\x01\xff"
				ev.Rules = append(ev.Rules, "another")
				b := ocsf.Append(nil, uid, ev)
				if got, want := glanced(g.Glance("s-1", b)), told(b); got != want {
					t.Errorf("%s\n%s, want %s", b, got, want)
				}
			}
		}
	}
}

// It is cheap for what there is most of.
func TestGlanceAllocatesNothing(t *testing.T) {
	var g ocsf.Glancer
	for _, ev := range examples() {
		if ev.Kind != events.Statement && ev.Kind != events.Response && ev.Kind != events.Block {
			continue
		}
		b := ocsf.Append(nil, uid, ev)
		n := testing.AllocsPerRun(100, func() {
			if _, err := g.Glance("s-1", b); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", ev.Kind, n)
		}
	}
}

// What a host says of its sessions, and how it names them, does not stay in
// memory however long it is; it is read all the same.
func TestGlanceKeepsLittle(t *testing.T) {
	const sessions, long = 40, 512 << 10
	var g ocsf.Glancer
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for what, make := range map[string]func(i int) (id, workload string){
		"workloads": func(i int) (string, string) { return fmt.Sprintf("s-%d", i), strings.Repeat("w", long) },
		"names":     func(i int) (string, string) { return fmt.Sprintf("%d%s", i, strings.Repeat("n", long)), "triage-bot" },
		"part of much": func(i int) (string, string) {
			return (fmt.Sprintf("part-%d", i) + strings.Repeat(" ", long))[:8], "triage-bot"
		},
	} {
		before := heap()
		for i := range sessions {
			id, workload := make(i)
			b := ocsf.Append(nil, uid, &events.Event{Kind: events.Statement, Time: time.Unix(1, 0), Session: session(), Number: 7, Verdict: events.Mask})
			b = bytes.ReplaceAll(b, []byte("triage-bot"), []byte(workload)) // Append would cut it; a host need not
			for range 2 {                                                   // the second behind the first
				if got, want := glanced(g.Glance(id, b)), told(b); got != want {
					t.Fatalf("%s: %s, want %s", what, got, want)
				}
			}
		}
		if kept := heap() - before; kept > 4<<20 {
			t.Errorf("%s: %d bytes are kept of %d sessions", what, kept, sessions)
		}
	}
	runtime.KeepAlive(&g)
}

func BenchmarkGlance(b *testing.B) {
	var g ocsf.Glancer
	for _, ev := range examples() {
		if ev.Kind != events.Statement && ev.Kind != events.Response {
			continue
		}
		p := ocsf.Append(nil, uid, ev)
		b.Run(ev.Kind.String(), func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := g.Glance("s-1", p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(ev.Kind.String()+" decoded", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := ocsf.Decode(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever comes after an event of the same session, a glance takes it for what
// a whole reading does, and refuses what that refuses.
func FuzzGlance(f *testing.F) {
	var all [][]byte
	for _, ev := range append(examples(), more()...) {
		all = append(all, ocsf.Append(nil, uid, ev))
	}
	for i, b := range all {
		f.Add(b, all[(i+1)%len(all)])
		f.Add(b, b)
		f.Add(b, bytes.Replace(b, []byte(`"rows":`), []byte(`"rows":9`), 1))
		f.Add(b, bytes.Replace(b, []byte(`"verdict":"`), []byte(`"verdict":"\u0061`), 1))
	}
	f.Fuzz(func(t *testing.T, first, then []byte) {
		var g ocsf.Glancer
		if got, want := glanced(g.Glance("s", first)), told(first); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		if got, want := glanced(g.Glance("s", then)), told(then); got != want {
			t.Fatalf("behind another: %s, want %s", got, want)
		}
	})
}
