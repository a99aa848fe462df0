package recorder_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

func ids(t *testing.T, s *recorder.DB, f recorder.Filter) string {
	t.Helper()
	found, err := s.Sessions(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, x := range found {
		out = append(out, x.ID)
	}
	return strings.Join(out, " ")
}

func TestSearch(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	say := func(id, workload, actor, principal, resource, table, exact string) {
		x := newSession(id)
		x.Workload, x.Actor, x.Principal, x.Resource = workload, actor, principal, resource
		h.tell(events.Event{Kind: events.SessionOpen, Session: x})
		h.chunk(x, 1, events.ChunkStatement, exact[:len(exact)/2])
		h.chunk(x, 1, events.ChunkStatement, exact[len(exact)/2:])
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Verdict: events.Allow, Normalized: "SELECT $1", Objects: []string{table}})
	}
	say("s-1", "triage", "agent-a", "dr.grey", "clinic", "public.patients", "SELECT name FROM patients WHERE name = 'Iris Example'")
	say("s-2", "triage", "agent-b", "", "clinic", "public.visits", "SELECT 1 FROM visits")
	say("s-3", "billing", "dr.grey", "agent-a", "ledger", "Fin.Invoices", "SELECT total FROM Fin.Invoices")
	h.Add(events.Statement, "postgres", "s-3", []byte("{")) // says nothing, and stops nothing
	say("s-4", "billing", "agent-c", "dr.white", "ledger", "fin.patients", "DELETE FROM fin.patients")
	add(t, s, messages("h1", h.All())...)
	opened := func(id string) time.Time {
		x, err := s.Find(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return x.Opened
	}
	for _, c := range []struct {
		f    recorder.Filter
		want string
	}{
		{recorder.Filter{}, "s-4 s-3 s-2 s-1"},
		{recorder.Filter{Identity: "agent-a"}, "s-3 s-1"},
		{recorder.Filter{Identity: "dr.grey"}, "s-3 s-1"},
		{recorder.Filter{Identity: "triage"}, "s-2 s-1"},
		{recorder.Filter{Identity: "triage", Limit: 1}, "s-2"},
		{recorder.Filter{Identity: "agent-a", Resource: "clinic"}, "s-1"},
		{recorder.Filter{Identity: "agent"}, ""},
		{recorder.Filter{Identity: "clinic"}, ""},
		{recorder.Filter{Actor: "dr.grey"}, "s-3"},
		{recorder.Filter{Principal: "dr.grey"}, "s-1"},
		{recorder.Filter{Workload: "billing", Principal: "dr.white"}, "s-4"},
		{recorder.Filter{Since: opened("s-2"), Until: opened("s-4")}, "s-3 s-2"},
		{recorder.Filter{Identity: "agent-a", Until: opened("s-3")}, "s-1"},
		{recorder.Filter{Table: "patients"}, "s-4 s-1"},
		{recorder.Filter{Table: "public.patients"}, "s-1"},
		{recorder.Filter{Table: "fin.invoices"}, "s-3"},
		{recorder.Filter{Table: "patient"}, ""},
		{recorder.Filter{Table: "patients", Limit: 1}, "s-4"},
		{recorder.Filter{Text: "iris ex"}, "s-1"}, // across pieces of the exact text
		{recorder.Filter{Text: "select $1"}, "s-4 s-3 s-2 s-1"},
		{recorder.Filter{Text: "FROM", Table: "patients", Identity: "dr.white"}, "s-4"},
		{recorder.Filter{Text: "100%"}, ""},
	} {
		if got := ids(t, s, c.f); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}

// A list is read page by page, with sessions that began at one moment, and what
// comes meanwhile moves nothing.
func TestSearchByPages(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	for i := range 25 {
		h.n = i / 5 // five at a time
		x := newSession(fmt.Sprintf("s-%02d", 24-i))
		h.Add(events.SessionOpen, "postgres", x.ID, ocsf.Append(nil, x.ID, &events.Event{Kind: events.SessionOpen, Session: x, Time: noon.Add(time.Duration(i/5) * time.Second)}))
	}
	add(t, s, messages("h1", h.All())...)
	for _, f := range []recorder.Filter{{}, {Identity: "dr.grey"}} {
		all := ids(t, s, f)
		var got []string
		f.Limit = 4
		for {
			page, err := s.Sessions(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, x := range page {
				got = append(got, x.ID)
			}
			f.After = &page[len(page)-1]
		}
		if strings.Join(got, " ") != all || len(got) < 25 {
			t.Errorf("%q, want %q", got, all)
		}
	}
}

// fill stores so many events, 40 statements a session, of 200 people.
func fill(b *testing.B, s *recorder.DB, total int) {
	b.Helper()
	r := events.Record{Chain: "c1", Protocol: "postgres"}
	var batch []recorder.Message
	put := func(x *events.Session, e events.Event) {
		e.Session, e.Time = x, noon.Add(time.Duration(r.Seq)*time.Second)
		r.Seq, r.Prev, r.Kind, r.Session = r.Seq+1, r.Hash, e.Kind, x.ID
		r.Payload = ocsf.Append(nil, "u", &e)
		r.Hash = r.Sum()
		batch = append(batch, recorder.Message{Host: "h1", Record: r})
	}
	for i := 0; int(r.Seq) < total; i++ {
		x := newSession(fmt.Sprintf("%08d-7a31-7c00-8000-000000000000", i))
		x.Principal, x.Actor = fmt.Sprintf("dr.%03d", i*7%200), fmt.Sprintf("agent-%d", i%20)
		put(x, events.Event{Kind: events.SessionOpen})
		for n := uint64(1); n <= 40; n++ {
			put(x, events.Event{
				Kind: events.Statement, Number: n, Command: "SELECT", Normalized: "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
				Verdict: events.Allow, Objects: []string{"public.pgbench_accounts"}, Status: "ok", Rows: 1, Bytes: 60,
			})
		}
		put(x, events.Event{Kind: events.SessionClose, Status: "ok"})
		if len(batch) >= 16<<10 || int(r.Seq) >= total {
			if _, _, err := s.Add(b.Context(), batch, time.Now()); err != nil {
				b.Fatal(err)
			}
			batch = nil
		}
	}
}

// BenchmarkSearch asks who a person's sessions of a day were.
func BenchmarkSearch(b *testing.B) {
	const total = 200_000
	dir := b.TempDir()
	w, err := recorder.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, w, total)
	w.Close()
	s, err := recorder.OpenReader(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	day := noon.Add(time.Duration(total/2) * time.Second)
	for b.Loop() {
		found, err := s.Sessions(b.Context(), recorder.Filter{Identity: "dr.007", Since: day.Add(-24 * time.Hour), Until: day, Limit: 100})
		if err != nil || len(found) == 0 {
			b.Fatal(len(found), err)
		}
	}
}

// Every verdict finds the sessions that had it, and no others, also those that are rare,
// and what would have been done.
func TestSearchByVerdict(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	want := map[string][]string{"nonsense": nil}
	tell := func(verdict events.Verdict, would events.Would, names ...string) {
		for i := range 2 {
			x := newSession(fmt.Sprintf("%s-%d", names[len(names)-1], i))
			h.tell(events.Event{Kind: events.SessionOpen, Session: x})
			h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Verdict: verdict, Would: would, Status: "ok"})
			for _, name := range names {
				want[name] = append([]string{x.ID}, want[name]...)
			}
		}
	}
	for v := events.Deny; v <= events.Observed; v++ {
		tell(v, 0, v.String())
	}
	for w := events.WouldBlock; w <= events.WouldFilter; w++ {
		tell(events.Allow, w, "allow", w.String())
	}
	add(t, s, messages("h1", h.All())...)
	for verdict, list := range want {
		if got := ids(t, s, recorder.Filter{Verdict: verdict}); got != strings.Join(list, " ") {
			t.Errorf("%s: %q, want %q", verdict, got, list)
		}
		if got := ids(t, s, recorder.Filter{Verdict: verdict, Identity: "dr.grey"}); got != strings.Join(list, " ") {
			t.Errorf("%s of one identity: %q, want %q", verdict, got, list)
		}
	}
	if len(want) != 10 || len(want["allow"]) != 10 {
		t.Errorf("%v", want)
	}
}

// Sessions that share blocks, on hosts that take turns, are each searched in what is
// theirs, also where a session goes on in many blocks.
func TestSearchInSharedBlocks(t *testing.T) {
	s := open(t, newStore(t))
	const each = 40
	hosts := []*host{newHost("c1"), newHost("c2"), newHost("c3")}
	var want []string
	sessions := map[*host][]*events.Session{}
	for i := range each {
		for n, h := range hosts {
			x := newSession(fmt.Sprintf("s-%02d-%d", i, n))
			h.n = i*len(hosts) + n
			h.tell(events.Event{Kind: events.SessionOpen, Session: x})
			sessions[h] = append(sessions[h], x)
			want = append([]string{x.ID}, want...)
		}
	}
	for round := range 3 { // each a block of its own
		var batch []recorder.Message
		for n, h := range hosts {
			before := int(h.Last())
			if round == 0 {
				before = 0
			}
			for i, x := range sessions[h] {
				number := uint64(round + 1)
				h.chunk(x, number, events.ChunkStatement, fmt.Sprintf("SELECT 'said %d by %d on %d.'", round, i, n))
				h.tell(events.Event{
					Kind: events.Statement, Session: x, Number: number, Verdict: events.Allow, Normalized: "SELECT $1", Status: "ok",
					Objects: []string{fmt.Sprintf("public.t_%d_%d_%d", round, i, n)},
				})
			}
			batch = append(batch, messages(fmt.Sprintf("h%d", n), h.All()[before:])...)
		}
		add(t, s, batch...)
	}
	if got := ids(t, s, recorder.Filter{Text: "SAID 2"}); got != strings.Join(want, " ") {
		t.Errorf("%q", got)
	}
	for _, c := range [][3]int{{0, 0, 0}, {1, 7, 2}, {2, 39, 1}, {2, 12, 0}} {
		id := fmt.Sprintf("s-%02d-%d", c[1], c[2])
		if got := ids(t, s, recorder.Filter{Text: fmt.Sprintf("said %d by %d on %d.", c[0], c[1], c[2])}); got != id {
			t.Errorf("%v: by its text %q", c, got)
		}
		if got := ids(t, s, recorder.Filter{Table: fmt.Sprintf("t_%d_%d_%d", c[0], c[1], c[2])}); got != id {
			t.Errorf("%v: by its table %q", c, got)
		}
	}
	if got := ids(t, s, recorder.Filter{Text: "said 3"}); got != "" {
		t.Errorf("%q", got)
	}
}
