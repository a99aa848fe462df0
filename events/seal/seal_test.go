package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/seal"
)

const planted = "Quagmire-Giggity-7731"

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// host is a journal in a folder that seals for some recipients.
func host(t *testing.T, dir string, to ...*age.X25519Identity) (*journal.Journal, *seal.Journal) {
	t.Helper()
	j, err := journal.Open(dir, journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	var rs []age.Recipient
	for _, id := range to {
		rs = append(rs, id.Recipient())
	}
	s, err := seal.New(j, rs)
	if err != nil {
		t.Fatal(err)
	}
	return j, s
}

// speak records a session's transcript: short pieces, some of which wait for others, and
// one that no record holds.
func speak(t *testing.T, j events.Journal, id string) (said string) {
	t.Helper()
	s := &events.Session{ID: id, Host: "h1", Protocol: "postgres", Resource: "clinic"}
	tell := func(e events.Event) {
		t.Helper()
		e.Session, e.Time = s, time.Now()
		ticket, err := j.Append(&e)
		if err == nil {
			err = ticket.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tell(events.Event{Kind: events.SessionOpen})
	for n, data := range []string{"SELECT '" + planted + "'", planted, "", strings.Repeat(planted+" ", 40_000)} {
		c := events.Chunk{Session: s, Number: uint64(n), Kind: events.ChunkStatement, Time: time.Now(), Data: []byte(data), Later: n < 2}
		if n > 0 {
			c.Kind = events.ChunkResult
		}
		if _, err := j.Record(&c); err != nil {
			t.Fatal(err)
		}
		if string(c.Data) != data {
			t.Fatal("the caller's data is changed")
		}
		said += data
	}
	tell(events.Event{Kind: events.SessionClose, Status: "ok"})
	return said
}

// records are those of a journal that are of a session's transcript.
func records(t *testing.T, j *journal.Journal, session string) (out []events.Record) {
	t.Helper()
	in := j.Reader(1)
	defer in.Close()
	for last, seq := j.Last(), uint64(0); seq < last; {
		r, err := in.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if seq = r.Seq; r.Kind == 0 && r.Session == session {
			r.Payload = slices.Clone(r.Payload)
			out = append(out, r)
		}
	}
	return out
}

func open(t *testing.T, session string, rs []events.Record, ids ...age.Identity) (said string, err error) {
	t.Helper()
	return openOf(t, "h1", session, rs, ids...)
}

func openOf(t *testing.T, host, session string, rs []events.Record, ids ...age.Identity) (said string, err error) {
	t.Helper()
	o := seal.NewOpener(host, session, ids)
	for _, r := range rs {
		b, more, err := o.Payload(r.Payload)
		if err != nil {
			return said, err
		}
		if !more {
			continue
		}
		cs, err := events.ParseChunks(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			if c.Kind&events.Sealed != 0 || c.Kind == events.ChunkKey {
				t.Errorf("a chunk of kind %d is given", c.Kind)
			}
			said += string(c.Data)
		}
	}
	return said, nil
}

func holds(t *testing.T, dir, word string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || bytes.Contains(b, []byte(word))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// No file of the journal has a word of the transcript; each recipient reads all of it, and
// nobody else does.
func TestRecipientsAloneRead(t *testing.T) {
	dir, a, b, other := t.TempDir(), identity(t), identity(t), identity(t)
	j, s := host(t, dir, a, b)
	said := speak(t, s, "s-1")
	speak(t, s, "s-2")
	if holds(t, dir, planted) {
		t.Error("the planted word stands in the journal")
	}
	rs := records(t, j, "s-1")
	for _, ids := range [][]age.Identity{{a}, {b}, {other, b}} {
		if got, err := open(t, "s-1", rs, ids...); err != nil || got != said {
			t.Errorf("%d bytes of %d, %v", len(got), len(said), err)
		}
	}
	for _, ids := range [][]age.Identity{nil, {other}} {
		if got, err := open(t, "s-1", rs, ids...); !errors.Is(err, seal.ErrSealed) || got != "" {
			t.Errorf("%q, %v", got, err)
		}
	}
	// The same without recipients: the word is found where it is.
	plain := t.TempDir()
	k, err := journal.Open(plain, journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	speak(t, k, "s-1")
	if got, err := open(t, "s-1", records(t, k, "s-1")); !holds(t, plain, planted) || err != nil || got != said {
		t.Errorf("in clear: %d bytes, %v", len(got), err)
	}
}

// A piece opens in its own place alone.
func TestPiecesOpenInTheirPlace(t *testing.T) {
	id := identity(t)
	j, s := host(t, t.TempDir(), id)
	speak(t, s, "s-1")
	speak(t, s, "s-2")
	one, two := records(t, j, "s-1"), records(t, j, "s-2")
	if _, err := open(t, "s-2", one, id); err == nil || errors.Is(err, seal.ErrSealed) {
		t.Errorf("as another session's: %v", err)
	}
	for _, host := range []string{"h2", "", "h1s"} { // what a host can write is in its own name, and any session's
		if _, err := openOf(t, host, "s-1", one, id); err == nil || errors.Is(err, seal.ErrSealed) {
			t.Errorf("as another host's, %q: %v", host, err)
		}
	}
	if _, err := openOf(t, "h1s", "-1", one, id); err == nil {
		t.Error("as that of a host and a session whose names read the same")
	}
	if _, err := open(t, "s-1", append(slices.Clone(two[:1]), one[1:]...), id); err == nil {
		t.Error("with another session's key")
	}
	if _, err := open(t, "s-1", one[1:], id); err == nil || !strings.Contains(err.Error(), "has the key is not there") {
		t.Errorf("without the key: %v", err)
	}
	for name, edit := range map[string]func(c *events.Chunk){
		"number":    func(c *events.Chunk) { c.Number++ },
		"kind":      func(c *events.Chunk) { c.Kind = events.ChunkBinds | events.Sealed },
		"time":      func(c *events.Chunk) { c.Time = c.Time.Add(1) },
		"data":      func(c *events.Chunk) { c.Data[len(c.Data)-1] ^= 1 },
		"nonce":     func(c *events.Chunk) { c.Data[11] ^= 1 },
		"cut short": func(c *events.Chunk) { c.Data = c.Data[:20] },
	} {
		last := one[len(one)-1]
		cs, err := events.ParseChunks(nil, bytes.Clone(last.Payload))
		if err != nil {
			t.Fatal(err)
		}
		edit(&cs[0])
		last.Payload = events.AppendChunk(nil, &cs[0])
		if _, err := open(t, "s-1", append(slices.Clone(one[:len(one)-1]), last), id); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

// full is a journal that has no room.
type full struct{ events.Journal }

func (full) Record(*events.Chunk) (events.Ticket, error) { return events.Ticket{}, events.ErrFull }

// What can't be recorded is told, and is recorded once it can.
func TestNothingIsRecordedWithoutItsKey(t *testing.T) {
	id := identity(t)
	s, err := seal.New(full{}, []age.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	c := events.Chunk{Session: &events.Session{ID: "s-1", Host: "h1"}, Kind: events.ChunkStatement, Time: time.Now(), Data: []byte(planted)}
	if _, err := s.Record(&c); !errors.Is(err, events.ErrFull) {
		t.Error(err)
	}
	j, _ := host(t, t.TempDir(), id)
	s.Journal = j
	ticket, err := s.Record(&c)
	if err == nil {
		err = ticket.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, "s-1", records(t, j, "s-1"), id); err != nil || got != planted {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := seal.New(j, nil); err == nil {
		t.Error("no recipients: it is taken for sealed")
	}
}

// kept is a journal of what was recorded.
type kept struct {
	events.Journal
	rs []events.Record
}

func (k *kept) Record(c *events.Chunk) (events.Ticket, error) {
	k.rs = append(k.rs, events.Record{Session: c.Session.ID, Payload: events.AppendChunk(nil, c)})
	return events.Ticket{}, nil
}

// What is kept of a session that goes on for long is opened though its beginning, and the
// key there, was deleted.
func TestALongSessionHasManyKeys(t *testing.T) {
	id := identity(t)
	synctest.Test(t, func(t *testing.T) {
		k := new(kept)
		s, err := seal.New(k, []age.Recipient{id.Recipient()})
		if err != nil {
			t.Fatal(err)
		}
		var first int // record of the second day
		for n := range uint64(48) {
			if n == 24 {
				first = len(k.rs)
			}
			c := events.Chunk{Session: &events.Session{ID: "s-1", Host: "h1"}, Number: n, Kind: events.ChunkStatement, Time: time.Now(), Data: []byte(planted)}
			if _, err := s.Record(&c); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		for from, want := range map[int]int{0: 48, first: 24} {
			if got, err := open(t, "s-1", k.rs[from:], id); err != nil || got != strings.Repeat(planted, want) {
				t.Errorf("from record %d: %d bytes, %v", from, len(got), err)
			}
		}
	})
}

// The pieces of one long answer, which are of one time, open in their order alone, and once.
func TestPiecesOfOneAnswerKeepTheirOrder(t *testing.T) {
	id, k := identity(t), new(kept)
	s, err := seal.New(k, []age.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	c := events.Chunk{Session: &events.Session{ID: "s-1", Host: "h1"}, Kind: events.ChunkResult, Time: time.Now(), Data: bytes.Repeat([]byte("x"), 1<<20)}
	if _, err := s.Record(&c); err != nil {
		t.Fatal(err)
	}
	if len(k.rs) < 5 {
		t.Fatalf("%d records", len(k.rs))
	}
	rs := func() []events.Record { // opening is in place
		out := slices.Clone(k.rs)
		for i := range out {
			out[i].Payload = bytes.Clone(out[i].Payload)
		}
		return out
	}
	if got, err := open(t, "s-1", rs(), id); err != nil || got != string(c.Data) {
		t.Fatal(len(got), err)
	}
	swapped, twice := rs(), rs()
	swapped[2], swapped[3] = swapped[3], swapped[2]
	twice[3] = rs()[2]
	for name, rs := range map[string][]events.Record{"swapped": swapped, "twice": twice} {
		if _, err := open(t, "s-1", rs, id); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

// long is a recipient that makes keys long.
type long struct{}

func (long) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "long", Body: make([]byte, 256<<10)}}, nil
}

// A list that can't be encrypted to is refused at the start, not when somebody connects;
// one so long that its key would have no room on a record too: nobody could open it.
func TestRefusesRecipientsOfNoUse(t *testing.T) {
	many := slices.Repeat([]age.Recipient{identity(t).Recipient()}, 65)
	scrypt, err := age.NewScryptRecipient("a phrase beside others")
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string][]age.Recipient{"many": many, "long": {long{}}, "mixed": {identity(t).Recipient(), scrypt}} {
		if _, err := seal.New(new(kept), to); err == nil {
			t.Errorf("%s: they are taken", name)
		}
	}
	k := new(kept)
	s, err := seal.New(k, many[:64])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(&events.Chunk{Session: &events.Session{ID: "s-1", Host: "h1"}, Kind: events.ChunkStatement, Time: time.Now()}); err != nil || len(k.rs) != 2 {
		t.Errorf("%d records, %v", len(k.rs), err)
	}
}

// none is a journal that keeps nothing.
type none struct{ events.Journal }

func (none) Record(*events.Chunk) (events.Ticket, error) { return events.Ticket{}, nil }

// A piece costs no memory of its own.
func TestSealingAllocatesNothing(t *testing.T) {
	s, err := seal.New(none{}, []age.Recipient{identity(t).Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	c := events.Chunk{Session: &events.Session{ID: "s-1", Host: "h1"}, Kind: events.ChunkResult, Time: time.Now(), Data: bytes.Repeat([]byte("x"), 8<<10)}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Record(&c); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A crash leaves what was shown of a statement to be told, in bytes of what the agent saw.
func TestRecoveryCountsWhatWasShown(t *testing.T) {
	const shown = 1000
	want := func(sealed bool) string {
		dir := filepath.Join(t.TempDir(), "journal")
		j, err := journal.Open(dir, journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var in events.Journal = j
		if sealed {
			if in, err = seal.New(j, []age.Recipient{identity(t).Recipient()}); err != nil {
				t.Fatal(err)
			}
		}
		x := &events.Session{ID: "s-1", Host: "h1", Protocol: "postgres"}
		for _, e := range []events.Event{{Kind: events.SessionOpen}, {Kind: events.Statement, Number: 1, Verdict: events.Allow}} {
			e.Session, e.Time = x, time.Now()
			if _, err := in.Append(&e); err != nil {
				t.Fatal(err)
			}
		}
		ticket, err := in.Record(&events.Chunk{Session: x, Number: 1, Kind: events.ChunkResult, Time: time.Now(), Data: bytes.Repeat([]byte("x"), shown)})
		if err == nil {
			err = ticket.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		crashed := filepath.Join(t.TempDir(), "crashed")
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		k, err := journal.Open(crashed, journal.Options{Host: "h1", Encode: ocsf.Append, Revive: ocsf.Revive})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		r := k.Reader(1)
		defer r.Close()
		for range k.Last() {
			rec, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if rec.Kind == events.Response {
				v, err := ocsf.Decode(rec.Payload)
				if err != nil || v.Status != "interrupted" {
					t.Fatal(v, err)
				}
				return v.Message + " " + v.Reason
			}
		}
		t.Fatal("nothing tells how the statement ended")
		return ""
	}
	if plain, sealed := want(false), want(true); plain != sealed || !strings.Contains(plain, "1000") {
		t.Errorf("%q in clear, %q sealed", plain, sealed)
	}
}
