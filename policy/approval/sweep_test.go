package approval_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// What ends together waits for the disk a few times, not for each.
func TestSweepIsBatched(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		w.consume(asked(rule(), func(a *policy.Asked) {
			a.Request.Text = fmt.Sprint("DELETE ", i)
			a.Request.Session.Identity.Workload = fmt.Sprint("w", i%30)
		}))
	}
	w.pass(time.Hour)
	records, waits := len(w.disk.records), w.waits
	if err := w.Sweep(); err != nil {
		t.Fatal(err)
	}
	if n, m := len(w.disk.records)-records, w.waits-waits; n > 5 || m > 5 {
		t.Errorf("%d records and %d waits end 600 requests", n, m)
	}
	if n := strings.Count(w.told(), "expired"); n != 600 {
		t.Errorf("%d are expired on the record", n)
	}
	w.open()
	if l := w.List(false); len(l) != 0 {
		t.Errorf("%d are there after a restart", len(l))
	}
}

// wide is a disk that says how large it is.
type wide struct {
	disk
	size     int64
	replaced int
}

func (d *wide) Append(r []byte) error { d.size += int64(len(r)); return d.disk.Append(r) }
func (d *wide) Replace(all [][]byte) error {
	d.replaced++
	d.size = int64(len(bytes.Join(all, nil)))
	return d.disk.Replace(all)
}
func (d *wide) Size() int64 { return d.size + 70<<20 }

// Much that is held does not have the log written anew by each write.
func TestLogIsSeldomWrittenAnew(t *testing.T) {
	w := newWorld(t)
	d := &wide{}
	w.openAt(d)
	d.replaced = 0
	for i := range 50 {
		w.pass(approval.Every)
		w.consume(asked(rule(), func(a *policy.Asked) { a.Request.Text = fmt.Sprint("DELETE ", i) }))
	}
	if d.replaced > 0 {
		t.Errorf("written anew %d times", d.replaced)
	}
}

// What an agent says of itself in no UTF-8 changes no digest, and what is escaped
// when it is kept counts as much as it takes.
func TestDigestAfterRestart(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule(), func(a *policy.Asked) {
		a.Request.Session.Application, a.Request.Session.Database = "psql\xff", "clinic\xfe"
		a.Request.Text = "DELETE '<&>\u2028'"
	}))
	before, err := w.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := before.Digest()
	w.open()
	after, err := w.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	if y, _ := after.Digest(); x != y {
		t.Error("the digest is another one after a restart")
	}
	flood := func(a *policy.Asked) { a.Request.Session.Identity.Workload = "flood" }
	n := 0
	for state := "pending"; state == "pending"; n++ {
		w.pass(approval.Every)
		state, _ = w.consume(asked(rule(), flood, func(a *policy.Asked) { a.Request.Text = fmt.Sprint(n, strings.Repeat("\x01", 60<<10)) }))
	}
	if n > 60 {
		t.Errorf("%d requests of 360 KiB each are held", n)
	}
}
