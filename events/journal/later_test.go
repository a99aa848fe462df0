package journal_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

// together opens a journal in which each statement that is Later waits.
func together(t *testing.T, d *disk) *journal.Journal {
	t.Helper()
	j, err := on(t, d, journal.Options{Together: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func unhurried(s *events.Session, n uint64) *events.Event {
	e := statement(s, n, fmt.Sprint("statement ", n))
	e.Later = true
	return e
}

// statuses tells shape's kinds with the outcomes.
func statuses(t *testing.T, j *journal.Journal) string {
	t.Helper()
	rs := all(t, j, 1)
	words := strings.Split(shape(t, rs), "; ")
	for i, r := range rs {
		if r.Kind != 0 {
			if l := decode(t, r); l.Status != "" {
				words[i] += " " + l.Status
			}
		}
	}
	return strings.Join(words, "; ")
}

// What was answered before anybody waited is one record, with the transcript
// behind it; what was not has its own, in front of all that is of it.
func TestStatementsShareTheirOutcomesRecord(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(j *journal.Journal, s *events.Session) (waits events.Ticket)
		want string
	}{
		"answered first": {func(j *journal.Journal, s *events.Session) events.Ticket {
			tk := must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Record(later(s, 1, events.ChunkStatement, "text")))
			must(t)(j.Record(now(s, 1, "rows")))
			must(t)(j.Append(event(events.Response, s, 1)))
			return tk
		}, `statement s ok; 11"text" 13"rows" s`},
		"without a transcript": {func(j *journal.Journal, s *events.Session) events.Ticket {
			tk := must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Append(event(events.Response, s, 1)))
			return tk
		}, `statement s ok`},
		"waited for first": {func(j *journal.Journal, s *events.Session) events.Ticket {
			tk := must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Record(later(s, 1, events.ChunkStatement, "text")))
			must(t)(j.Record(now(s, 1, "rows")))
			wait(t, tk)
			if err := record(j, now(s, 1, "more")); err != nil {
				t.Error(err)
			}
			return must(t)(j.Append(event(events.Response, s, 1)))
		}, `statement s; 11"text" 13"rows" s; 13"more" s; response s ok`},
		"a chunk waited for": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 1)))
			if err := record(j, now(s, 1, "rows")); err != nil {
				t.Error(err)
			}
			return must(t)(j.Append(event(events.Response, s, 1)))
		}, `statement s; 13"rows" s; response s ok`},
		"a long result": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Record(later(s, 1, events.ChunkStatement, "text")))
			must(t)(j.Record(now(s, 1, "rows"+strings.Repeat("x", 100<<10))))
			return must(t)(j.Append(event(events.Response, s, 1)))
		}, `statement s; 11"text" s; 13"rowsxxxxx" s; response s ok`},
		"two at once": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Append(unhurried(s, 2)))
			must(t)(j.Append(event(events.Response, s, 1)))
			tk := must(t)(j.Append(event(events.Response, s, 2)))
			return tk
		}, `statement s; statement s; response s ok; response s ok`},
		"another's outcome": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 2)))
			return must(t)(j.Append(event(events.Response, s, 1)))
		}, `statement s; response s ok`},
		"the session's end": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Record(now(s, 1, "rows")))
			return must(t)(j.Append(event(events.SessionClose, s, 0)))
		}, `statement s; 13"rows" s; session.close s ok`},
		"suspended": {func(j *journal.Journal, s *events.Session) events.Ticket {
			must(t)(j.Append(unhurried(s, 1)))
			must(t)(j.Append(event(events.Response, s, 1)))
			return must(t)(j.Append(event(events.Response, s, 1)))
		}, `statement s ok; response s ok`},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			j := together(t, d)
			s := session("s")
			wait(t, c.do(j, s))
			if st := j.Stats(); st.Reserved < 0 || st.Buffered != 0 {
				t.Errorf("%+v", st)
			}
			if got := statuses(t, j); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
			wait(t, must(t)(j.Append(event(events.SessionClose, s, 0))))
			if st := j.Stats(); st.Reserved != 0 {
				t.Errorf("%+v", st)
			}
			before := statuses(t, j)
			left := d.kill()
			j.Close()
			if got := statuses(t, together(t, left)); got != before {
				t.Errorf("%s\nafter a death\n%s", before, got) // nothing was open
			}
		})
	}
}

// A ticket of what waits is not done, and is after those that were before it.
func TestTicketsOfWhatWaits(t *testing.T) {
	j := together(t, newDisk())
	s := session("s")
	open := must(t)(j.Append(event(events.SessionOpen, s, 0)))
	wait(t, open)
	first := must(t)(j.Append(unhurried(s, 1)))
	if first.Done() || first.Zero() || first.Seq() != 0 || !first.After(open) || open.After(first) || !first.After(events.Ticket{}) {
		t.Errorf("done %v, zero %v, number %d", first.Done(), first.Zero(), first.Seq())
	}
	must(t)(j.Append(event(events.Response, s, 1)))
	second := must(t)(j.Append(unhurried(s, 2)))
	if !second.After(first) || first.After(second) {
		t.Error("the second is not after the first")
	}
	wait(t, first)
	wait(t, second)
	if !first.Done() || !second.Done() {
		t.Error("not done after a wait")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	third := must(t)(j.Append(unhurried(s, 3)))
	if err := third.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What nobody waits for is on the record soon all the same.
func TestStatementsDoNotWaitForever(t *testing.T) {
	j := together(t, newDisk())
	must(t)(j.Append(unhurried(session("a"), 1)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r := j.Reader(1)
	defer r.Close()
	if rec, err := r.Next(ctx); err != nil || rec.Kind != events.Statement {
		t.Errorf("%v %v", rec.Kind, err)
	}
	must(t)(j.Append(unhurried(session("b"), 1)))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if st := j.Stats(); st.Appended != 2 || st.Durable != 2 {
		t.Errorf("at its end: %+v", st)
	}
}

// Recovery closes what had no outcome, and leaves alone what told its own.
func TestRecoveryOfStatementsThatWaited(t *testing.T) {
	d := newDisk()
	j := together(t, d)
	s := session("s")
	must(t)(j.Append(unhurried(s, 1)))
	must(t)(j.Append(event(events.Response, s, 1)))
	must(t)(j.Append(unhurried(s, 2)))
	must(t)(j.Record(now(s, 2, "0123456789")))
	wait(t, must(t)(j.Append(unhurried(s, 3))))
	must(t)(j.Append(unhurried(s, 4))) // nobody waits, and nothing was shown
	left := d.kill()
	j.Close()
	j = together(t, left)
	if got, want := statuses(t, j), `statement s ok; statement s; 23"012345678" s; statement s; response s interrupted; response s interrupted`; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if l := decode(t, all(t, j, 5)[0]); l.Number != 2 || l.Recorded != 10 {
		t.Errorf("%+v", l)
	}
}

// What waits keeps its room, and what finds none is refused before it runs.
func TestStatementsThatWaitKeepTheirRoom(t *testing.T) {
	j, err := journal.Open(t.TempDir(), options(journal.Options{MaxBytes: 256 << 10, Together: -1}))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var taken []uint64
	for n := uint64(1); err == nil && n < 10000; n++ {
		if _, err = j.Append(unhurried(session(fmt.Sprint(n)), n)); err == nil {
			taken = append(taken, n)
		}
	}
	if !errors.Is(err, events.ErrFull) || len(taken) < 5 {
		t.Fatalf("after %d: %v", len(taken), err)
	}
	for _, n := range taken {
		must(t)(j.Append(event(events.Response, session(fmt.Sprint(n)), n)))
	}
	if st := j.Stats(); st.Reserved != 0 || st.Used > st.Max {
		t.Errorf("%+v", st)
	}
}

// All that the statement and its outcome say is told, whatever the caller does
// with what it gave.
func TestOneRecordTellsAll(t *testing.T) {
	var told events.Event
	o := options(journal.Options{Together: -1})
	o.Encode = func(dst []byte, uid string, e *events.Event) []byte {
		if e.Kind == events.Statement {
			told = *e
			told.Normalized = strings.Clone(e.Normalized)
		}
		return encode(dst, uid, e)
	}
	j, err := journal.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	outcome := map[string]bool{
		"Code": true, "Reason": true, "Status": true, "Rows": true, "Bytes": true, "BytesIn": true, "Duration": true, "Recorded": true,
		"Hash": true, "Detected": true, "Message": true,
		"Subjects": true, "Named": true,
	}
	st, re, want := &events.Event{}, &events.Event{}, &events.Event{}
	text := []byte("select $1")
	for i := range reflect.TypeFor[events.Event]().NumField() {
		f := reflect.TypeFor[events.Event]().Field(i)
		to := st
		if outcome[f.Name] {
			to = re
		}
		for _, e := range []*events.Event{to, want} {
			v := reflect.ValueOf(e).Elem().Field(i)
			switch p := v.Addr().Interface().(type) {
			case *string:
				*p = f.Name
			case *[]string:
				*p = []string{f.Name}
			case *bool:
				*p = true
			case *int64:
				*p = int64(i)
			case *uint64:
				*p = uint64(i)
			case *time.Time:
				*p = time.Unix(int64(i), 0)
			case *time.Duration:
				*p = time.Duration(i)
			case *[]events.Field:
				*p = []events.Field{{Column: f.Name}}
			case *[]events.Digest:
				*p = []events.Digest{{byte(i)}}
			case *[]events.Detection:
				*p = []events.Detection{{Kind: f.Name}}
			case *[]events.Subject:
				*p = []events.Subject{{Name: f.Name}}
			case *[32]byte:
				p[0] = byte(i)
			case *netip.AddrPort:
				*p = netip.MustParseAddrPort("192.0.2.1:1")
			case *events.Kind, *events.Verdict, *events.Would, **events.Session, **events.Process, **events.Approval:
			default:
				t.Fatalf("no value for %s: %T", f.Name, p)
			}
		}
	}
	s := session("s")
	st.Kind, st.Session, st.Verdict, st.Normalized = events.Statement, s, events.Mask, string(text)
	want.Kind, want.Session, want.Verdict, want.Normalized = events.Statement, s, events.Mask, string(text)
	re.Kind, re.Session, re.Number = events.Response, s, st.Number
	must(t)(j.Append(st))
	st.Rules[0], st.Objects[0], st.Masks[0], st.Masked[0], st.Revealed[0], st.Literals[0] = "x", "x", "x", events.Field{}, events.Field{}, events.Digest{}
	wait(t, must(t)(j.Append(re)))
	if !reflect.DeepEqual(&told, want) {
		t.Errorf("%+v\nwant\n%+v", told, *want)
	}
}

// Sessions of a resource that asks for no sync wait for none, and what they say is
// written before anything is shown all the same.
func TestUnsyncedSessionsWaitForNoSync(t *testing.T) {
	d := newDisk()
	j, err := on(t, d, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, must(t)(j.Append(event(events.Alarm, session("other"), 0))))
	d.mu.Lock()
	d.fail = func(op string, _ int) (bool, error) {
		if op == "sync" {
			return false, syscall.EIO
		}
		return true, nil
	}
	d.mu.Unlock()
	s := session("s")
	s.Unsynced = true
	first := unhurried(s, 1)
	tk := must(t)(j.Append(first)).Unsynced()
	must(t)(j.Append(event(events.Response, s, 1)))
	wait(t, tk)
	second := must(t)(j.Append(statement(s, 2, "a write"))).Unsynced()
	if tk.Done() || second.Done() {
		t.Error("told to be on stable storage")
	}
	wait(t, second)
	left := d.kill()
	j.Close()
	j, err = on(t, left, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if got, want := statuses(t, j), "alarm other ok; statement s ok; statement s; response s interrupted"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Many that wait at once take no more of the buffer than their records do, and what
// finds no room to wait does not wait.
func TestManyStatementsWait(t *testing.T) {
	const sessions = 5000
	for name, o := range map[string]journal.Options{"roomy": {Together: -1}, "tight": {Together: -1, BufferBytes: 256 << 10}} {
		t.Run(name, func(t *testing.T) {
			o.FS = newDisk()
			j, err := journal.Open("memory", options(o))
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			for n := range sessions {
				tk, err := j.Append(unhurried(session(fmt.Sprint("s-", n)), 1))
				if n%50 == 0 { // the disk keeps up
					wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
				}
				if err != nil || tk.Zero() {
					t.Fatalf("statement %d: %v", n, err)
				}
			}
			for n := range sessions {
				if n%50 == 0 {
					wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
				}
				if _, err := j.Append(event(events.Response, session(fmt.Sprint("s-", n)), 1)); err != nil {
					t.Fatalf("outcome %d: %v", n, err)
				}
			}
			wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
			if st := j.Stats(); st.Reserved != 0 || st.Buffered != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// What waits never takes the room of outcomes, however much longer its record is than
// what it tells, and whatever its outcome tells.
func TestRoomOfStatementsThatWait(t *testing.T) {
	for _, outcome := range []string{"", strings.Repeat("\x01", 4000)} {
		j, err := journal.Open(t.TempDir(), options(journal.Options{MaxBytes: 4 << 20, Together: -1}))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		// Writes under way, up to where no more fit beside what waits.
		writer, waiter := session("w"), session("r")
		var writes, waits uint64
		for err == nil {
			writes++
			if _, err = j.Append(statement(writer, writes, strings.Repeat("\x01", 200))); err == nil && writes%40 == 0 {
				waits++
				e := unhurried(session(fmt.Sprint("r-", waits)), 1)
				e.Normalized = strings.Repeat("\x01", 5000)
				e.WouldReason = strings.Repeat("\x01", 1000)
				_, err = j.Append(e)
			}
		}
		if !errors.Is(err, events.ErrFull) || writes < 100 {
			t.Fatalf("after %d: %v", writes, err)
		}
		for n := range waits {
			re := event(events.Response, session(fmt.Sprint("r-", n+1)), 1)
			re.Message = outcome
			// One that tells more than was foreseen may find no room; others do.
			if _, err := j.Append(re); err != nil && outcome == "" {
				t.Fatalf("outcome of what waited, %d: %v", n, err)
			}
		}
		for n := range writes - 1 {
			if _, err := j.Append(event(events.Response, writer, n+1)); err != nil {
				t.Fatalf("outcome of write %d of %d: %v", n+1, writes-1, err)
			}
		}
		must(t)(j.Append(event(events.SessionClose, waiter, 0)))
		if st := j.Stats(); st.Used > st.Max {
			t.Errorf("%+v", st)
		}
	}
}

// A sync that another session waits for takes along what has no outcome yet, and
// whoever shows the outcome then need not wait.
func TestStatementsGoWithTheSyncsOfOthers(t *testing.T) {
	j := together(t, newDisk())
	mine, other := session("mine"), session("other")
	tk := must(t)(j.Append(unhurried(mine, 1)))
	if tk.Done() {
		t.Fatal("it is durable at once")
	}
	theirs := must(t)(j.Append(statement(other, 1, "theirs")))
	wait(t, theirs)
	if !tk.Done() {
		t.Error("a sync has passed it by")
	}
	must(t)(j.Append(event(events.Response, mine, 1)))
	wait(t, tk)
	if got, want := statuses(t, j), "statement mine; statement other; response mine ok"; !strings.Contains(got, "statement mine") || strings.Contains(got, "statement mine ok") {
		t.Errorf("%s, want %s", got, want)
	}
}
