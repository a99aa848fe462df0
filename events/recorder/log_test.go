package recorder_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

var logKey = ed25519.NewKeyFromSeed([]byte("a seed for tests, of 32 bytes...")[:32])

func logKeys(t *testing.T) tlog.Keys {
	t.Helper()
	_, v, err := tlog.Signer(logKey, "")
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Keys{Log: v}
}

// logAll has the log of a store follow it until it has all.
func logAll(t *testing.T, dir string, s *recorder.DB, o follow.Options) {
	t.Helper()
	o.Dir = recorder.LogFolder(home(dir))
	if o.Key == nil {
		o.Key = logKey
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- follow.Run(ctx, s, o) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	all, err := s.Entries(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := recorder.AwaitLog(ctx, o.Dir, logKeys(t), uint64(len(all)), 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

func verifyLogged(t *testing.T, dir string, by recorder.Logged) (recorder.Report, error) {
	t.Helper()
	s, err := recorder.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	by.Dir = recorder.LogFolder(home(dir))
	if by.Keys.Log == "" {
		by.Keys = logKeys(t)
	}
	return recorder.Verify(t.Context(), s, recorder.Noted{Log: &by})
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// anew computes a chain anew after an edit, with all of its hashes, and leaves no
// trace of it in the store: as an insider would who has this program's source.
func anew(t *testing.T, dir string, edit func([]events.Record) []events.Record) {
	t.Helper()
	var last events.Record
	rewrite(t, dir, func(rs []events.Record) []events.Record {
		rs = edit(rs)
		for i := range rs {
			r := &rs[i]
			r.Seq, r.Prev = uint64(i+1), [32]byte{}
			if i > 0 {
				r.Prev = rs[i-1].Hash
			}
			r.Hash = r.Sum()
			last = *r
		}
		return rs
	})
	raw(t, dir, fmt.Sprintf(`UPDATE chains SET head_seq = %d, proved_seq = %d, head_hash = x'%x', proved_hash = x'%x'`, last.Seq, last.Seq, last.Hash, last.Hash))
	raw(t, dir, fmt.Sprintf(`UPDATE spans SET last = %d`, last.Seq))
}

// An export is verified with nothing but the log's public key, and the first
// record that is not what it was is named although the whole chain was computed
// anew: each case edits the real files.
func TestVerifyOfflineAgainstTheLog(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	for part := range slices.Chunk(chain("c1", 300).All(), 50) {
		add(t, s, messages("h1", part)...)
	}
	bad := chain("c1", 9).All()[8]
	bad.Payload = []byte("another")
	add(t, s, recorder.Message{Host: "h1", Record: bad})
	logAll(t, dir, s, follow.Options{})
	early := asItIs(t, dir)
	add(t, s, messages("h1", chain("c1", 350).All()[300:])...)
	logAll(t, dir, s, follow.Options{})
	export := filepath.Join(t.TempDir(), "export")
	if err := recorder.Export(t.Context(), dir, home(dir), export, logKeys(t), 30*time.Second, nil); err != nil {
		t.Fatal(err)
	}
	sound, err := verifyLogged(t, export, recorder.Logged{All: true})
	if err != nil || len(sound.Faults) > 0 || sound.Log.Size != 8 || sound.Log.Unlogged != 0 {
		t.Fatalf("%+v, %v", sound, err)
	}
	before, err := verifyLogged(t, early, recorder.Logged{All: true})
	if err != nil || len(before.Faults) > 0 || before.Log.Size != 7 {
		t.Fatalf("%+v, %v", before, err)
	}

	same := func(rs []events.Record) []events.Record { return rs }
	evil := events.Record{Chain: "c1", Kind: 0, Protocol: "postgres", Session: "s-1", Payload: events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Time: time.Unix(1, 0)})}
	for name, c := range map[string]struct {
		edit func([]events.Record) []events.Record
		sql  string
		want string
	}{
		"written anew": {same, ``, ``},
		"changed": {func(rs []events.Record) []events.Record {
			rs[40].Payload = evil.Payload
			return rs
		}, ``, "41 changed"},
		"removed":                 {func(rs []events.Record) []events.Record { return slices.Delete(rs, 40, 41) }, ``, "41 changed"},
		"reordered":               {func(rs []events.Record) []events.Record { rs[40], rs[41] = rs[41], rs[40]; return rs }, ``, "41 changed"},
		"inserted":                {func(rs []events.Record) []events.Record { return slices.Insert(rs, 40, evil) }, ``, "41 changed"},
		"cut off":                 {func(rs []events.Record) []events.Record { return rs[:340] }, ``, "341 removed"},
		"cut off with its place":  {func(rs []events.Record) []events.Record { return rs[:300] }, `DELETE FROM leaves WHERE first = 301`, "301 cut"},
		"cut off without it":      {func(rs []events.Record) []events.Record { return rs[:300] }, ``, "301 removed"},
		"added":                   {func(rs []events.Record) []events.Record { return append(rs, evil) }, ``, "351 inserted"},
		"added with a place":      {func(rs []events.Record) []events.Record { return append(rs, evil) }, `INSERT INTO leaves VALUES (9, 'h1', 'c1', 351, 0)`, "351 inserted"},
		"places swapped":          {nil, `UPDATE leaves SET leaf = 99 WHERE leaf = 2; UPDATE leaves SET leaf = 2 WHERE leaf = 3; UPDATE leaves SET leaf = 3 WHERE leaf = 99`, "51 reordered"},
		"a place removed":         {nil, `DELETE FROM leaves WHERE leaf = 2`, "51 removed"},
		"the alarm removed":       {nil, `DELETE FROM alarms; UPDATE ends SET alarm = 0, alarm_link = x''`, "0 removed"},
		"the alarm and its place": {nil, `DELETE FROM alarms; UPDATE ends SET alarm = 0, alarm_link = x''; DELETE FROM leaves WHERE alarm = 1`, "0 removed"},
		"another session's": {func(rs []events.Record) []events.Record {
			rs[299].Protocol = "mysql"
			return rs
		}, ``, "300 changed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, export)
			if c.edit != nil {
				anew(t, dir, c.edit)
			}
			raw(t, dir, c.sql)
			rep, err := verifyLogged(t, dir, recorder.Logged{All: true, Earlier: &sound.Log.Checkpoint})
			if err != nil {
				t.Fatal(err)
			}
			if got := faults(rep); got != c.want {
				t.Errorf("found %q, want %q: %v", got, c.want, rep.Faults)
			}
		})
	}

	// A store that was put back, with its log or without.
	if rep, err := verifyLogged(t, early, recorder.Logged{Earlier: &sound.Log.Checkpoint}); err != nil || faults(rep) != "0 cut" {
		t.Errorf("put back with the log: %v, %v", rep.Faults, err)
	}
	back := copyDir(t, early)
	if err := os.RemoveAll(recorder.LogFolder(back)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(recorder.LogFolder(back), os.DirFS(recorder.LogFolder(export))); err != nil {
		t.Fatal(err)
	}
	if rep, err := verifyLogged(t, back, recorder.Logged{}); err != nil || faults(rep) != "301 cut" {
		t.Errorf("put back without the log: %v, %v", rep.Faults, err)
	}
	// The log goes on from what was seen before.
	if rep, err := verifyLogged(t, export, recorder.Logged{All: true, Earlier: &before.Log.Checkpoint}); err != nil || faults(rep) != "" {
		t.Errorf("%v, %v", rep.Faults, err)
	}
	wrong := before.Log.Checkpoint
	wrong.Root = strings.Repeat("0", 64)
	if rep, err := verifyLogged(t, export, recorder.Logged{All: true, Earlier: &wrong}); err != nil || faults(rep) != "0 changed" {
		t.Errorf("another log: %v, %v", rep.Faults, err)
	}

	// The log's own files.
	flip := func(dir, pattern string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(recorder.LogFolder(home(dir)), pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(f, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir2 := copyDir(t, export)
	flip(dir2, "checkpoint")
	if _, err := verifyLogged(t, dir2, recorder.Logged{}); err == nil || !strings.Contains(err.Error(), "not signed by the log's key") {
		t.Errorf("a changed checkpoint: %v", err)
	}
	_, other, err := tlog.Signer(ed25519.NewKeyFromSeed(make([]byte, 32)), sound.Log.Origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyLogged(t, export, recorder.Logged{Keys: tlog.Keys{Log: other}}); err == nil {
		t.Error("signed by another key")
	}
	dir2 = copyDir(t, export)
	flip(dir2, "tile/entries/*p/*")
	anew(t, dir2, func(rs []events.Record) []events.Record { return rs[:340] })
	if rep, err := verifyLogged(t, dir2, recorder.Logged{}); err != nil || len(rep.Faults) != 1 || !strings.Contains(rep.Faults[0].Detail, "can't say where") {
		t.Errorf("entries and store changed: %v, %v", rep.Faults, err)
	}

	// A follower does not go on behind a store that is not its own, nor from a copy.
	for _, log := range []string{export, dir} {
		if err := os.RemoveAll(recorder.LogFolder(back)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(recorder.LogFolder(back), os.DirFS(recorder.LogFolder(home(log)))); err != nil {
			t.Fatal(err)
		}
		if err := follow.Run(t.Context(), open(t, back), follow.Options{Dir: recorder.LogFolder(back), Key: logKey}); err == nil || !strings.Contains(err.Error(), "put back to an earlier state") {
			t.Errorf("a store that was put back: %v", err)
		}
	}
}

// Proofs of single entries, and of growth, from the files and the checkpoints.
func TestProofsOfTheLog(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	c := chain("c1", 700)
	for part := range slices.Chunk(c.All()[:300], 2) { // more than a tile has place for comes later
		add(t, s, messages("h1", part)...)
	}
	logAll(t, dir, s, follow.Options{})
	l := tlog.Open(recorder.LogFolder(home(dir)))
	first, _, err := l.Checkpoint(t.Context(), logKeys(t))
	if err != nil || first.Size != 150 {
		t.Fatal(first, err)
	}
	for part := range slices.Chunk(c.All()[300:], 2) {
		add(t, s, messages("h1", part)...)
	}
	logAll(t, dir, s, follow.Options{})
	cp, _, err := l.Checkpoint(t.Context(), logKeys(t))
	if err != nil || cp.Size != 350 {
		t.Fatal(cp, err)
	}
	entries, err := s.Entries(t.Context(), 0, 1000)
	if err != nil || len(entries) != 350 {
		t.Fatal(len(entries), err)
	}
	for _, at := range []uint64{0, 1, 149, 255, 256, 349} {
		path, err := l.Inclusion(t.Context(), at, cp.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := cp.CheckInclusion(at, entries[at], path); err != nil {
			t.Errorf("entry %d: %v", at, err)
		}
		if err := cp.CheckInclusion(at, entries[(at+1)%350], path); err == nil {
			t.Errorf("entry %d: another one is proved too", at)
		}
	}
	path, err := l.Consistency(t.Context(), first.Size, cp.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := cp.CheckConsistency(first, path); err != nil {
		t.Error(err)
	}
	first.Root = hex.EncodeToString(make([]byte, 32))
	if err := cp.CheckConsistency(first, path); err == nil {
		t.Error("consistent with another log")
	}
}

// witness is a C2SP tlog-witness: it signs what is consistent with what it saw.
type witness struct {
	signer *fnote.Signer
	log    note.Verifier
	seen   *flog.Checkpoint
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	head, cp, ok := strings.Cut(string(body), "\n\n")
	if err != nil || !ok || r.URL.Path != "/add-checkpoint" {
		http.Error(rw, "no", http.StatusServiceUnavailable)
		return
	}
	lines := strings.Split(head, "\n")
	var path [][]byte
	for _, l := range lines[1:] {
		b, err := base64.StdEncoding.DecodeString(l)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		path = append(path, b)
	}
	c, _, n, err := flog.ParseCheckpoint([]byte(cp), w.log.Name(), w.log)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusForbidden)
		return
	}
	var size uint64
	root := sha256.Sum256(nil)
	old := root[:]
	if w.seen != nil {
		size, old = w.seen.Size, w.seen.Hash
	}
	if lines[0] != fmt.Sprintf("old %d", size) {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", size)
		return
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, size, c.Size, path, old, c.Hash); err != nil {
		http.Error(rw, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	signed, err := note.Sign(&note.Note{Text: n.Text}, w.signer)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	w.seen = c
	_, sigs, _ := strings.Cut(string(signed), "\n\n")
	io.WriteString(rw, sigs)
}

// A witness outside signs each checkpoint, having checked that the log only
// grows. While it is away nothing is published, and what is verified with its key
// is what it signed.
func TestWitness(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example.org")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	lv, err := note.NewVerifier(logKeys(t).Log)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{signer: signer, log: lv}
	srv := httptest.NewServer(w)
	defer srv.Close()
	o := follow.Options{Witnesses: fmt.Appendf(nil, "witness w %s %s\nquorum w\n", vkey, srv.URL)}
	dir := newStore(t)
	s := open(t, dir)
	c := chain("c1", 30)
	add(t, s, messages("h1", c.All()[:10])...)
	logAll(t, dir, s, o)
	add(t, s, messages("h1", c.All()[10:20])...)
	logAll(t, dir, s, o)
	both := tlog.Keys{Log: logKeys(t).Log, Witnesses: []string{vkey}}
	rep, err := verifyLogged(t, dir, recorder.Logged{Keys: both})
	if err != nil || faults(rep) != "" || rep.Log.Size != 2 || !slices.Contains(rep.Log.Signed, "witness.example.org") || w.seen.Size != 2 {
		t.Fatalf("%+v, %v", rep.Log, err)
	}
	// A log that was made anew, by somebody who has its key, gets no signature.
	if err := os.RemoveAll(recorder.LogFolder(home(dir))); err != nil {
		t.Fatal(err)
	}
	raw(t, dir, `DELETE FROM leaves WHERE leaf = 1; UPDATE leaves SET leaf = 1`)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	o.Dir, o.Key = recorder.LogFolder(home(dir)), logKey
	if err := follow.Run(ctx, s, o); err != nil && !strings.Contains(err.Error(), "witness") {
		t.Error(err)
	}
	if _, err := verifyLogged(t, dir, recorder.Logged{Keys: both}); err == nil {
		t.Error("a log that was made anew has the witness's signature")
	}
}

// An export that fails leaves no folder that could be taken for one, and may be
// tried again; what is there already stays.
func TestExportThatFailsLeavesNothing(t *testing.T) {
	dir := newStore(t)
	s := open(t, dir)
	add(t, s, messages("h1", chain("c1", 10).All())...)
	logAll(t, dir, s, follow.Options{})
	export := filepath.Join(t.TempDir(), "export")
	tiles := filepath.Join(recorder.LogFolder(home(dir)), "tile")
	if err := os.Rename(tiles, tiles+"s"); err != nil {
		t.Fatal(err)
	}
	if err := recorder.Export(t.Context(), dir, home(dir), export, logKeys(t), 30*time.Second, nil); err == nil {
		t.Fatal("an export without the log's tiles")
	}
	if _, err := os.Stat(export); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	if err := os.Rename(tiles+"s", tiles); err != nil {
		t.Fatal(err)
	}
	if err := recorder.Export(t.Context(), dir, home(dir), export, logKeys(t), 30*time.Second, nil); err != nil {
		t.Fatal(err)
	}
	if err := recorder.Export(t.Context(), dir, home(dir), export, logKeys(t), 30*time.Second, nil); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if rep := verify(t, export); len(rep.Faults) > 0 || len(rep.Chains) != 1 {
		t.Errorf("%+v", rep)
	}
}
