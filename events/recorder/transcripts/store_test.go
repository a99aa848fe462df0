package transcripts_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"sallyport.dev/sallyport/events/recorder/transcripts"
)

func nameOf(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }

// natsServer is a server of one's own, without accounts.
func natsServer(t *testing.T) *nats.Conn {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(60 * time.Second) {
		t.Fatal("no server")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

const keyID, secret = "AKIDSALLYPORT", "not-a-secret-outside-of-this-test"

// s3Server is the S3 server of rclone, which verifies signatures of version 4 with
// code of its own.
func s3Server(t *testing.T) string {
	t.Helper()
	back := s3mem.New()
	if err := back.CreateBucket(t.Context(), "evidence"); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gofakes3.New(&undelimited{back}, gofakes3.WithV4Auth(map[string]string{keyID: secret})).Server())
	t.Cleanup(s.Close)
	return s.URL
}

// undelimited takes an empty delimiter for none, as S3 does and this server does not.
type undelimited struct{ *s3mem.Backend }

func (u *undelimited) ListBucket(ctx context.Context, name string, p *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if p != nil && p.Delimiter == "" {
		p.HasDelimiter = false
	}
	return u.Backend.ListBucket(ctx, name, p, page)
}

func credentialsFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+keyID+"\naws_secret_access_key = "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestStores puts, gets, lists and deletes in each kind of store.
func TestStores(t *testing.T) {
	for kind, open := range map[string]func(*testing.T) transcripts.Store{
		"files": func(t *testing.T) transcripts.Store {
			return transcripts.OpenFiles(filepath.Join(t.TempDir(), "deep", "transcripts"))
		},
		"jetstream": func(t *testing.T) transcripts.Store {
			o, err := transcripts.OpenObjects(t.Context(), natsServer(t), "transcripts", 1)
			if err != nil {
				t.Fatal(err)
			}
			return o
		},
		"s3": func(t *testing.T) transcripts.Store {
			b, err := transcripts.OpenS3(t.Context(), transcripts.S3{Endpoint: s3Server(t), Region: "eu-north-1", Bucket: "evidence", Prefix: "clinic/", Credentials: credentialsFile(t, secret)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(kind, func(t *testing.T) { conforms(t, open(t)) })
	}
}

func conforms(t *testing.T, s transcripts.Store) {
	ctx := context.Background()
	bodies := map[string][]byte{
		nameOf("small"): []byte("a row\x00\xff"), nameOf("empty"): {}, nameOf("large"): bytes.Repeat([]byte("row "), 3<<20),
	}
	_, files := s.(*transcripts.Files) // whose folder is not there: another may have been meant
	if err := s.Delete(ctx, nameOf("small")); (err != nil) != files {
		t.Fatal("there is nothing yet:", err)
	}
	for range 2 { // the second time as after a crash
		for name, b := range bodies {
			if err := s.Put(ctx, name, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Delete(ctx, nameOf("never put")); err != nil {
		t.Error("there is nothing to delete:", err)
	}

	for name, want := range bodies {
		if b, err := s.Get(ctx, name); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(b), len(want), err)
		}
	}
	if _, err := s.Get(ctx, nameOf("other")); !errors.Is(err, transcripts.ErrNone) {
		t.Error("what was never put:", err)
	}
	list := func() map[string]bool {
		out := map[string]bool{}
		for x, err := range s.(transcripts.Lister).List(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if out[x.Name] = true; time.Since(x.Stored) > time.Hour || time.Until(x.Stored) > time.Hour {
				t.Errorf("%s was stored at %v", x.Name, x.Stored)
			}
		}
		return out
	}
	if l := list(); len(l) != len(bodies) || !l[nameOf("empty")] || !l[nameOf("large")] {
		t.Error(l)
	}
	var wg sync.WaitGroup // two recorders at once
	for range 8 {
		wg.Go(func() {
			if err := s.Put(ctx, nameOf("small"), bodies[nameOf("small")]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 2 {
		if err := s.Delete(ctx, nameOf("large")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(ctx, nameOf("large")); !errors.Is(err, transcripts.ErrNone) {
		t.Error("what was deleted:", err)
	}
	if l := list(); len(l) != 2 || l[nameOf("large")] {
		t.Error(l)
	}
	for _, bad := range []string{"", "../../etc/passwd", strings.ToUpper(nameOf("small")), nameOf("small") + "/x", strings.Repeat("/", 64)} {
		if err := errors.Join(s.Put(ctx, bad, nil), s.Delete(ctx, bad)); err == nil {
			t.Errorf("%q is a name", bad)
		}
		if _, err := s.Get(ctx, bad); err == nil || errors.Is(err, transcripts.ErrNone) {
			t.Errorf("%q is a name", bad)
		}
	}
}

// TestObjectsKeepWhatTheyHave refuses a bucket that would lose bodies.
func TestObjectsKeepWhatTheyHave(t *testing.T) {
	nc := natsServer(t)
	api, err := js.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]js.ObjectStoreConfig{"memory": {Storage: js.MemoryStorage}, "old": {TTL: time.Hour}} {
		if c.Bucket = name; true {
			if _, err := api.CreateObjectStore(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := transcripts.OpenObjects(t.Context(), nc, name, 1); err == nil {
			t.Errorf("bucket %q is taken", name)
		}
	}
}

// TestS3Refuses wants no request in clear, no open credentials and no wrong key.
func TestS3Refuses(t *testing.T) {
	url := s3Server(t)
	open := credentialsFile(t, secret)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]transcripts.S3{
		"must be https":       {Endpoint: "http://s3.example.org", Bucket: "evidence", Credentials: credentialsFile(t, secret)},
		"must be a URL":       {Endpoint: "s3.example.org", Bucket: "evidence"},
		"others may read it":  {Endpoint: url, Bucket: "evidence", Credentials: open},
		"has no keys":         {Endpoint: url, Bucket: "evidence", Credentials: credentialsFile(t, secret), Profile: "other"},
		"make it first":       {Endpoint: url, Region: "eu-north-1", Bucket: "elsewhere", Credentials: credentialsFile(t, secret)},
		"s3 bucket evidence:": {Endpoint: url, Region: "eu-north-1", Bucket: "evidence", Credentials: credentialsFile(t, "another-secret")},
	} {
		_, err := transcripts.OpenS3(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "another-secret")) {
			t.Errorf("an error tells a secret: %v", err)
		}
	}
}

// TestFilesAreNotMissedWhereTheFolderIs: a folder that is not mounted is an error,
// and says nothing of what was deleted; a link in a body's place is no body.
func TestFilesAreNotMissedWhereTheFolderIs(t *testing.T) {
	dir := t.TempDir()
	f := transcripts.OpenFiles(filepath.Join(dir, "away"))
	if _, err := f.Get(t.Context(), nameOf("x")); err == nil || errors.Is(err, transcripts.ErrNone) {
		t.Error(err)
	}
	f = transcripts.OpenFiles(dir)
	n := nameOf("link")
	if err := os.MkdirAll(filepath.Join(dir, n[:2]), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, n[:2], n)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), n); err == nil {
		t.Error("a link is followed")
	}
}
