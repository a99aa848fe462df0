package privsep

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/a", "/a", true},
		{"/a", "/a/b", false},
		{"/a", "/ab", false},
		{"/a", "/b/a", false},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a/b/c", false},
		{"/a/*", "/a/", true},
		{"/a/*", "/a", false},
		{"/a/**", "/a/b/c", true},
		{"/a/**", "/a", false},
		{"/a/**", "/ab/c", false},
		{"/**/x", "/a/b/x", true},
		{"/**/x", "/a/b/xy", false},
		{"/a?", "/ab", true},
		{"/a?", "/a/", false},
		{"/a.b", "/axb", false},
		{"/a[b]", "/a[b]", true},
		{"/a[b]", "/ab", false},
		{"/**", "/", true},
		{"/***", "/x/y", true},
		{"/x-*.scope", "/x-1.scope", true},
		{"/a", "/a\n", false},
		{"/a/**", "/a/\nb", true},
	} {
		re, err := compileGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if re.Match(c.path) != c.want {
			t.Errorf("%q on %q: want %v", c.pattern, c.path, c.want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("/a/**/b*?", "/a/x/bcd")
	f.Add("/[(\\", "/[(\\")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		re, err := compileGlob(pattern)
		if err != nil {
			return
		}
		got := re.Match(path)
		if !strings.ContainsAny(pattern, "*?") && got != (pattern == path) {
			t.Fatalf("%q on %q: %v", pattern, path, got)
		}
		if got && !strings.HasPrefix(path, "/") {
			t.Fatalf("%q matches %q", pattern, path)
		}
		if !strings.Contains(pattern, "**") && got && strings.Count(pattern, "/") != strings.Count(path, "/") {
			t.Fatalf("%q crosses slashes on %q", pattern, path)
		}
	})
}

// What the daemon sends is read by the loader, as root.
func FuzzParseRequest(f *testing.F) {
	f.Add(appendRequest(nil, &request{askName, 7, intercept.Peer{TGID: 1, PID: 2, Start: 3, PidInode: 4, UID: 5, GID: 6, CgroupID: 7, ExeDev: 8, ExeInode: 9}}))
	f.Add(appendRequest(nil, &request{what: askProof, id: 7}))
	f.Add([]byte("SPQ1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err == nil && !bytes.Equal(appendRequest(nil, &q), b) {
			t.Fatalf("%x is read as something else", b)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, 7, intercept.Proof{Workload: "w", Exe: "/x", Cgroup: "/", Token: []byte("t")}, nil))
	f.Add(appendAnswer(nil, 7, intercept.Proof{}, errors.New("no")))
	f.Add(appendNamed(nil, 7, intercept.Proof{Workload: "w", Exe: "/x", Cgroup: "/"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, p, refused, err := parseAnswer(b)
		if err != nil {
			return
		}
		if len(p.Token) != 0 && p.Workload == "" {
			t.Fatal("a proof of nothing")
		}
		again := appendAnswer(nil, id, p, refused)
		if refused == nil && len(p.Token) == 0 { // names, and proves nothing
			again = appendNamed(nil, id, p)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is read as something else", b)
		}
	})
}

func FuzzParseEnter(f *testing.F) {
	f.Add(appendEnter(nil, enter{"name", "/token", "/person"}))
	f.Add(appendEntered(nil, "/cgroup", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseEnter(b); err == nil && !bytes.Equal(appendEnter(nil, e), b) {
			t.Fatalf("%x is read as something else", b)
		}
		_, _, _ = parseEntered(b)
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("/proc/{pid}/root/var/run/token")
	f.Add("/run/user/{uid}/token")
	f.Fuzz(func(t *testing.T, s string) {
		if checkTemplate(s) != nil || s == "" {
			return
		}
		for _, bad := range []string{"//", "/../", "\x00"} {
			if strings.Contains(s+"/", bad) {
				t.Fatalf("%q is taken", s)
			}
		}
		if strings.HasPrefix(s, "/proc/") && !strings.HasPrefix(s, ownRoot) {
			t.Fatalf("%q is taken", s)
		}
	})
}

type proverFunc func(context.Context, *intercept.Peer) (intercept.Proof, error)

func (f proverFunc) Prove(ctx context.Context, p *intercept.Peer) (intercept.Proof, error) {
	return f(ctx, p)
}

// line connects a client with a served prover.
func line(t testing.TB, p intercept.Prover, record Record) (*Client, func() error) {
	t.Helper()
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packetConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(conn)
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- serve(ctx, ours, p, record) }()
	end := sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() { c.Close(); _ = end() })
	return c, end
}

// Answers find their questions, whatever order they come in.
func TestLineCarriesManyRequests(t *testing.T) {
	var s Sockets
	c, _ := line(t, proverFunc(func(_ context.Context, p *intercept.Peer) (intercept.Proof, error) {
		time.Sleep(time.Duration(p.TGID%7) * time.Millisecond)
		if p.TGID%5 == 0 {
			return intercept.Proof{}, errors.New("five")
		}
		return intercept.Proof{Workload: "w", Token: []byte{byte(p.TGID)}}, nil
	}), s.Record)
	var wg sync.WaitGroup
	for i := range uint32(200) {
		wg.Go(func() {
			pr, err := c.Prove(context.Background(), s.Peer(t, intercept.Peer{TGID: i}))
			if i%5 == 0 && (err == nil || err.Error() != "five") || i%5 != 0 && (err != nil || pr.Token[0] != byte(i)) {
				t.Errorf("%d: %v %v", i, pr, err)
			}
		})
	}
	wg.Wait()
}

func TestLineCut(t *testing.T) {
	var s Sockets
	peer := s.Peer(t, intercept.Peer{TGID: 1})
	asked := make(chan bool, 1)
	c, end := line(t, proverFunc(func(ctx context.Context, _ *intercept.Peer) (intercept.Proof, error) {
		asked <- true
		<-ctx.Done()
		return intercept.Proof{}, ctx.Err()
	}), s.Record)
	got := make(chan error)
	go func() {
		_, err := c.Prove(context.Background(), peer)
		got <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Prove(ctx, peer); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err == nil {
		t.Fatal("proved by nobody")
	}
	if _, err := c.Prove(context.Background(), peer); !errors.Is(err, ErrLoaderGone) {
		t.Fatal(err)
	}
}

// The loader proves whom the kernel's record names, whatever else the daemon
// says; and nobody where there is no record.
func TestProofIsOfTheSocket(t *testing.T) {
	var s Sockets
	c, _ := line(t, proverFunc(func(_ context.Context, p *intercept.Peer) (intercept.Proof, error) {
		return intercept.Proof{Workload: "w", Token: []byte{byte(p.TGID), byte(p.UID)}}, nil
	}), s.Record)
	peer := s.Peer(t, intercept.Peer{TGID: 7, UID: 8})
	peer.TGID, peer.UID, peer.Start = 1, 0, 99
	pr, err := c.Prove(context.Background(), peer)
	if err != nil || string(pr.Token) != "\x07\x08" {
		t.Errorf("proved %v, %v", pr, err)
	}
	var other Sockets
	if pr, err := c.Prove(context.Background(), other.Peer(t, intercept.Peer{TGID: 7})); err == nil {
		t.Errorf("a socket without a record: %v", pr)
	}
	if pr, err := c.Prove(context.Background(), &intercept.Peer{TGID: 7, Start: 1, CgroupID: 1}); err == nil {
		t.Errorf("no socket: %v", pr)
	}
	peer.Socket.(io.Closer).Close()
	if pr, err := c.Prove(context.Background(), peer); err == nil {
		t.Errorf("a closed socket: %v", pr)
	}
	// And the line is whole after all of that.
	if _, err := c.Prove(context.Background(), s.Peer(t, intercept.Peer{TGID: 9})); err != nil {
		t.Error(err)
	}
}

// A request has the descriptors that belong to it. Others end the daemon, and
// none is kept.
func TestLineRefusesOtherDescriptors(t *testing.T) {
	for name, c := range map[string]struct {
		what  uint32
		files int
	}{"a proof without": {askProof, 0}, "a proof with two": {askProof, 2}, "a proof with many": {askProof, 100}, "a name with one": {askName, 1}} {
		t.Run(name, func(t *testing.T) {
			ours, theirs, err := pair()
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			r, w, _ := os.Pipe()
			defer r.Close()
			var oob []byte
			if c.files > 0 {
				oob = unix.UnixRights(slices.Repeat([]int{int(w.Fd())}, c.files)...)
			}
			if err := unix.Sendmsg(int(theirs.Fd()), appendRequest(nil, &request{what: c.what, id: 1}), oob, nil, 0); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if err := serve(context.Background(), ours, proverFunc(nil), new(Sockets).Record); !errors.Is(err, errMalformed) {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(r); err != nil {
				t.Fatal(err) // would hang, were the descriptor kept
			}
		})
	}
}

// The loader keeps no connection open that the daemon has closed.
func TestSocketIsNotKept(t *testing.T) {
	var s Sockets
	c, _ := line(t, proverFunc(func(context.Context, *intercept.Peer) (intercept.Proof, error) {
		return intercept.Proof{}, errors.New("no")
	}), s.Record)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, far := os.NewFile(uintptr(fds[0]), "accepted"), os.NewFile(uintptr(fds[1]), "client")
	defer far.Close()
	if _, err := c.Prove(context.Background(), &intercept.Peer{Socket: theirs}); err == nil {
		t.Error("proved")
	}
	theirs.Close()
	if n, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Error(n, err)
	}
}

// What a proof costs on the line, besides the proof.
func BenchmarkLine(b *testing.B) {
	var s Sockets
	c, _ := line(b, proverFunc(func(context.Context, *intercept.Peer) (intercept.Proof, error) {
		return intercept.Proof{Workload: "w", Token: make([]byte, 1000)}, nil
	}), s.Record)
	peer := s.Peer(b, intercept.Peer{TGID: 1})
	for b.Loop() {
		if _, err := c.Prove(context.Background(), peer); err != nil {
			b.Fatal(err)
		}
	}
}
