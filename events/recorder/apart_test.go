package recorder_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// planted stands in a result, and must not stand in any file of an encrypted store.
const planted = "Quagmire-Giggity-7731"

// spoken is a session in whose transcript the planted word is, several times.
func spoken(id string) *host {
	h := newHost("c-" + id)
	work(h, id)
	s := newSession(id)
	for n := range uint64(20) {
		h.chunk(s, n+10, events.ChunkStatement, "SELECT '"+planted+"'")
		h.chunk(s, n+10, events.ChunkResult, planted+strings.Repeat(" "+planted, int(n)))
	}
	h.tell(events.Event{Kind: events.SessionClose, Session: s, Status: "closed"})
	return h
}

func apart(t *testing.T, dir string, ids ...age.Identity) recorder.Transcripts {
	t.Helper()
	return recorder.Transcripts{Store: transcripts.OpenFiles(recorder.TranscriptsFolder(home(dir))), Identities: ids}
}

// reader opens a store as the commands do.
func reader(t *testing.T, dir string, ids ...age.Identity) *recorder.DB {
	t.Helper()
	s, err := recorder.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.KeepTranscripts(apart(t, dir, ids...))
	return s
}

func verified(t *testing.T, s *recorder.DB, noted recorder.Noted) recorder.Report {
	t.Helper()
	rep, err := recorder.Verify(context.Background(), s, noted)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// bodyFiles are the files of a store's transcripts.
func bodyFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(recorder.TranscriptsFolder(home(dir)), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// holding are the files of a store, and the tables of one in PostgreSQL, that have a
// word in them.
func holding(t *testing.T, dir, word string) (found []string) {
	t.Helper()
	if recorder.IsURL(dir) {
		found = tablesHolding(t, dir, word)
	}
	dir = home(dir)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), word) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func tablesHolding(t *testing.T, store, word string) (found []string) {
	t.Helper()
	db, err := recorder.Connect(store)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var names string
	if err := db.QueryRow(`SELECT string_agg(quote_ident(tablename), ' ') FROM pg_tables WHERE schemaname = current_schema()`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(names) {
		var n int
		// Bytes print as hexadecimal digits.
		q := fmt.Sprintf(`SELECT count(*) FROM (SELECT t::text x FROM %s t) y WHERE strpos(x, '%s') > 0 OR strpos(x, '%x') > 0`, name, word, word)
		if err := db.QueryRow(q).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found = append(found, name)
		}
	}
	return found
}

func said(t *testing.T, s *recorder.DB, id string) (string, error) {
	t.Helper()
	x, err := s.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for c, err := range s.Chunks(t.Context(), x) {
		if err != nil {
			return all.String(), err
		}
		all.Write(c.Data)
	}
	return all.String(), nil
}

// TestTranscriptsApart keeps transcripts beside the records, shows them from there,
// and has Verify name the one that was removed or changed by hand.
func TestTranscriptsApart(t *testing.T) {
	for what, edit := range map[string]func(file string) error{
		"":        func(string) error { return nil },
		"removed": os.Remove,
		"changed": func(file string) error { return os.WriteFile(file, []byte("\x01nothing"), 0o600) },
	} {
		dir := newStore(t)
		s := open(t, dir)
		s.KeepTranscripts(apart(t, dir))
		if alarms := add(t, s, messages("h1", spoken("s-1").All())...); len(alarms) > 0 {
			t.Fatal(alarms)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files := bodyFiles(t, dir)
		if len(files) != 1 {
			t.Fatal(files)
		}
		if err := edit(files[0]); err != nil {
			t.Fatal(err)
		}
		r := reader(t, dir)
		rep := verified(t, r, recorder.Noted{})
		text, err := said(t, r, "s-1")
		x, err2 := r.Find(t.Context(), "s-1")
		d, err3 := r.Show(t.Context(), x)
		if err2 != nil || err3 != nil {
			t.Fatal(err2, err3)
		}
		if what == "" {
			if len(rep.Faults) > 0 || rep.Transcripts.Bodies != 1 || rep.Transcripts.Checked != 1 {
				t.Errorf("%+v", rep)
			}
			if err != nil || strings.Count(text, planted) != 20+210 || d.Requests[0].Exact != "SELECT ssn FROM patients WHERE id = $1" || len(d.Withheld) > 0 {
				t.Errorf("%v, %d bytes, %+v", err, len(text), d)
			}
			continue
		}
		// Record 3 is the first piece of the transcript.
		if len(rep.Faults) != 1 || rep.Faults[0].What != what || rep.Faults[0].Seq != 3 || !strings.Contains(rep.Faults[0].Detail, "s-1") {
			t.Errorf("%s: %+v", what, rep.Faults)
		}
		if !recorder.IsWithheld(err) || len(d.Withheld) != 1 || len(d.Requests) < 3 || d.Requests[0].Exact != "" || d.Requests[0].Verdict != "mask" {
			t.Errorf("%s: %v, %+v", what, err, d)
		}
	}
}

// TestEncryptedTranscripts wants no word of a transcript in any file, whatever way
// its records came; recipients read it, and the chain is verified by anybody.
func TestEncryptedTranscripts(t *testing.T) {
	var ids []*age.X25519Identity
	for range 3 {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	to := []age.Recipient{ids[0].Recipient(), ids[1].Recipient()}
	all := messages("h1", spoken("s-1").All())
	forged := all[10]
	forged.Record.Payload = []byte(planted) // its hash is not that: kept with the alarm
	odd := func(ms []recorder.Message) (out []recorder.Message) {
		for i := len(ms) - 1; i >= 0; i-- { // each waits for the one before it
			out = append(out, ms[i])
		}
		return out
	}
	for name, batches := range map[string][][]recorder.Message{
		"at once":   {all},
		"one each":  slices.Collect(slices.Chunk(all, 1)),
		"backwards": slices.Collect(slices.Chunk(odd(all), 1)),
		"in halves": {all[25:], all[3:25], {forged}, all[:3]},
		"twice":     {all[9:], all[5:], all, all},
	} {
		dir := newStore(t)
		if recorder.IsURL(dir) && len(batches) > 4 {
			continue // to start that often takes long there, and shows nothing more
		}
		for _, b := range batches { // each by a recorder that was started anew
			s := open(t, dir)
			keep := apart(t, dir)
			keep.Recipients = to
			s.KeepTranscripts(keep)
			add(t, s, b...)
			if found := holding(t, dir, planted); len(found) > 0 {
				t.Fatalf("%s: the planted word stands in %v", name, found)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if found := holding(t, dir, planted); len(found) > 0 {
			t.Fatalf("%s: the planted word stands in %v", name, found)
		}
		for i, by := range [][]age.Identity{{ids[0]}, {ids[1]}, {ids[2], ids[1]}, {ids[2]}, nil} {
			r := reader(t, dir, by...)
			rep := verified(t, r, recorder.Noted{})
			text, err := said(t, r, "s-1")
			x, _ := r.Find(t.Context(), "s-1")
			d, err2 := r.Show(t.Context(), x)
			if len(rep.Faults) > 0 || err2 != nil || rep.Chains[0].Records != uint64(len(all)) || rep.Chains[0].Waiting != 0 {
				t.Fatalf("%s, %d: %+v %v", name, i, rep, err2)
			}
			n := rep.Transcripts.Bodies
			if i < 3 && (err != nil || strings.Count(text, planted) != 20+210 || rep.Transcripts.Checked != n || d.Requests[0].Exact == "" || len(d.Withheld) > 0) {
				t.Errorf("%s, recipient %d: %v, %d bytes, %+v, %+v", name, i, err, len(text), rep.Transcripts, d.Withheld)
			}
			if i >= 3 && (!errors.Is(err, recorder.ErrSealed) || text != "" || rep.Transcripts.Sealed != n || len(d.Withheld) != 1 || d.Requests[0].Exact != "" || d.Statements != 3) {
				t.Errorf("%s, stranger %d: %v, %q, %+v, %+v", name, i, err, text, rep.Transcripts, d)
			}
		}
	}
}

// TestEncryptedTranscriptsAreHeldToWhatWasStored: who has no key finds a changed body.
func TestEncryptedTranscriptsAreHeldToWhatWasStored(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := newStore(t)
	s, keep := open(t, dir), apart(t, dir)
	keep.Recipients = []age.Recipient{id.Recipient()}
	s.KeepTranscripts(keep)
	add(t, s, messages("h1", spoken("s-1").All())...)
	file := bodyFiles(t, dir)[0]
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep := verified(t, reader(t, dir), recorder.Noted{}); len(rep.Faults) != 1 || rep.Faults[0].What != "changed" || rep.Faults[0].Seq != 3 {
		t.Errorf("%+v", rep.Faults)
	}
}

// away is a store of transcripts that is not there.
type away struct{ transcripts.Store }

var errAway = errors.New("the bucket is away")

func (away) Put(context.Context, string, []byte) error { return errAway }

// TestNoRecordWithoutItsBody: what can't be put apart is not stored, and comes again.
func TestNoRecordWithoutItsBody(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	all := messages("h1", spoken("s-1").All())
	keep := apart(t, dir)
	s.KeepTranscripts(recorder.Transcripts{Store: away{keep.Store}})
	if heads, _, err := s.Add(t.Context(), all, time.Now()); !errors.Is(err, errAway) || heads != nil {
		t.Fatal(heads, err)
	}
	if hs, err := s.Heads(t.Context()); err != nil || len(hs) != 0 {
		t.Fatal(hs, err)
	}
	s.KeepTranscripts(keep)
	for range 2 {
		add(t, s, all...)
	}
	if rep := verified(t, s, recorder.Noted{}); len(rep.Faults) > 0 || rep.Transcripts.Checked != 1 {
		t.Errorf("%+v", rep)
	}
}

// TestWaitingTranscriptsStayReadable: transcripts that waited, encrypted, for a record
// in front of them become bodies that are bounded as those of others are.
func TestWaitingTranscriptsStayReadable(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := newStore(t)
	s, keep := open(t, dir), apart(t, dir)
	keep.Recipients = []age.Recipient{id.Recipient()}
	s.KeepTranscripts(keep)
	h, x := newHost("c1"), newSession("s-1")
	h.tell(events.Event{Kind: events.SessionOpen, Session: x})
	h.tell(events.Event{Kind: events.Lifecycle, Session: x})
	const piece = 200 << 10
	for i := range uint64(12) {
		b := make([]byte, piece)
		rand.Read(b) // nothing to pack
		h.chunk(x, i, events.ChunkResult, string(b))
	}
	rs := h.All()
	add(t, s, messages("h1", rs[:1])...)
	for i := 2; i < len(rs); i++ {
		add(t, s, messages("h1", rs[i:i+1])...)
	}
	add(t, s, messages("h1", rs[1:2])...) // all have their place now
	for _, f := range bodyFiles(t, dir) {
		if st, err := os.Stat(f); err != nil || st.Size() > 4*piece {
			t.Errorf("a body of %d bytes, %v", st.Size(), err)
		}
	}
	if rep := verified(t, reader(t, dir, id), recorder.Noted{}); len(rep.Faults) > 0 || rep.Transcripts.Checked < 4 || rep.Transcripts.Checked != rep.Transcripts.Bodies {
		t.Errorf("%+v", rep)
	}
	if text, err := said(t, reader(t, dir, id), "s-1"); err != nil || len(text) != 12*piece {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
