package approval_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// tearing is a disk that, once it has failed, takes nothing until all is written anew,
// as a file of which nobody knows how it ends.
type tearing struct {
	disk
	torn bool
}

func (d *tearing) Append(r []byte) error {
	if d.torn {
		return errors.New("who knows how it ends")
	}
	if err := d.disk.Append(r); err != nil {
		d.torn = true
		return err
	}
	return nil
}

func (d *tearing) Replace(all [][]byte) error {
	if d.fail.Load() {
		return errors.New("no space")
	}
	d.torn = false
	return d.disk.Replace(all)
}

// A disk that was full for a while is gone on with, and what failed meanwhile is not
// there, nor lost: a use that could not be kept is there to be used.
func TestDiskHasRoomAgain(t *testing.T) {
	w := newWorld(t)
	d := &tearing{}
	w.openAt(d)
	_, id := w.consume(asked(rule()))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	d.fail.Store(true)
	for range 3 {
		if state, _ := w.consume(asked(rule())); !strings.HasPrefix(state, "error") {
			t.Fatal(state)
		}
	}
	d.fail.Store(false)
	if state, _ := w.consume(asked(rule())); state != "runs" {
		t.Fatal(state)
	}
	w.disk.records = slices.Clone(d.records)
	w.open()
	if state, _ := w.consume(asked(rule())); state != "pending" {
		t.Error("it runs twice:", state)
	}
}

// Where the log's end is lost it may have been a use, or a revocation: nothing that
// was approved holds, and that is on the record; what waits goes on to wait.
func TestTornLogGivesNothing(t *testing.T) {
	w := newWorld(t)
	_, id := w.consume(asked(rule()))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	other := func(a *policy.Asked) { a.Request.Text = "other" }
	_, waits := w.consume(asked(rule(), other))
	before := slices.Clone(w.disk.records)
	reopen := func() (*approval.Book, error) {
		return approval.Open(slices.Clone(before), &w.disk, approval.Options{Now: w.clock, Tell: w.tell, Torn: true})
	}
	w.deaf.Store(true)
	if _, err := reopen(); err == nil || errors.Is(err, approval.ErrDamaged) {
		t.Error("it is not on the record:", err)
	}
	w.deaf.Store(false)
	b, err := reopen()
	if err != nil || b.Lost() != 1 {
		t.Fatal(b.Lost(), err)
	}
	w.Book = b
	for range 2 { // and after another start
		if state, again := w.consume(asked(rule())); state != "pending" || again == id {
			t.Error("what may have been used runs:", state)
		}
		if state, same := w.consume(asked(rule(), other)); state != "pending" || same != waits {
			t.Error(state, same)
		}
		w.open()
	}
	if got := w.told(); got != "requested seen approved requested expired requested" {
		t.Error(got)
	}
}

// swollen is a disk whose log has grown so that it is to be written anew, and can't be.
type swollen struct {
	disk
	full  bool
	tries int
}

func (d *swollen) Replace(all [][]byte) error {
	d.tries++
	if d.full {
		return errors.New("no space")
	}
	return d.disk.Replace(all)
}

func (d *swollen) Size() int64 { return d.disk.Size() << 20 }

// What is kept has happened, though the log can't be written anew just then: nobody is
// told that it failed, and no approval is lost by it. It is not tried each time.
func TestLogThatCannotBeWrittenAnew(t *testing.T) {
	w := newWorld(t)
	d := &swollen{}
	w.openAt(d)
	d.full = true
	r := rule(func(a *policy.Approval) { a.Uses = 500 })
	_, id := w.consume(asked(r))
	if err := w.approve(id); err != nil {
		t.Fatal(err)
	}
	d.tries = 0
	for i := range 400 {
		if state, ran := w.consume(asked(r)); state != "runs" || ran != id {
			t.Fatal(i, state)
		}
	}
	if d.tries == 0 || d.tries > 20 {
		t.Errorf("tried %d times in 400 writes", d.tries)
	}
	d.full = false
	for range 99 {
		w.consume(asked(r))
	}
	w.disk.records = slices.Clone(d.records)
	w.open()
	if e, err := w.Show(id); err != nil || e.Left != 1 {
		t.Error(e.Left, err)
	}
}
