package privsep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
)

// control runs a loader's control socket over a test's cgroup.
func control(t *testing.T) (socket, guarded string, p *privsep.Prover, stop func()) {
	t.Helper()
	guarded = testCgroup(t)
	p = prover(t, guarded, privsep.Workload{Name: "execd", Match: privsep.Match{Cgroup: guarded + "/**", UID: ptr(uint32(nobody))}})
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "control.sock")
	return socket, guarded, p, serveControl(t, socket, p)
}

func serveControl(t *testing.T, socket string, p *privsep.Prover) (stop func()) {
	t.Helper()
	c, err := privsep.ListenControl(socket, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func waitGone(t *testing.T, path string) {
	t.Helper()
	for range 3000 {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s is still there", path)
}

func TestExecGuards(t *testing.T) {
	socket, guarded, p, stop := control(t)
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatal(fi, err)
	}
	tokens := t.TempDir()
	token := write(t, tokens+"/token", "first", nobody, 0o600)
	a := play(t, "enter", nil, "PRIVSEP_SOCKET="+socket, "PRIVSEP_TOKEN="+token, "PRIVSEP_NAME=n1")
	out := a.until(t, "ready")
	dir := cgroupRoot(t) + guarded + "/exec-n1"
	for _, want := range []string{
		"0::" + guarded + "/exec-n1\n", "Uid:\t65534\t65534\t65534\t65534", "Gid:\t65533\t65533", "Groups:\t65532 \n",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	prove := func(want string) {
		t.Helper()
		peer := peerOf(t, a.Process.Pid)
		pr, err := p.Prove(context.Background(), &peer)
		if why, bad := strings.CutPrefix(want, "!"); bad {
			refused(t, err, why)
		} else if err != nil || string(pr.Token) != want || pr.Cgroup != guarded+"/exec-n1" || pr.Workload != "execd" {
			t.Fatalf("%+v %v", pr, err)
		}
	}
	prove("first")
	// A renewed token is found.
	write(t, tokens+"/new", "second", nobody, 0o600)
	if err := os.Rename(tokens+"/new", token); err != nil {
		t.Fatal(err)
	}
	prove("second")
	// The loader's own restart is survived.
	stop()
	prove("second")
	serveControl(t, socket, p)
	prove("second")
	// Putting somebody else's there, by link or by file, helps nobody.
	write(t, tokens+"/other", "other", 1, 0o600)
	_ = os.Remove(token)
	_ = os.Symlink(tokens+"/other", token)
	prove("!symbolic link")
	_ = os.Remove(token)
	prove("!no such file")

	// The name is taken as long as it lives.
	b := play(t, "enter", nil, "PRIVSEP_SOCKET="+socket, "PRIVSEP_TOKEN="+tokens+"/other", "PRIVSEP_NAME=n1")
	_ = b.Wait()
	if !strings.Contains(b.err.String(), "in use") {
		t.Error(b.err)
	}
	// Its exit code is the command's, and then the cgroup goes.
	fmt.Fprintln(a.in)
	var ee *exec.ExitError
	if err := a.Wait(); !errors.As(err, &ee) || ee.ExitCode() != 7 {
		t.Fatal(err)
	}
	waitGone(t, dir)
}

func TestExecRefuses(t *testing.T) {
	socket, guarded, _, _ := control(t)
	dir := t.TempDir()
	token := write(t, dir+"/token", "tok", 0, 0o600)
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/big", strings.Repeat("x", 64<<10+1), 0, 0o600)
	open := write(t, filepath.Dir(socket)+"/open", "tok", nobody, 0o644)
	for name, c := range map[string]struct{ token, name, as, want string }{
		"not root":    {open, "x", "65534", "use sudo"},
		"no token":    {dir + "/none", "x", "", "no such file"},
		"fifo":        {dir + "/fifo", "x", "", "not a regular file"},
		"directory":   {dir, "x", "", "not a regular file"},
		"device":      {"/dev/zero", "x", "", "not a regular file"},
		"proc":        {"/proc/self/environ", "x", "", "below /proc"},
		"oversize":    {dir + "/big", "x", "", "more than the limit"},
		"bad name":    {token, "../x", "", "letters, digits"},
		"long name":   {token, strings.Repeat("x", 64), "", "letters, digits"},
		"longer name": {token, strings.Repeat("x", 65), "", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			a := play(t, "enter", nil, "PRIVSEP_SOCKET="+socket, "PRIVSEP_TOKEN="+c.token, "PRIVSEP_NAME="+c.name, "PRIVSEP_AS="+c.as)
			out, _ := io.ReadAll(a.out)
			_ = a.Wait()
			if !strings.Contains(a.err.String(), c.want) || len(out) > 0 {
				t.Errorf("want %q: %s%s", c.want, a.err, out)
			}
		})
	}
	// Were the socket open to all, its caller's credentials would still be read.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	a := play(t, "enter", nil, "PRIVSEP_SOCKET="+socket, "PRIVSEP_TOKEN="+open, "PRIVSEP_AS=65534")
	_ = a.Wait()
	if !strings.Contains(a.err.String(), "user 65534 may not") {
		t.Error(a.err)
	}
	left, _ := filepath.Glob(cgroupRoot(t) + guarded + "/exec-*")
	if len(left) > 0 {
		t.Error(left)
	}
}

func TestExecWithoutADaemon(t *testing.T) {
	token := write(t, t.TempDir()+"/token", "tok", 0, 0o600)
	_, err := privsep.Enter(context.Background(), t.TempDir()+"/none", privsep.Entry{TokenFile: token})
	refused(t, err, "sallyport run")
	p := prover(t, "/sallyport.not-there")
	_, err = privsep.ListenControl(t.TempDir()+"/c", p)
	refused(t, err, "guard up")
	socket, _, p, _ := control(t)
	_, err = privsep.ListenControl(socket, p)
	refused(t, err, "already")
}

// Nobody else can stand in for the loader.
func TestControlSocketCannotBeSquatted(t *testing.T) {
	_, _, p, _ := control(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := privsep.ListenControl(dir+"/control.sock", p)
	refused(t, err, "only root can write")
	open, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	squatter := play(t, "squat", asNobody(), "PRIVSEP_SOCKET="+open+"/control.sock")
	squatter.until(t, "ready")
	_, err = privsep.Enter(context.Background(), open+"/control.sock", privsep.Entry{TokenFile: write(t, dir+"/token", "tok", 0, 0o600)})
	refused(t, err, "does not belong to a loader")
}
