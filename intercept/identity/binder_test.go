package identity_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/identity/oidc"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
	"sallyport.dev/sallyport/intercept/privsep"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: run `make test`")
		os.Exit(1)
	}
	code := oidctest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const uidA, uidB = 65534, 65533

// world is two workloads of two users, with the real prover and provider.
type world struct {
	t        *testing.T
	dir      string
	provider *oidctest.Provider
	verifier counting
	binder   *identity.Binder
	offset   atomic.Int64 // of the clock
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

// counting counts what reaches the real verifier.
type counting struct {
	identity.Verifier
	n atomic.Int32
}

func (c *counting) Verify(ctx context.Context, raw, issuer string) (*identity.Token, error) {
	c.n.Add(1)
	return c.Verifier.Verify(ctx, raw, issuer)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), provider: oidctest.Start(t)}
	v, err := oidc.New([]oidc.Issuer{{URL: w.provider.Issuer, Audience: "sallyport", Algorithms: []string{"RS256"}}}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	w.verifier.Verifier = v
	a, b := uint32(uidA), uint32(uidB)
	p, err := privsep.NewProver(cgroupRoot(t), "", []privsep.Workload{
		{Name: "a", Match: privsep.Match{UID: &a}, TokenFile: w.dir + "/{uid}.jwt"},
		{Name: "b", Match: privsep.Match{UID: &b}, TokenFile: w.dir + "/{uid}.jwt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.binder, err = identity.NewBinder(p, &w.verifier, []identity.Workload{
		{Name: "a", Issuer: w.provider.Issuer, Subjects: []string{"agent-a"}},
		{Name: "b", Subjects: []string{"agent-b"}},
	}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// put gives a user a token file.
func (w *world) put(uid int, token string) {
	w.t.Helper()
	path := filepath.Join(w.dir, strconv.Itoa(uid)+".jwt")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chown(path, uid, -1); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) bind(peer intercept.Peer) (intercept.Identity, error) {
	return w.binder.Bind(context.Background(), &peer)
}

func (w *world) refused(peer intercept.Peer, why string) {
	w.t.Helper()
	id, err := w.bind(peer)
	if !errors.Is(err, identity.ErrNobody) || !strings.Contains(fmt.Sprint(err), why) || id.Valid(w.now()) {
		w.t.Fatalf("want a refusal with %q, got %v, %v", why, id, err)
	}
}

func TestBind(t *testing.T) {
	w := newWorld(t)
	w.put(uidA, w.provider.Token("agent-a"))
	a := agent(t, uidA)
	peer := peerOf(t, a.Process.Pid)
	id, err := w.binder.Bind(context.Background(), &peer)
	if err != nil {
		t.Fatal(err)
	}
	if id.Workload != "a" || id.Subject != "agent-a" || id.Actor() != "agent-a" || id.Principal() != "" || id.Issuer != w.provider.Issuer ||
		id.Proof != "oidc+pidfd" || id.Audience[0] != "sallyport" || id.Claims["sub"] != "agent-a" || !id.Valid(time.Now()) {
		t.Fatalf("%+v", id)
	}
	if peer.Cgroup == "" {
		t.Fatalf("%+v", peer)
	}
	// Verified once, proved each time.
	if _, err := w.bind(peer); err != nil || w.verifier.n.Load() != 1 {
		t.Fatal(err, w.verifier.n.Load())
	}
	_ = a.Process.Kill()
	_ = a.Wait()
	w.refused(peer, "gone")
}

func TestBindActsFor(t *testing.T) {
	w := newWorld(t)
	w.put(uidA, w.provider.Token("agent-a", "--for", "alice:"+oidctest.Clients["alice"]))
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	id, err := w.bind(peer)
	if err != nil || id.Actor() != "agent-a" || id.Principal() != "alice" {
		t.Fatalf("%+v %v", id, err)
	}
	// Who acts is what the workload is held to, not for whom.
	w.put(uidA, w.provider.Token("agent-b", "--for", "alice:"+oidctest.Clients["alice"]))
	w.refused(peer, `may not present a token of "agent-b"`)
	w.put(uidA, w.provider.Token("alice"))
	w.refused(peer, `may not present a token of "alice"`)
}

func TestBindRefuses(t *testing.T) {
	w := newWorld(t)
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	w.refused(peer, "no such file")
	w.put(uidA, w.provider.Token("agent-b"))
	w.refused(peer, `may not present a token of "agent-b"`)
	w.put(uidA, w.provider.Token("agent-a", "--audience", "elsewhere"))
	w.refused(peer, "audience")
	w.put(uidA, "no token at all")
	w.refused(peer, "no signed JWT")
	if err := os.Symlink(filepath.Join(w.dir, fmt.Sprint(uidB)+".jwt"), filepath.Join(w.dir, "x")); err != nil {
		t.Fatal(err)
	}
	w.put(uidB, w.provider.Token("agent-b"))
	if err := os.Rename(filepath.Join(w.dir, "x"), filepath.Join(w.dir, fmt.Sprint(uidA)+".jwt")); err != nil {
		t.Fatal(err)
	}
	w.refused(peer, "symbolic link")
	stranger := peerOf(t, agent(t, 65532).Process.Pid)
	w.refused(stranger, "no workload matches")
}

func TestBindExpires(t *testing.T) {
	w := newWorld(t)
	w.put(uidA, w.provider.Token("agent-a", "--life", "1m"))
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	if _, err := w.bind(peer); err != nil {
		t.Fatal(err)
	}
	w.offset.Store(int64(2 * time.Minute))
	w.refused(peer, "expired") // from the cache or not
	w.offset.Store(0)
	w.put(uidA, w.provider.Token("agent-a"))
	if _, err := w.bind(peer); err != nil {
		t.Fatal("renewed:", err)
	}
}

func TestBindReload(t *testing.T) {
	w := newWorld(t)
	w.put(uidA, w.provider.Token("agent-a"))
	peer := peerOf(t, agent(t, uidA).Process.Pid)
	if _, err := w.bind(peer); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]identity.Workload{{{Name: "a"}}, {{Subjects: []string{"x"}}}, {{Name: "a", Subjects: []string{"x"}}, {Name: "a", Subjects: []string{"x"}}}} {
		if err := w.binder.SetWorkloads(bad); err == nil {
			t.Fatal("taken")
		}
	}
	if _, err := w.bind(peer); err != nil {
		t.Fatal("a bad reload changed something:", err)
	}
	if err := w.binder.SetWorkloads([]identity.Workload{{Name: "a", Subjects: []string{"other"}}}); err != nil {
		t.Fatal(err)
	}
	w.refused(peer, "may not present") // the cached token too
	if err := w.binder.SetWorkloads([]identity.Workload{{Name: "a", Issuer: "https://other.example", Subjects: []string{"agent-a"}}}); err != nil {
		t.Fatal(err)
	}
	w.refused(peer, "not from its issuer")
	if err := w.binder.SetWorkloads(nil); err != nil {
		t.Fatal(err)
	}
	w.refused(peer, "not known here")
}

func agent(t *testing.T, uid uint32) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo ready; exec sleep 600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534}}
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// peerOf is the record that the kernel makes when the process connects.
func peerOf(t *testing.T, pid int) intercept.Peer {
	t.Helper()
	prover, err := privsep.NewProver(cgroupRoot(t), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := prover.Peer(pid)
	if err != nil {
		t.Fatal(err)
	}
	p.Exe, p.Cgroup = "", ""
	return p
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
