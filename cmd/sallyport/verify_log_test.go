package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// An export is verified with the log's public key alone, and not without it.
func TestVerifyExport(t *testing.T) {
	dir := t.TempDir()
	store, export, key := filepath.Join(dir, "store"), filepath.Join(dir, "export"), filepath.Join(dir, "log.pub")
	s, err := recorder.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var batch []recorder.Message
	r := events.Record{Chain: "c1", Protocol: "postgres", Session: "s-1"}
	for i := range 20 {
		r.Seq, r.Prev, r.Payload = uint64(i+1), r.Hash, events.AppendChunk(nil, &events.Chunk{Kind: events.ChunkResult, Time: time.Unix(1, 0), Data: fmt.Append(nil, i)})
		r.Hash = r.Sum()
		batch = append(batch, recorder.Message{Host: "h1", Record: r})
	}
	if _, _, err := s.Add(t.Context(), batch, time.Now()); err != nil {
		t.Fatal(err)
	}
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	_, public, err := tlog.Signer(private, "evidence.example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- follow.Run(ctx, s, follow.Options{Dir: recorder.LogFolder(store), Key: private, Origin: "evidence.example.org"})
	}()
	err = recorder.Export(t.Context(), store, store, export, tlog.Keys{Log: public}, 30*time.Second, nil)
	cancel()
	if err2 := <-done; err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	verify := func(args ...string) (string, error) {
		cmd := rootCmd()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetArgs(append([]string{"verify"}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := verify("--export", export, "--log-key", key)
	if err != nil || !strings.Contains(out, "sound: every record is there") || !strings.Contains(out, "log evidence.example.org: 1 entries") {
		t.Errorf("%s%v", out, err)
	}
	if out, err := verify("--store", store, "--log-key", key, "--json"); err != nil || !strings.Contains(out, `"unlogged": 0`) {
		t.Errorf("%s%v", out, err)
	}
	for _, args := range [][]string{{"--export", export}, {"--export", export, "--store", store, "--log-key", key}, {"--store", store, "--witness-key", key}, {"--export", export, "--log-key", export}} {
		if out, err := verify(args...); err == nil {
			t.Errorf("%q: %s", args, out)
		}
	}
}

// What the store says of an alarm does nothing to a terminal, and promises have their condition.
func TestVerifyPrintsPlainText(t *testing.T) {
	var out strings.Builder
	a := recorder.Alarm{What: "late\x1b[2J\nsound: every record", Host: "h\x1b", Detail: "d\x1b"}
	if err := printReport(&out, &recorder.Report{Alarms: []recorder.Alarm{a}, Alarm: recorder.AlarmHead{ID: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
	if help := verifyCmd().Long; !strings.Contains(help, "neither the log's key nor") {
		t.Error(help)
	}
}
