package journal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
)

func message(payload []byte) (string, error) {
	var l line
	err := json.Unmarshal(payload, &l)
	return l.Message, err
}

// written makes a journal of n statements, each durable by itself, and
// returns its only segment.
func written(t testing.TB, n int) (dir, segment string, head journal.Head) {
	t.Helper()
	dir = t.TempDir()
	j := open(t, dir, journal.Options{})
	for i := range n {
		wait(t, must(t)(j.Append(event(events.Alarm, session(fmt.Sprint("s", i)), 0))))
	}
	head.Chain = j.Chain()
	head.Seq, head.Hash = j.Head()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	segs, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	if len(segs) != 1 {
		t.Fatal(segs)
	}
	return dir, segs[0], head
}

// The format, as docs/events.md gives it, read here by hand.
const headerSize = 88

func split(b []byte) (frames [][]byte) {
	for b = b[headerSize:]; len(b) > 0; {
		n := 12 + int(binary.BigEndian.Uint32(b[4:]))
		frames = append(frames, b[:n:n])
		b = b[n:]
	}
	return frames
}

// fix gives a frame the CRC of its content, as an insider would.
func fix(segment, frame []byte) {
	salt := binary.BigEndian.Uint32(segment[80:])
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Update(salt, table, frame[4:8]), table, frame[12:])
	binary.BigEndian.PutUint32(frame[8:], crc)
}

func TestVerifyNamesTheFirstFault(t *testing.T) {
	const n = 20
	edit := func(seg []byte, f func(frames [][]byte) [][]byte) []byte {
		return append(bytes.Clone(seg[:headerSize]), bytes.Join(f(split(bytes.Clone(seg))), nil)...)
	}
	for _, c := range []struct {
		name  string
		edit  func(seg []byte) []byte
		seq   uint64
		what  string
		blind bool // only the expected head shows it
	}{
		{"nothing", func(b []byte) []byte { return b }, 0, "", false},
		{"removed", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte { return append(f[:6:6], f[7:]...) })
		}, 7, "removed", false},
		{"changed, CRC mended", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte {
				f[4][len(f[4])-3] ^= 1
				fix(b, f[4])
				return f
			})
		}, 5, "changed", false},
		{"changed, CRC not mended", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte { f[4][len(f[4])-3] ^= 1; return f })
		}, 5, "changed", false},
		{"reordered", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte { f[8], f[9] = f[9], f[8]; return f })
		}, 9, "removed", false},
		{"twice", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte { return append(f[:9:9], f[8:]...) })
		}, 10, "reordered", false},
		{"header changed", func(b []byte) []byte { b = bytes.Clone(b); b[12] ^= 1; return b }, 1, "changed", false},
		{"cut", func(b []byte) []byte {
			return edit(b, func(f [][]byte) [][]byte { return f[:15] })
		}, 16, "cut", true},
		{"torn", func(b []byte) []byte { return b[:len(b)-5] }, 20, "cut", true},
	} {
		dir, path, head := written(t, n)
		seg, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.edit(seg), 0o600); err != nil {
			t.Fatal(err)
		}
		rep, err := journal.Verify(dir, journal.Expect{})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.blind || c.what == "" {
			if rep.Fault != nil {
				t.Errorf("%s: %v", c.name, rep.Fault)
			}
		} else if rep.Fault == nil || rep.Fault.Seq != c.seq || rep.Fault.What != c.what {
			t.Errorf("%s: %+v", c.name, rep.Fault)
		}
		rep, err = journal.Verify(dir, journal.Expect{Heads: []journal.Head{head}})
		if err != nil || (rep.Fault == nil) != (c.what == "") || rep.Fault != nil && (rep.Fault.Seq != c.seq || rep.Fault.What != c.what) {
			t.Errorf("%s, with head: %+v %v", c.name, rep.Fault, err)
		}
		after, _ := os.ReadFile(path)
		if !bytes.Equal(after, c.edit(seg)) {
			t.Errorf("%s: Verify changed the file", c.name)
		}
		// What Verify names without help, Open refuses.
		j, err := journal.Open(dir, options(journal.Options{}))
		if err == nil {
			j.Close()
		}
		if refused := err != nil; refused != (c.what != "" && !c.blind) {
			t.Errorf("%s: Open: %v", c.name, err)
		}
	}
}

// A chain that was computed anew is seen by what the host signed, and by a
// head that was noted elsewhere.
func TestVerifyAgainstSignatures(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{CheckpointEvery: time.Millisecond})
	key := j.HostKey()
	deadline := time.Now().Add(2 * time.Minute)
	for n := 0; n < 3 && time.Now().Before(deadline); {
		wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
		time.Sleep(5 * time.Millisecond)
		n = 0
		for _, r := range all(t, j, 1) {
			if r.Kind == events.Checkpoint {
				n++
				h, err := journal.ParseCheckpoint(decode(t, r).Message, key)
				if err != nil || h.Chain != j.Chain() || h.Seq != r.Seq-1 || h.Hash != r.Prev {
					t.Fatalf("%+v %v", h, err)
				}
			}
		}
	}
	j.Close()
	ex := journal.Expect{HostKey: key, Message: message}
	rep, err := journal.Verify(dir, ex)
	if err != nil || rep.Fault != nil || rep.Checkpoints < 3 {
		t.Fatalf("%+v %v", rep, err)
	}
	segs, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	seg, _ := os.ReadFile(segs[0])
	// Record 1 is changed, and the whole chain made to agree.
	var prev [32]byte
	out := bytes.Clone(seg[:headerSize])
	for i, f := range split(bytes.Clone(seg)) {
		if i == 0 {
			f[len(f)-3] ^= 1
		}
		copy(f[12+48:], prev[:])
		r := parse(t, f)
		prev = r.Sum()
		copy(f[12+16:], prev[:])
		fix(seg, f)
		out = append(out, f...)
	}
	if err := os.WriteFile(segs[0], out, 0o600); err != nil {
		t.Fatal(err)
	}
	if rep, err := journal.Verify(dir, journal.Expect{}); err != nil || rep.Fault != nil {
		t.Fatalf("the forger was not good enough: %+v %v", rep.Fault, err)
	}
	rep, err = journal.Verify(dir, ex)
	if err != nil || rep.Fault == nil || rep.Fault.What != "changed" || rep.Fault.Seq > 2 {
		t.Fatalf("%+v %v", rep.Fault, err)
	}
	other := bytes.Clone(key)
	other[0] ^= 1
	if rep, err := journal.Verify(dir, journal.Expect{HostKey: other, Message: message}); err != nil || rep.Fault == nil {
		t.Fatal("a checkpoint was believed by a foreign key")
	}
}

// parse reads a frame by hand, after docs/events.md.
func parse(t *testing.T, frame []byte) events.Record {
	t.Helper()
	b := frame[12+48:]
	var r events.Record
	copy(r.Prev[:], b)
	r.Seq = binary.BigEndian.Uint64(b[32:])
	r.Kind = events.Kind(b[40])
	b = b[41:]
	text := func() string {
		n := binary.BigEndian.Uint32(b)
		s := string(b[4 : 4+n])
		b = b[4+n:]
		return s
	}
	r.Chain, r.Protocol, r.Session = text(), text(), text()
	r.Payload = b[8:]
	copy(r.Hash[:], frame[12+16:])
	return r
}

func TestFormatByHand(t *testing.T) {
	_, path, head := written(t, 3)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var prev [32]byte
	for i, f := range split(b) {
		r := parse(t, f)
		if r.Seq != uint64(i+1) || r.Chain != head.Chain || r.Prev != prev || r.Sum() != r.Hash || r.Kind != events.Alarm {
			t.Fatalf("%+v", r)
		}
		if !bytes.Equal(r.Append(nil), f[12+48:]) {
			t.Fatal("the canonical form is another")
		}
		prev = r.Hash
	}
	if prev != head.Hash {
		t.Fatal("the head is another")
	}
}

// The commands that docs/events.md gives for verifying by hand do verify.
func TestDocumentedCommands(t *testing.T) {
	docs, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(docs), "\n### Verify by hand\n")
	_, rest, ok2 := strings.Cut(rest, "\n    f=")
	script, _, ok3 := strings.Cut("    f="+rest, "\n\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("the commands are not where they were")
	}
	dir, path, head := written(t, 3)
	if filepath.Base(path) != "00000000000000000001.seg" {
		t.Fatal(path)
	}
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Fields(string(out))
	if len(lines) != 9 {
		t.Fatalf("%s", out)
	}
	prev := strings.Repeat("0", 64)
	for i := 0; i < 9; i += 3 {
		if lines[i] != lines[i+1] || lines[i+2] != prev {
			t.Fatalf("%s", out)
		}
		prev = lines[i]
	}
	if prev != fmt.Sprintf("%x", head.Hash) {
		t.Fatal("the head is another")
	}
}

// Every single flipped bit is either cut as a torn tail, and then takes
// nothing with it that a later record knew to be durable, or refused.
func TestBitFlips(t *testing.T) {
	const n = 6
	_, path, _ := written(t, n)
	seg, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	frames := split(seg)
	tail := len(seg) - len(frames[n-1])
	for off := 0; off < len(seg); off++ {
		bad := bytes.Clone(seg)
		bad[off] ^= 1 << (off % 8)
		d := newDisk()
		put(d, filepath.Base(path), bad)
		j, err := on(t, d, journal.Options{})
		if off < tail && err == nil {
			j.Close()
			t.Fatalf("byte %d of %d: opened", off, len(seg))
		}
		if off >= tail {
			if err != nil {
				t.Fatalf("byte %d, in the last record: %v", off, err)
			}
			recs := all(t, j, 1)
			if len(recs) != n || recs[n-1].Kind != events.Lifecycle {
				t.Fatalf("byte %d: %d records", off, len(recs))
			}
			j.Close()
		}
	}
}

func put(d *disk, name string, b []byte) {
	d.names[name] = &inode{data: bytes.Clone(b), synced: bytes.Clone(b)}
	d.synced[name] = d.names[name]
}

func TestSegmentsThatAreGone(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{SegmentBytes: 4 << 10})
	for range 60 {
		wait(t, must(t)(j.Append(event(events.Alarm, session("s"), 0))))
	}
	j.Close()
	segs, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	if len(segs) < 3 {
		t.Fatal(segs)
	}
	for _, gone := range [][]string{{segs[0]}, {segs[1]}, segs} {
		kept := map[string][]byte{}
		for _, s := range gone {
			kept[s], _ = os.ReadFile(s)
			os.Remove(s)
		}
		if j, err := journal.Open(dir, options(journal.Options{})); err == nil {
			j.Close()
			t.Errorf("opened without %v", gone)
		}
		for s, b := range kept {
			os.WriteFile(s, b, 0o600)
		}
	}
	if _, err := journal.Verify(t.TempDir(), journal.Expect{}); err == nil {
		t.Error("an empty folder was verified")
	}
	j = open(t, dir, journal.Options{})
	if j.Last() != 60 {
		t.Fatal(j.Last())
	}
}

func TestKeysAreSecretAndStay(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	literal, host := j.LiteralKey(), j.HostKey()
	j.Close()
	j = open(t, dir, journal.Options{})
	if k, err := journal.ReadHostKey(dir); err != nil || !bytes.Equal(k, host) {
		t.Fatalf("%x %v", k, err)
	}
	if !bytes.Equal(literal, j.LiteralKey()) || !bytes.Equal(host, j.HostKey()) || len(literal) != 32 {
		t.Fatal("the keys changed")
	}
	for _, n := range []string{"literal.key", "host.key", "chain"} {
		fi, err := os.Stat(filepath.Join(dir, n))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", n, fi.Mode(), err)
		}
	}
	j.Close()
	if err := os.WriteFile(filepath.Join(dir, "literal.key"), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(dir, options(journal.Options{})); err == nil || !strings.Contains(err.Error(), "literal.key") {
		t.Fatal(err)
	}
}

func FuzzOpen(f *testing.F) {
	_, path, _ := written(f, 3)
	seg, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seg)
	f.Add(seg[:len(seg)-7])
	f.Add(seg[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDisk()
		put(d, "00000000000000000001.seg", b)
		j, err := on(t, d, journal.Options{})
		if err != nil {
			return
		}
		defer j.Close()
		wait(t, must(t)(j.Append(event(events.Alarm, nil, 0))))
		all(t, j, 1)
	})
}
