package recorder_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// host writes a chain as an interceptor does.
type host struct {
	*chaintest.Chain
	n int
}

func newHost(chain string) *host { return &host{Chain: chaintest.New(chain)} }

// tell appends an event, a second after the one before.
func (h *host) tell(ev events.Event) {
	h.n++
	ev.Time = noon.Add(time.Duration(h.n) * time.Second)
	h.Add(ev.Kind, ev.Session.Protocol, ev.Session.ID, ocsf.Append(nil, fmt.Sprintf("%s-%d", h.ID, h.n), &ev))
}

func (h *host) chunk(s *events.Session, number uint64, kind events.ChunkKind, data string) {
	h.Add(0, s.Protocol, s.ID, events.AppendChunk(nil, &events.Chunk{
		Number: number, Kind: kind, Time: noon.Add(time.Duration(h.n) * time.Second), Data: []byte(data),
	}))
}

// pieces is several in one record.
func (h *host) pieces(s *events.Session, cs ...events.Chunk) {
	b := []byte{events.Pieces}
	for _, c := range cs {
		c.Time = noon.Add(time.Duration(h.n) * time.Second)
		b = events.AppendPiece(b, &c)
	}
	h.Add(0, s.Protocol, s.ID, b)
}

func newSession(id string) *events.Session {
	return &events.Session{
		ID: id, Host: "h1", Protocol: "postgres", Resource: "clinic", Destination: netip.MustParseAddrPort("10.0.0.5:5432"),
		Workload: "triage-bot", Actor: "agent-a", Principal: "dr.grey", User: "agent", Database: "clinic",
	}
}

// work is a session with a masked statement, a refused one and a failed one.
func work(h *host, id string) {
	begun := newSession(id)
	begun.User, begun.Database = "", "" // not known before the login
	h.tell(events.Event{Kind: events.SessionOpen, Session: begun})
	s := newSession(id)
	h.tell(events.Event{Kind: events.Login, Session: s, Verdict: events.Allow, Rules: []string{"in"}})
	h.chunk(s, 1, events.ChunkStatement, "SELECT ssn FROM ")
	h.pieces(s, events.Chunk{Number: 1, Kind: events.ChunkStatement, Data: []byte("patients WHERE id = $1")},
		events.Chunk{Number: 1, Kind: events.ChunkBinds, Data: []byte("7")})
	h.tell(events.Event{
		Kind: events.Statement, Session: s, Number: 1, Command: "SELECT", Normalized: "SELECT ssn FROM patients WHERE id = $1",
		Verdict: events.Mask, Rules: []string{"hide"}, Masked: []events.Field{{Schema: "public", Relation: "patients", Column: "ssn"}},
	})
	h.chunk(s, 1, events.ChunkResult, "***")
	h.tell(events.Event{Kind: events.Response, Session: s, Number: 1, Status: "suspended", Rows: 2, Bytes: 20, Duration: time.Millisecond})
	h.tell(events.Event{Kind: events.Response, Session: s, Number: 1, Status: "ok", Rows: 3, Bytes: 30, Duration: 2 * time.Millisecond})
	h.chunk(s, 2, events.ChunkStatement, "DELETE FROM patients")
	h.tell(events.Event{
		Kind: events.Block, Session: s, Number: 2, Command: "DELETE", Normalized: "DELETE FROM patients", Writes: true,
		Verdict: events.Blocked, Rules: []string{"no-destruction"}, Reason: "agents may not", Remedy: "ask", Code: "42501",
	})
	h.tell(events.Event{Kind: events.Statement, Session: s, Number: 3, Command: "SELECT", Normalized: "SELECT $1 / $2", Verdict: events.Allow, Would: events.WouldMask, WouldRules: []string{"later"}, WouldMasked: []events.Field{{Schema: "public", Relation: "patients", Column: "city"}}})
	h.tell(events.Event{Kind: events.Response, Session: s, Number: 3, Status: "error", Code: "22012"})
	h.tell(events.Event{Kind: events.SessionClose, Session: s, Status: "ok", Rows: 5})
}

func TestSessions(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	work(h, "aaa-1")
	refused := newSession("aaa-2")
	h.tell(events.Event{Kind: events.Login, Session: refused, Verdict: events.Deny, Reason: "no token"})
	running := newSession("bbb-1")
	running.Workload = "billing"
	h.tell(events.Event{Kind: events.SessionOpen, Session: running})
	add(t, s, messages("h1", h.All())...)

	list := func(f recorder.Filter) (out []string) {
		t.Helper()
		found, err := s.Sessions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range found {
			out = append(out, x.ID)
		}
		return out
	}
	for _, c := range []struct {
		f    recorder.Filter
		want string
	}{
		{recorder.Filter{}, "bbb-1 aaa-2 aaa-1"}, // newest first
		{recorder.Filter{Limit: 1}, "bbb-1"},
		{recorder.Filter{Workload: "billing"}, "bbb-1"},
		{recorder.Filter{Resource: "other"}, ""},
		{recorder.Filter{Verdict: "mask"}, "aaa-1"},
		{recorder.Filter{Verdict: "would-mask"}, "aaa-1"},
		{recorder.Filter{Verdict: "would-block"}, ""},
		{recorder.Filter{Verdict: "block"}, "aaa-1"},
		{recorder.Filter{Verdict: "deny"}, "aaa-2"},
		{recorder.Filter{Since: noon.Add(2 * time.Second)}, "bbb-1 aaa-2"},
	} {
		if got := strings.Join(list(c.f), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}

	x, err := s.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	if x.Statements != 3 || x.Masked != 1 || x.Refused != 1 || x.Rows != 5 || x.Status != "ok" ||
		x.Closed == nil || !x.Opened.Equal(noon.Add(time.Second)) || x.Closed.Sub(x.Opened) != 8*time.Second ||
		x.User != "agent" || x.Database != "clinic" || x.Actor != "agent-a" || x.Principal != "dr.grey" || x.Destination != "10.0.0.5:5432" {
		t.Errorf("%+v", x)
	}
	if x, err = s.Find(t.Context(), "aaa-2"); err != nil || x.Status != "refused" || x.Closed == nil || x.Statements != 0 || x.Refused != 1 {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err = s.Find(t.Context(), "b"); err != nil || x.ID != "bbb-1" || x.Closed != nil {
		t.Errorf("%+v, %v", x, err)
	}
	for _, id := range []string{"aaa", "", "zzz"} {
		if x, err := s.Find(t.Context(), id); err == nil {
			t.Errorf("%q found %+v", id, x)
		}
	}
}

func TestShow(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	work(h, "aaa-1")
	add(t, s, messages("h1", h.All())...)
	x, err := s.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Show(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Requests) != 3 || len(d.Events) != 3 || d.User != "agent" {
		t.Fatalf("%+v", d)
	}
	q := d.Requests[0]
	if q.Exact != "SELECT ssn FROM patients WHERE id = $1" || !slices.Equal(q.Binds, []string{"7"}) || q.Verdict != "mask" ||
		!slices.Equal(q.Masked, []string{"public.patients.ssn"}) || !slices.Equal(q.Rules, []string{"hide"}) ||
		q.Rows != 5 || q.Bytes != 50 || q.Status != "ok" || q.Duration != 2*time.Millisecond {
		t.Errorf("%+v", q)
	}
	if q = d.Requests[1]; q.Exact != "DELETE FROM patients" || q.Verdict != "block" || q.Reason != "agents may not" || q.Remedy != "ask" || q.Code != "42501" || q.Status != "" {
		t.Errorf("%+v", q)
	}
	if q = d.Requests[2]; q.Verdict != "allow" || q.Status != "error" || q.Code != "22012" || q.Exact != "" {
		t.Errorf("%+v", q)
	}
	var kinds []events.ChunkKind
	for c, err := range s.Chunks(t.Context(), x) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, c.Kind)
	}
	if want := []events.ChunkKind{1, 1, 2, 3, 1}; !slices.Equal(kinds, want) {
		t.Errorf("chunks %v, want %v", kinds, want)
	}
}

// A statement that was decided twice, as at Bind and at Execute, counts once, as
// the last time, whether or not both come together.
func TestDecidedAgain(t *testing.T) {
	for _, together := range []bool{true, false} {
		s := open(t, newStore(t))
		h := newHost("c1")
		x := newSession("aaa-1")
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Verdict: events.Mask})
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: 2, Verdict: events.Mask})
		h.tell(events.Event{Kind: events.Block, Session: x, Number: 2, Verdict: events.Blocked})
		all := messages("h1", h.All())
		if !together {
			add(t, s, all[:2]...)
			all = all[2:]
		}
		add(t, s, all...)
		got, err := s.Find(t.Context(), "aaa-1")
		if err != nil || got.Statements != 2 || got.Masked != 1 || got.Refused != 1 {
			t.Errorf("together %v: %+v, %v", together, got, err)
		}
	}
}

// A session's name is chosen by its host: the same one of two hosts is two.
func TestSessionsOfTwoHosts(t *testing.T) {
	s := open(t, newStore(t))
	for _, name := range []string{"h1", "h2"} {
		h := newHost("c-" + name)
		work(h, "same")
		add(t, s, messages(name, h.All())...)
	}
	found, err := s.Sessions(t.Context(), recorder.Filter{})
	if err != nil || len(found) != 2 || found[0].Host == found[1].Host || found[0].Rows != 5 || found[1].Rows != 5 {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := s.Find(t.Context(), "same"); err == nil {
		t.Error("one of two was found")
	}
	for _, x := range found {
		if d, err := s.Show(t.Context(), x); err != nil || len(d.Requests) != 3 {
			t.Errorf("%s: %d requests, %v", x.Host, len(d.Requests), err)
		}
	}
}

// Records that come late, in any order, or twice, leave the same session.
func TestSessionFromLateRecords(t *testing.T) {
	h := newHost("c1")
	work(h, "aaa-1")
	all := messages("h1", h.All())
	first := open(t, newStore(t))
	add(t, first, all...)
	want, err := first.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	show := func(s *recorder.DB) string {
		d, err := s.Show(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		d.Session = recorder.Session{}
		return fmt.Sprintf("%+v", d)
	}
	whole := show(first)
	for missing := range all {
		s := open(t, newStore(t))
		late := []recorder.Message{all[missing], all[(missing+2)%len(all)]}
		add(t, s, slices.DeleteFunc(slices.Clone(all), func(m recorder.Message) bool {
			return m.Record.Seq == late[0].Record.Seq || m.Record.Seq == late[1].Record.Seq
		})...)
		if _, err := s.Settle(t.Context(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		add(t, s, append(late, late...)...)
		if got := show(s); got != whole {
			t.Errorf("records %d and %d last:\n%s\nwant\n%s", late[0].Record.Seq, late[1].Record.Seq, got, whole)
		}
		got, err := s.Find(t.Context(), "aaa-1")
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", flat(got)) != fmt.Sprintf("%+v", flat(want)) {
			t.Errorf("record %d last:\n%+v\nwant\n%+v", missing+1, flat(got), flat(want))
		}
	}
}

// flat is a session without pointers.
func flat(x recorder.Session) any {
	closed := *x.Closed
	x.Closed = nil
	return struct {
		recorder.Session
		closed time.Time
	}{x, closed}
}

// A host may say what it likes: the others are recorded and listed all the
// same, and nothing it says is taken for more than it can be.
func TestNonsenseOfOneHost(t *testing.T) {
	s := open(t, newStore(t))
	bad := newHost("c-bad")
	x := newSession("bad-1")
	bad.tell(events.Event{Kind: events.SessionOpen, Session: x})
	for range 1100 { // enough that the sum of what can be would overflow
		bad.tell(events.Event{Kind: events.Response, Session: x, Number: 1, Status: "ok", Rows: math.MaxInt64, Bytes: math.MaxInt64})
	}
	bad.tell(events.Event{Kind: events.Response, Session: x, Number: 2, Status: "ok", Rows: math.MaxInt64})
	bad.tell(events.Event{Kind: events.Response, Session: x, Number: math.MaxUint64, Status: "ok", Rows: math.MinInt64, Bytes: math.MinInt64})
	bad.Add(0, "postgres", "", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Data: []byte("nobody's")}))
	bad.Add(events.Statement, "postgres", "bad-1", []byte("{"))
	bad.Add(events.Statement, "postgres", "bad-1", ocsf.Append(nil, "u", &events.Event{Kind: events.Block, Session: x}))
	bad.Add(0, "postgres", "bad-1", []byte{0xff})
	alarms := add(t, s, messages("bad", bad.All())...)
	if want := []string{"undecodable 1104", "undecodable 1105", "undecodable 1106", "undecodable 1107"}; !slices.Equal(alarms, want) {
		t.Errorf("alarms %q, want %q", alarms, want)
	}
	good := newHost("c-good")
	work(good, "good-1")
	add(t, s, messages("good", good.All())...)
	found, err := s.Sessions(t.Context(), recorder.Filter{})
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, x := range found {
		if x.Rows < 0 || x.Host == "good" && x.Rows != 5 {
			t.Errorf("%+v", x)
		}
	}
}

// Any number that a statement can have is kept from one transaction to the
// next: the session goes on, and so do those of others.
func TestNumbersOfAllBits(t *testing.T) {
	for _, number := range []uint64{math.MaxInt64, 1 << 63, math.MaxUint64} {
		s := open(t, newStore(t))
		bad, good := newHost("c-bad"), newHost("c-good")
		x := newSession("bad-1")
		bad.tell(events.Event{Kind: events.Statement, Session: x, Number: number, Verdict: events.Mask})
		bad.tell(events.Event{Kind: events.Block, Session: x, Number: number, Verdict: events.Blocked})
		bad.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Verdict: events.Allow}) // as if late
		for _, m := range messages("bad", bad.All()) {
			if alarms := add(t, s, m); alarms != nil {
				t.Error(alarms)
			}
		}
		work(good, "good-1")
		add(t, s, append(messages("bad", bad.All()), messages("good", good.All())...)...)
		got, err := s.Find(t.Context(), "bad-1")
		if err != nil || got.Statements != 2 || got.Masked != 0 || got.Refused != 1 {
			t.Errorf("number %d: %+v, %v", number, got, err)
		}
		if _, err := s.Find(t.Context(), "good-1"); err != nil {
			t.Error(err)
		}
	}
}

// Of a result that was interrupted only what is recorded is known, and that is said.
func TestInterruptedIsWhatIsRecorded(t *testing.T) {
	s := open(t, newStore(t))
	h := newHost("c1")
	x := newSession("aaa-1")
	h.tell(events.Event{Kind: events.Statement, Session: x, Number: 1, Verdict: events.Allow})
	h.tell(events.Event{Kind: events.Response, Session: x, Number: 1, Status: "interrupted", Bytes: 70, Recorded: 70})
	h.tell(events.Event{Kind: events.Statement, Session: x, Number: 2, Verdict: events.Allow})
	h.tell(events.Event{Kind: events.Response, Session: x, Number: 2, Status: "ok", Rows: 1, Bytes: 10})
	add(t, s, messages("h1", h.All())...)
	found, err := s.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Show(t.Context(), found)
	if err != nil || len(d.Requests) != 2 || !d.Requests[0].RecordedOnly || d.Requests[0].Bytes != 70 || d.Requests[1].RecordedOnly {
		t.Errorf("%+v, %v", d.Requests, err)
	}
}

// Who saw somebody is found by the key that hosts have, in all records of a session,
// and by no other.
func TestSubjects(t *testing.T) {
	key := func(b string) *events.SubjectKey {
		k, err := events.ParseSubjectKey([]byte(strings.Repeat(b, 4)))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, another := key("00112233445566778"), key("8899aabbccddeeff0")
	of := func(k *events.SubjectKey, ids ...int) (out []events.Subject) {
		for _, id := range ids {
			out = append(out, k.Subject("patient", fmt.Append(nil, id)))
		}
		return out
	}
	s := open(t, newStore(t))
	h := newHost("c1")
	seeing := func(id string, number uint64, before, last []events.Subject) {
		x := newSession(id)
		h.tell(events.Event{Kind: events.Statement, Session: x, Number: number, Command: "select", Normalized: "select", Verdict: events.Allow, Untold: "clinic.notes: in a set operation"})
		if before != nil {
			h.tell(events.Event{Kind: events.Subjects, Session: x, Number: number, Subjects: before})
		}
		h.tell(events.Event{Kind: events.Response, Session: x, Number: number, Status: "ok", Rows: 3, Subjects: last, Named: int64(len(before) + len(last)), Untold: "clinic.notes: in a set operation"})
	}
	seeing("aaa-1", 1, nil, of(k, 1))
	seeing("aaa-1", 2, of(k, 2, 3), of(k, 4))
	add(t, s, messages("h1", h.All())...)
	seeing("aaa-1", 3, nil, of(k, 2))
	seeing("bbb-1", 7, nil, of(k, 2, 5))
	seeing("ccc-1", 1, nil, nil)
	add(t, s, messages("h1", h.All())...) // the first again, too
	for _, c := range []struct {
		of   []events.Subject
		want string
	}{
		{of(k, 1), "aaa-1 [1]"},
		{of(k, 2), "bbb-1 [7] aaa-1 [2 3]"},
		{of(k, 3), "aaa-1 [2]"},
		{of(k, 4), "aaa-1 [2]"},
		{of(k, 5, 1), "bbb-1 [7] aaa-1 [1]"},
		{of(k, 6), ""},
		{of(another, 1, 2, 3), ""},
		{of(another, 1), ""},
		{append(of(another, 2), of(k, 5)...), "bbb-1 [7]"},
		{[]events.Subject{k.Subject("doctor", []byte("1"))}, ""},
	} {
		found, err := s.Sessions(t.Context(), recorder.Filter{Subjects: c.of})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range found {
			got = append(got, fmt.Sprint(x.ID, " ", x.Sightings))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %v, and not %q", c.of, got, c.want)
		}
	}
	x, err := s.Find(t.Context(), "aaa-1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Show(t.Context(), x)
	if err != nil || len(d.Requests) != 3 || len(d.Requests[1].Subjects) != 3 || d.Requests[1].Named != 3 || d.Requests[1].Untold != "clinic.notes: in a set operation" || len(d.Events) != 0 {
		t.Errorf("%+v %v", d, err)
	}
}
