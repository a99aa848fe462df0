package recorder_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// flapping is a store of transcripts in which each second Put fails.
type flapping struct {
	*transcripts.Files
	n int
}

func (f *flapping) Put(ctx context.Context, name string, b []byte) error {
	if f.n++; f.n%2 == 0 {
		return errAway
	}
	return f.Files.Put(ctx, name, b)
}

// TestFailedBatchesLeaveNoBodies: what is encrypted anew with each try does not fill
// the disk while none can be stored.
func TestFailedBatchesLeaveNoBodies(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, keep := open(t, dir), apart(t, dir)
	keep.Recipients = []age.Recipient{id.Recipient()}
	files := keep.Store.(*transcripts.Files)
	keep.Store = &flapping{Files: files}
	s.KeepTranscripts(keep)
	all := append(messages("h1", spoken("s-1").All()), messages("h1", spoken("s-2").All())...)
	for range 3 {
		if _, _, err := s.Add(t.Context(), all, time.Now()); !errors.Is(err, errAway) {
			t.Fatal(err)
		}
	}
	if left := bodyFiles(t, dir); len(left) > 0 {
		t.Errorf("%d bodies are left", len(left))
	}
	keep.Store = files
	s.KeepTranscripts(keep)
	add(t, s, all...)
	if rep := verified(t, reader(t, dir, id), recorder.Noted{}); len(rep.Faults) > 0 || rep.Transcripts.Checked != 2 || len(bodyFiles(t, dir)) != 2 {
		t.Errorf("%+v", rep)
	}
}

// hanging is a bucket that does not answer.
type hanging struct {
	transcripts.Store
	asked chan struct{}
}

func (h hanging) Put(ctx context.Context, _ string, _ []byte) error {
	close(h.asked)
	<-ctx.Done()
	return ctx.Err()
}

// TestHangingBucketEndsWithTheRecorder: who stops it does not wait for the bucket.
func TestHangingBucketEndsWithTheRecorder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	h := hanging{apart(t, dir).Store, make(chan struct{})}
	s.KeepTranscripts(recorder.Transcripts{Store: h})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Add(ctx, messages("h1", spoken("s-1").All()), time.Now())
		done <- err
	}()
	<-h.asked
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("it waits for the bucket")
	}
	if hs, err := s.Heads(t.Context()); err != nil || len(hs) != 0 {
		t.Error(hs, err)
	}
}

// TestLostRecipients: a store whose transcripts are encrypted does not go on in clear
// because nobody names recipients any more.
func TestLostRecipients(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, plain := open(t, dir), apart(t, dir)
	sealed := plain
	sealed.Recipients = []age.Recipient{id.Recipient()}
	check := func(keep recorder.Transcripts, want error) {
		t.Helper()
		s.KeepTranscripts(keep)
		if err := s.CheckSealed(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	check(plain, nil)
	s.KeepTranscripts(sealed)
	add(t, s, messages("h1", spoken("s-1").All())...)
	check(sealed, nil)
	check(plain, recorder.ErrInClear)
	add(t, s, messages("h1", spoken("s-2").All())...) // as somebody said
	check(plain, nil)
}
