package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// demo is a running demo.
type demo struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  lines
	done chan struct{}
	err  error // once done is closed
}

// lines is output that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	path := filepath.Join(bin, "demo")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../demo")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := &demo{t: t, done: make(chan struct{})}
	d.cmd = exec.Command(path, append([]string{"-bin", bin}, args...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() { // it cleans up by itself
		_ = d.cmd.Process.Signal(syscall.SIGINT)
		<-d.done
	})
	return d
}

// until waits for what the demo says.
func (d *demo) until(pattern string) []string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for over := false; ; {
		if m := re.FindStringSubmatch(d.out.String()); m != nil {
			return m
		}
		if over {
			d.t.Fatalf("no %q in:\n%s", pattern, d.out.String())
		}
		select {
		case <-d.done:
			over = true
		case <-d.t.Context().Done():
			over = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end waits for the demo's end, and returns its exit code.
func (d *demo) end() int {
	d.t.Helper()
	<-d.done
	var exit *exec.ExitError
	if d.err != nil && !errors.As(d.err, &exit) {
		d.t.Fatal(d.err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// clean fails unless nothing is left of a demo, whose folder may be known.
func clean(t *testing.T, dir string) {
	t.Helper()
	unlock, err := stand.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "sallyport-stand-*"))
	if err != nil || len(dirs) > 0 {
		t.Errorf("left behind: %v (%v)", dirs, err)
	}
	if dir != "" {
		if err := stand.Leftovers(dir); err != nil {
			t.Error(err)
		}
	}
}

var folder = `DEMO is (\S+),`

// The demo shows what it says, and leaves nothing behind.
func TestDemo(t *testing.T) {
	d := startDemo(t)
	dir := d.until(folder)[1]
	if code := d.end(); code != 0 || !strings.Contains(d.out.String(), "All 13 steps showed what they say") {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	clean(t, dir)
}

// Ctrl-C ends it anywhere, and it leaves nothing behind.
func TestDemoInterrupted(t *testing.T) {
	for name, at := range map[string]string{"early": "Starting PostgreSQL", "in a step": "4\\. A destructive", "while the daemon is dead": "kill -9"} {
		t.Run(name, func(t *testing.T) {
			d := startDemo(t)
			dir := ""
			if name != "early" {
				dir = d.until(folder)[1]
			}
			d.until(at)
			if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if code := d.end(); code != 1 || !strings.Contains(d.out.String(), "interrupted") {
				t.Errorf("exit code %d:\n%s", code, d.out.String())
			}
			clean(t, dir)
		})
	}
}

// -keep leaves it running; what it prints makes anybody the agent.
func TestDemoKept(t *testing.T) {
	d := startDemo(t, "-keep")
	dir := d.until(folder)[1]
	command := d.until(`(?m)^  (PGPASSWORD=.* psql .*)$`)[1]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", command+` -c "SELECT ssn FROM patients WHERE id = 3"`).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "***-**-0003") {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, d.out.String())
	}
	clean(t, dir)
}

// A demo that is killed takes its processes with it; the next stand takes away
// the rest.
func TestDemoKilled(t *testing.T) {
	d := startDemo(t, "-keep")
	dir := d.until(folder)[1]
	d.until("Become the agent")
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.end()
	s := startStand(t, stand.Options{NoRecorder: true})
	if s.Dir == dir {
		t.Fatal("the same folder again")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
}

// A stand that can't be started says why, and leaves nothing behind.
func TestStandFails(t *testing.T) {
	s, err := stand.Start(t.Context(), stand.Options{Bin: bin, Policy: []byte("rules:\n  - name: typo\n    efect: allow\n")})
	if err == nil {
		_ = s.Stop()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "policy.yaml:3: ") {
		t.Error(err)
	}
	clean(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	if s, err = stand.Start(ctx, stand.Options{Bin: bin, Prepare: func(context.Context, *stand.Stand) error { cancel(); return nil }}); err == nil {
		_ = s.Stop()
		t.Fatal("it started although nobody wanted it any more")
	}
	clean(t, "")
}
