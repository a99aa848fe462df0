package privsep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/privsep"
)

const nobody = 65534

func TestProveReadsTheWorkloadsToken(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, fmt.Sprintf("%d.jwt", nobody)), "tok-a", nobody, 0o600)
	a := agent(t, nobody)
	p := prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{UID: ptr(uint32(nobody)), Cgroup: "/**"}, TokenFile: dir + "/{uid}.jwt"})
	peer := peerOf(t, a.Process.Pid)
	pr, err := p.Prove(context.Background(), &peer)
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	if pr.Workload != "a" || string(pr.Token) != "tok-a" || pr.Exe != self || !strings.HasPrefix(pr.Cgroup, "/") {
		t.Fatalf("%+v", pr)
	}
}

// Whoever has the number now is not who connected.
func TestProveRefusesAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	p := prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{Cgroup: "/**"}, TokenFile: write(t, dir+"/t", "tok", 0, 0o600)})
	a := agent(t, nobody)
	good := peerOf(t, a.Process.Pid)
	if _, err := p.Prove(context.Background(), &good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*intercept.Peer){
		"start":     func(p *intercept.Peer) { p.Start += 20_000_000 },
		"pid inode": func(p *intercept.Peer) { p.PidInode++ },
		"no inode":  func(p *intercept.Peer) { p.PidInode = 0 },
		"no record": func(p *intercept.Peer) { *p = intercept.Peer{TGID: p.TGID} },
		"pid":       func(p *intercept.Peer) { p.TGID = uint32(os.Getpid()) },
		"pid 0":     func(p *intercept.Peer) { p.TGID = 0 },
		"huge pid":  func(p *intercept.Peer) { p.TGID = 1<<32 - 1 },
		"user":      func(p *intercept.Peer) { p.UID++ },
		"cgroup":    func(p *intercept.Peer) { p.CgroupID++ },
		"no cgroup": func(p *intercept.Peer) { p.CgroupID = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			peer := good
			change(&peer)
			if pr, err := p.Prove(context.Background(), &peer); err == nil {
				t.Fatalf("proved: %+v", pr)
			}
		})
	}
	_ = a.Process.Kill()
	_ = a.Wait()
	if _, err := p.Prove(context.Background(), &good); !errors.Is(err, privsep.ErrGone) {
		t.Fatalf("a dead process: %v", err)
	}
}

func TestProveRefusesAfterAChange(t *testing.T) {
	dir := t.TempDir()
	token := write(t, dir+"/t", "tok", 0, 0o600)
	all := privsep.Workload{Name: "all", Match: privsep.Match{Cgroup: "/**"}, TokenFile: token}
	t.Run("cgroup", func(t *testing.T) {
		a := agent(t, 0)
		peer := peerOf(t, a.Process.Pid)
		cg := testCgroup(t)
		if err := os.WriteFile(cgroupRoot(t)+cg+"/cgroup.procs", []byte(fmt.Sprint(a.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
		_, err := prover(t, "", all).Prove(context.Background(), &peer)
		refused(t, err, "has left the cgroup")
		_ = a.Process.Kill()
		_ = a.Wait()
	})
	t.Run("user", func(t *testing.T) {
		a := agent(t, 0)
		peer := peerOf(t, a.Process.Pid)
		fmt.Fprintln(a.in, "setuid", nobody)
		a.until(t, "done")
		_, err := prover(t, "", all).Prove(context.Background(), &peer)
		refused(t, err, "connected as user 0")
	})
	t.Run("executable", func(t *testing.T) {
		self, _ := os.Executable()
		byExe := privsep.Workload{Name: "exe", Match: privsep.Match{Exe: self}, TokenFile: token}
		a := agent(t, nobody)
		peer := peerOf(t, a.Process.Pid)
		pr, err := prover(t, "", byExe).Prove(context.Background(), &peer)
		if err != nil || pr.Exe != self {
			t.Fatal(pr, err)
		}
		// The record says cat, the process is the trusted program by now.
		stale := peer
		var st unix.Stat_t
		if err := unix.Stat("/bin/cat", &st); err != nil {
			t.Fatal(err)
		}
		stale.ExeDev, stale.ExeInode = st.Dev, st.Ino
		_, err = prover(t, "", byExe).Prove(context.Background(), &stale)
		refused(t, err, "no workload matches")
		pr, err = prover(t, "", all).Prove(context.Background(), &stale)
		if err != nil || pr.Exe != "" {
			t.Fatalf("a replaced executable is named: %+v %v", pr, err)
		}
	})
}

func TestMatch(t *testing.T) {
	dir := t.TempDir()
	token := write(t, dir+"/t", "tok", 0, 0o600)
	a := agent(t, nobody)
	peer := peerOf(t, a.Process.Pid)
	w := func(name string, m privsep.Match) privsep.Workload {
		return privsep.Workload{Name: name, Match: m, TokenFile: token}
	}
	self, _ := os.Executable()
	yes := w("yes", privsep.Match{UID: ptr(uint32(nobody)), Exe: self, Cgroup: "/**"})
	for name, c := range map[string]struct {
		ws   []privsep.Workload
		want string // refusal
	}{
		"one":          {[]privsep.Workload{yes, w("no", privsep.Match{UID: ptr(uint32(1))})}, ""},
		"none":         {[]privsep.Workload{w("no", privsep.Match{UID: ptr(uint32(1))})}, "no workload matches"},
		"two":          {[]privsep.Workload{yes, w("also", privsep.Match{UID: ptr(uint32(nobody))})}, "both match"},
		"all must":     {[]privsep.Workload{w("x", privsep.Match{UID: ptr(uint32(nobody)), Exe: "/bin/cat"})}, "no workload matches"},
		"other cgroup": {[]privsep.Workload{w("x", privsep.Match{Cgroup: "/nowhere/**"})}, "no workload matches"},
		"nobody":       {nil, "no workload matches"},
		"no file":      {[]privsep.Workload{{Name: "x", Match: privsep.Match{Cgroup: "/**"}}}, "no token_file"},
	} {
		t.Run(name, func(t *testing.T) {
			pr, err := prover(t, "", c.ws...).Prove(context.Background(), &peer)
			if c.want != "" {
				refused(t, err, c.want)
			} else if err != nil || pr.Workload != "yes" {
				t.Fatal(pr, err)
			}
		})
	}
	for name, w := range map[string]privsep.Workload{
		"no match":    {Name: "x", TokenFile: "/t"},
		"no name":     {Match: privsep.Match{Exe: "/x"}},
		"relative":    {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "t"},
		"placeholder": {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "/{gid}/t"},
		"dots":        {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "/proc/{pid}/root/../environ"},
		"environ":     {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "/proc/{pid}/environ"},
		"cwd":         {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "/proc/{pid}/cwd/t"},
		"root alone":  {Name: "x", Match: privsep.Match{Exe: "/x"}, TokenFile: "/proc/{pid}/root/"},
		"glob":        {Name: "x", Match: privsep.Match{Cgroup: "x/**"}},
	} {
		t.Run("config "+name, func(t *testing.T) {
			if _, err := privsep.NewProver(cgroupRoot(t), "", []privsep.Workload{w}); err == nil {
				t.Fatal("taken")
			}
		})
	}
	if _, err := privsep.NewProver(t.TempDir(), "", nil); err == nil {
		t.Fatal("took a folder for cgroup2")
	}
	if _, err := new(privsep.Prover).Prove(context.Background(), &peer); err == nil {
		t.Fatal("the zero Prover proves")
	}
}

func TestTokenFile(t *testing.T) {
	a := agent(t, nobody)
	peer := peerOf(t, a.Process.Pid)
	dir := t.TempDir()
	other := write(t, dir+"/other", "other's", 1, 0o600)
	mine := write(t, dir+"/mine", "mine", nobody, 0o600)
	for name, c := range map[string]struct {
		make func(path string) error
		want string // refusal, "" for the token "mine"
	}{
		"own":             {func(p string) error { write(t, p, "mine", nobody, 0o600); return nil }, ""},
		"root's":          {func(p string) error { write(t, p, "mine", 0, 0o644); return nil }, ""},
		"another user's":  {func(p string) error { write(t, p, "x", 1, 0o600); return nil }, "belongs to user 1"},
		"others write":    {func(p string) error { write(t, p, "x", nobody, 0o606); return nil }, "others may write"},
		"group writes":    {func(p string) error { write(t, p, "x", nobody, 0o660); return nil }, "others may write"},
		"symlink":         {func(p string) error { return os.Symlink(mine, p) }, "symbolic link"},
		"other's symlink": {func(p string) error { return os.Symlink(other, p) }, "symbolic link"},
		"hard link":       {func(p string) error { return os.Link(other, p) }, "hard link"},
		"magic link":      {func(p string) error { return os.Symlink("/proc/self/environ", p) }, "symbolic link"},
		"fifo":            {func(p string) error { return unix.Mkfifo(p, 0o600) }, "not a regular file"},
		"directory":       {func(p string) error { return os.Mkdir(p, 0o700) }, "not a regular file"},
		"device":          {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) }, "not a regular file"},
		"socket":          {func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) }, "not a regular file"},
		"largest":         {func(p string) error { write(t, p, strings.Repeat("m", 64<<10), nobody, 0o600); return nil }, ""},
		"oversize":        {func(p string) error { write(t, p, strings.Repeat("m", 64<<10+1), nobody, 0o600); return nil }, "more than the limit"},
		"empty":           {func(p string) error { write(t, p, "", nobody, 0o600); return nil }, "is empty"},
		"missing":         {func(string) error { return nil }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			p := prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{UID: ptr(uint32(nobody))}, TokenFile: path})
			pr, err := p.Prove(context.Background(), &peer)
			if c.want != "" {
				refused(t, err, c.want)
			} else if err != nil || !strings.HasPrefix(string(pr.Token), "m") {
				t.Fatalf("%q %v", pr.Token, err)
			}
		})
	}
	t.Run("folder is a symlink", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		p := prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{UID: ptr(uint32(nobody))}, TokenFile: link + "/mine"})
		_, err := p.Prove(context.Background(), &peer)
		refused(t, err, "symbolic link")
	})
}

// A workload's own root: absolute links resolve inside, and nothing outside
// can be reached.
func TestTokenInTheProcessRoot(t *testing.T) {
	jail := t.TempDir()
	for _, d := range []string{"var", "outer"} {
		if err := os.Mkdir(filepath.Join(jail, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outside := write(t, filepath.Join(t.TempDir(), "outside"), "outside", 0, 0o644)
	for link, to := range map[string]string{
		"escape": outside, "dots": "../../../../../../../../" + outside, "secret": "/etc/passwd",
	} {
		if err := os.Symlink(to, filepath.Join(jail, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(jail, "outer/plain"), "plain", 0, 0o600)
	if err := unix.Mkfifo(filepath.Join(jail, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := play(t, "jail", nil, "PRIVSEP_DIR="+jail)
	a.until(t, "ready")
	peer := peerOf(t, a.Process.Pid)
	for file, want := range map[string]string{
		"outer/plain": "plain",
		"var/real":    "inner", // on a mount that only its namespace has
		"var/link":    "inner", // absolute, inside
		"escape":      "!no such file",
		"dots":        "!no such file",
		"secret":      "!no such file",
		"fifo":        "!not a regular file",
		"var":         "!not a regular file",
	} {
		t.Run(file, func(t *testing.T) {
			p := prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{Cgroup: "/**"}, TokenFile: "/proc/{pid}/root/" + file})
			pr, err := p.Prove(context.Background(), &peer)
			if why, bad := strings.CutPrefix(want, "!"); bad {
				refused(t, err, why)
			} else if err != nil || string(pr.Token) != want {
				t.Fatalf("%q %v", pr.Token, err)
			}
		})
	}
}
