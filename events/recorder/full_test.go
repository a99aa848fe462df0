package recorder_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/chaintest"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
)

// TestFullDisk: a recorder whose disk is full acknowledges nothing that it has not
// stored, says so, and goes on when there is room; then it has all.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("sallyport-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("this test mounts a tmpfs, which root may: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, c := startServer(t), chaintest.New("c1")
	nc, err := jetstream.Connect(s.URL(), s.SeedFile(jetstream.RoleRecorder))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	key, err := jetstream.ReadPrivateKey(filepath.Join(t.TempDir(), "recorder.key"))
	if err != nil {
		t.Fatal(err)
	}
	store := open(t, dir)
	store.KeepTranscripts(apart(t, dir))
	full := make(chan error, 1)
	r := &recorder.Recorder{Conn: nc, Store: store, Key: key, Grace: time.Hour, Unstored: func(err error) {
		select {
		case full <- err:
		default:
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	for range 8 { // 8 MB that no packing makes less
		for range 16 {
			b := make([]byte, 64<<10)
			rand.Read(b)
			c.Add(0, "postgres", "s-1", events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Time: time.Now(), Data: b}))
		}
	}
	startShipper(t, s, &jetstream.Shipper{}, c)
	select {
	case err := <-full:
		t.Log("as it must be:", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("8 MB were stored in 4")
	}
	heads, err := store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(heads) > 0 && heads[0].Seq >= c.Last() {
		t.Fatal(heads)
	}
	if err := unix.Mount("sallyport-test", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		heads, err := store.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(heads) == 1 && heads[0].Seq == c.Last() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v, the chain has %d", heads, c.Last())
		}
	}
	rep := verified(t, store, recorder.Noted{})
	if len(rep.Faults) > 0 || len(rep.Alarms) > 0 || rep.Chains[0].Records != c.Last() || rep.Transcripts.Checked != rep.Transcripts.Bodies || rep.Transcripts.Bodies == 0 {
		t.Errorf("%+v", rep)
	}
}
