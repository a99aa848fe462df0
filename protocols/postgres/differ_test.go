package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

var differFor = flag.Duration("differ", 0, "how long TestDiffer goes on with statements that nobody has seen")

// differ holds conversations of random statements through the passage and past
// it, and compares what comes back.
type differ struct {
	clinic, twin, direct, same door
	next                       uint32 // no relation of the databases has this number or a higher one

	open, refused, compared, errors, shown int // statements: over open data, refused of these, compared, answered by an error; over protected data
	reasons                                map[string]int
}

// door is a way to a database, and a session through it that goes on.
type door struct {
	dsn     string
	session *postgrestest.Session
}

// oblivious is a journal that keeps nothing: what is recorded is not looked at
// here, and is much.
type oblivious struct{}

func (o oblivious) Append(*events.Event) (events.Ticket, error) { return events.NewTicket(o, 1), nil }

func (o oblivious) Record(*events.Chunk) (events.Ticket, error) { return events.NewTicket(o, 1), nil }
func (oblivious) WaitWritten(uint64) error                      { return nil }
func (oblivious) WaitDurable(context.Context, uint64) error     { return nil }
func (oblivious) Durable() uint64                               { return 1 }

// newDiffer makes three databases: the clinic and its twin, to be reached
// through a passage, and a clinic to be reached past it.
func newDiffer(t testing.TB) *differ {
	t.Helper()
	if !borrowed {
		administer(t, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()") // all three stay alike
		makeTemplates(t, postgrestest.ShopSQL)
		makeClinics(t, clinic, twin, bare)
		for _, name := range []string{clinic, twin, bare} {
			administer(t, "ALTER DATABASE "+name+" SET statement_timeout = '2s'")
		}
	}
	d := &differ{next: nextOID(t, clinic), reasons: map[string]int{}}
	d.clinic.dsn = passageWith(t, clinic, oblivious{})
	d.twin.dsn = passageWith(t, twin, oblivious{})
	d.direct.dsn, d.same.dsn = directTo(bare), directTo(clinic)
	t.Cleanup(func() {
		for _, o := range []*door{&d.clinic, &d.twin, &d.direct, &d.same} {
			o.shut()
		}
	})
	return d
}

func (o *door) shut() {
	if o.session != nil {
		o.session.Close()
		o.session = nil
	}
}

// say sends statements one by one, in a transaction that leaves nothing behind;
// an error undoes its statement only.
func (o *door) say(t testing.TB, w postgrestest.Way, statements []string) (out []postgrestest.Reply) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if o.session == nil {
		var err error
		if o.session, err = postgrestest.Connect(ctx, o.dsn, ""); err != nil {
			t.Error(err)
			return nil
		}
	}
	aside := func(sql string) bool {
		r := o.session.Send(ctx, postgrestest.Simple, sql)
		if r.Failed == "" && !r.Ended && r.Refused == "" {
			return true
		}
		t.Errorf("%s: %s%s", sql, r.Failed, r.Refused)
		o.shut()
		return false
	}
	if !aside("BEGIN") {
		return nil
	}
	for _, sql := range statements {
		if !aside("SAVEPOINT undo") {
			return nil
		}
		r := o.session.Send(ctx, w, sql)
		out = append(out, r)
		if r.Failed != "" || r.Ended {
			o.shut()
			return out
		}
		if bytes.HasSuffix(r.Received, []byte("Z\x00\x00\x00\x05E")) && !aside("ROLLBACK TO undo") {
			return out
		}
	}
	_ = aside("ROLLBACK") && aside("DEALLOCATE ALL") && aside("CLOSE ALL") // names outlive a transaction
	return out
}

// conversation is what data stands for.
type conversation struct {
	reach      postgrestest.Reach
	way        postgrestest.Way
	statements []string
}

func conversationOf(data []byte) (c conversation) {
	data = append(data[:len(data):len(data)], 0, 0)[:max(2, len(data))]
	c.reach = postgrestest.Reach(int(data[0]) % int(postgrestest.Reaches))
	c.way = postgrestest.Ways[int(data[1])%len(postgrestest.Ways)]
	c.statements = postgrestest.Random(data[2:], c.reach)
	return c
}

func (c *conversation) String() string {
	return fmt.Sprintf("%v: %s", c.way, strings.Join(c.statements, "\n;;\n"))
}

// hold holds one, and says what is wrong with what came back: "" for nothing.
func (d *differ) hold(t testing.TB, c *conversation) string {
	var got, want []postgrestest.Reply
	aside := &d.direct
	if c.reach == postgrestest.Everything {
		aside = &d.twin
	}
	both(func() { got = d.clinic.say(t, c.way, c.statements) }, func() { want = aside.say(t, c.way, c.statements) })
	d.count(c, got, want)
	if d.differs(c, got, want) == "" {
		return ""
	}
	// It may be that the server does not give the same answer twice, or that a
	// session that has been there for long plans otherwise.
	for _, o := range []*door{&d.clinic, &d.twin, &d.same} {
		o.shut()
	}
	got = d.clinic.say(t, c.way, c.statements)
	if c.reach == postgrestest.Everything {
		want = d.twin.say(t, c.way, c.statements)
	} else {
		want = d.same.say(t, c.way, c.statements)
	}
	why := d.differs(c, got, want)
	if why == "" || c.reach != postgrestest.Everything && d.differs(c, d.same.say(t, c.way, c.statements), want) != "" ||
		c.reach == postgrestest.Everything && !found(why) && d.differs(c, d.clinic.say(t, c.way, c.statements), got) != "" {
		return ""
	}
	return why
}

const plantedWords = "a planted value: "

func found(why string) bool { return strings.Contains(why, plantedWords) }

func (d *differ) differs(c *conversation, got, want []postgrestest.Reply) string {
	for i := range min(len(got), len(want)) {
		g, w, sql := &got[i], &want[i], c.statements[i]
		switch {
		case g.Failed != "" || g.Ended:
			return fmt.Sprintf("%s\nthe session ended: %s", sql, g.Failed)
		case w.Failed != "" || w.Ended:
			return fmt.Sprintf("%s\nthe other session ended: %s", sql, w.Failed)
		case impatient(g.Received) || impatient(w.Received):
			return ""
		}
		// Errors of ours have no place in the server's source: only the SQLSTATE
		// counts, as where a statement was sent as another.
		brief := c.reach == postgrestest.OpenColumns || c.reach == postgrestest.Open && code.Match(g.Received) && !place.Match(g.Received)
		x, y := d.comparable(g.Received, brief), d.comparable(w.Received, brief)
		if c.reach == postgrestest.Everything {
			if l := postgrestest.Planted(g.Received, sql); l != "" && (x != y || strings.Contains(strings.ToLower(l), "canary")) {
				return fmt.Sprintf("%s\n%s%s", sql, plantedWords, l)
			}
		} else if g.Refused != "" {
			return "" // what follows is after something else
		} else if c.reach == postgrestest.OpenColumns && explains.MatchString(sql) {
			continue // it shows what was sent
		}
		e, f := code.FindString(x), code.FindString(y)
		if early[e] && e == f || brief && e != "" && (e == f || f != "" && early[e]) {
			continue // what a session knows of relations depends on what it did before
		}
		if x != y {
			return fmt.Sprintf("%s\nthrough:\n%q\nother:\n%q", sql, x, y)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d answers and %d", len(got), len(want))
	}
	return ""
}

// early are errors that are found before the server sees a statement: it may find
// another one first.
var early = map[string]bool{"\x00C42601\x00": true, "\x00C42P01\x00": true}

var explains = regexp.MustCompile(`(?i)^\s*EXPLAIN`)

// impatient reports an error that comes of how long something takes.
func impatient(b []byte) bool {
	return bytes.Contains(b, []byte("C57014\x00")) || bytes.Contains(b, []byte("C55P03\x00")) || bytes.Contains(b, []byte("C40P01\x00"))
}

// comparable is what came back, without an order of rows: not all statements ask
// for one. brief takes the SQLSTATE for all of an error.
func (d *differ) comparable(b []byte, brief bool) string {
	var messages []string
	for b = postgrestest.Timeless(b, d.next); len(b) >= 5; {
		n := min(int(binary.BigEndian.Uint32(b[1:]))+1, len(b))
		m := b[:n]
		b = b[n:]
		if brief && (m[0] == 'E' || m[0] == 'N') {
			messages = append(messages, string(m[:1])+string(code.Find(m)))
			continue
		}
		messages = append(messages, string(m[:1])+sessionWords.ReplaceAllString(string(m[min(5, n):]), ""))
	}
	slices.Sort(messages)
	return strings.Join(append(messages, string(b)), "\n")
}

var (
	code  = regexp.MustCompile(`\x00C[0-9A-Z]{5}\x00`)
	place = regexp.MustCompile(`\x00F[a-z_]+\.[a-z]+\x00L\d+\x00`)
)

// count counts what was said of a conversation, up to a refusal: what is behind
// it may fail for it.
func (d *differ) count(c *conversation, got, want []postgrestest.Reply) {
	for i := range min(len(got), len(want)) {
		failed := code.Match(got[i].Received)
		if c.reach == postgrestest.Everything {
			if got[i].Refused == "" && !failed {
				d.shown++
			}
			continue
		}
		d.open++
		switch {
		case failed && code.Match(want[i].Received):
			d.errors++
		case got[i].Refused != "":
			d.refused++
			why := variable.ReplaceAllString(got[i].Refused, "")
			d.reasons[why[:min(len(why), 160)]]++
			return
		default:
			d.compared++
		}
	}
}

var variable = regexp.MustCompile(`\{.*|"[^"]*"|\d+`)

// report says how much of it told something.
func (d *differ) report(t testing.TB) {
	t.Helper()
	t.Logf("over open data: %d statements, %d answered, %d errors, %d refused (%.1f%%); over everything: %d answered",
		d.open, d.compared, d.errors, d.refused, 100*float64(d.refused)/float64(max(d.open, 1)), d.shown)
	why := slices.SortedFunc(maps.Keys(d.reasons), func(a, b string) int { return d.reasons[b] - d.reasons[a] })
	for _, w := range why[:min(len(why), 30)] {
		t.Logf("%6d %s", d.reasons[w], w)
	}
}

// TestDiffer: a random statement over data with nothing protected in it has the
// answer that it has without us, or is refused; one over anything shows nothing
// protected, and the same where the protected values are others.
func TestDiffer(t *testing.T) {
	d := newDiffer(t)
	r := rand.NewChaCha8([32]byte{7})
	if *differFor > 0 {
		r = rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(time.Now().UnixNano()))))
	}
	begin := time.Now()
	n, leaks := 0, 0
	for ; n < 400 || time.Since(begin) < *differFor; n++ {
		data := make([]byte, 20+r.Uint64()%400)
		_, _ = r.Read(data)
		c := conversationOf(data)
		if why := d.hold(t, &c); why != "" {
			t.Errorf("%s\n\nin %v\n", why, &c)
		}
		// Without a passage many of them do show protected values.
		if c.reach == postgrestest.Everything && n < 400 {
			for i, a := range d.direct.say(t, c.way, c.statements) {
				if postgrestest.Planted(a.Received, c.statements[i]) != "" {
					leaks++
				}
			}
		}
	}
	t.Logf("%d conversations; %d statements leak without a passage", n, leaks)
	d.report(t)
	if leaks < 20 || d.compared < 100 || d.shown < 50 {
		t.Error("too little of it ran to tell")
	}
}

// FuzzDiffer is TestDiffer with statements that the fuzzer chooses.
func FuzzDiffer(f *testing.F) {
	d := newDiffer(f)
	r := rand.NewChaCha8([32]byte{8})
	for range 6 {
		data := make([]byte, 200)
		_, _ = r.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := conversationOf(data)
		if why := d.hold(t, &c); why != "" {
			t.Errorf("%s\n\nin %v\n", why, &c)
		}
	})
}
