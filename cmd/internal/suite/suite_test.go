package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/redirect"
)

// Packages whose tests do what the suite must notice, and one that is fine.
var packages = map[string]string{
	"fine":     "func Test(t *testing.T) {}\nfunc TestTwo(t *testing.T) { t.Run(`sub`, func(*testing.T) {}) }",
	"fails":    "func Test(t *testing.T) { t.Run(`sub`, func(t *testing.T) { t.Error(`so there`) }) }\nfunc TestFine(*testing.T) {}",
	"unsteady": "func Test(t *testing.T) { if _, err := os.Stat(`tried`); err != nil { os.WriteFile(`tried`, nil, 0o600); t.Error(`busy`) } }",
	"ends":     "func TestA(t *testing.T) { t.Error(1) }\nfunc TestB(t *testing.T) { os.Exit(1) }",
	"many":     "func TestA(t *testing.T) { t.Error(1) }\nfunc TestB(t *testing.T) { t.Error(2) }\nfunc TestC(t *testing.T) { t.Error(3) }\nfunc TestD(t *testing.T) { t.Error(4) }",
	"skips":    "func Test(t *testing.T) {}\nfunc TestRest(t *testing.T) { t.Run(`sub`, func(t *testing.T) { t.Skip(`no`) }) }",
	"dies":     "func Test(t *testing.T) { os.Exit(3) }",
	"nothing":  "func TestMain(*testing.M) { os.Exit(0) }\nfunc Test(*testing.T) {}",
	"typo":     "func Test(t *testing.T) { x }",
	"file":     "func Test(t *testing.T) { os.CreateTemp(``, `forgotten`) }",
	"process":  "func Test(t *testing.T) { exec.Command(`sh`, `-c`, `sleep 612 & :`).Run() }",
	"mount":    "func Test(t *testing.T) { d, _ := os.MkdirTemp(``, ``); if err := syscall.Mount(`x`, d, `tmpfs`, 0, ``); err != nil { t.Fatal(err) } }",
	"cgroup":   "func Test(t *testing.T) { if err := os.Mkdir(os.Getenv(`LEAVE`), 0o755); err != nil { t.Fatal(err) } }",
	"fuzzed":   "func FuzzFine(f *testing.F) { f.Fuzz(func(*testing.T, []byte) {}) }\nfunc FuzzBad(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) { if len(b) > 2 { panic(`found`) } }) }",
}

// writeModule makes a module of them the current folder.
func writeModule(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module m\n\ngo 1.26.0\n"}
	for name, text := range packages {
		files[name+"/x_test.go"] = "package x\n\nimport (\n\t\"os\"\n\t\"os/exec\"\n\t\"syscall\"\n\t\"testing\"\n)\n\n" +
			"var _ = []any{os.Exit, exec.Command, syscall.Mount}\n\n" + text + "\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// printed is what a suite and its commands print, at once.
type printed struct {
	mu  sync.Mutex
	all []byte
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, b...)
	return len(b), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.all)
}

// adopted are the children of all suites: two that bury orphans would take each
// other's for such.
var adopted = sync.OnceValues(func() (*children, error) {
	c := &children{}
	return c, c.adopt()
})

func newSuite(t *testing.T) (*suite, *printed) {
	t.Helper()
	out := &printed{}
	all, err := adopted()
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{out: out, count: 1, fuzztime: time.Second, children: all}
	if err := s.makeTemp(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.tmp) })
	return s, out
}

func TestSuiteNotices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, to leave a mount and a cgroup: run `make test`")
	}
	writeModule(t)
	for _, c := range []struct {
		name           string
		passed, failed int
		want           string // in what is printed
	}{
		{"fine", 2, 0, "ok  \tm/fine"},
		{"fails", 1, 1, "so there"},
		{"unsteady", 1, 0, "again\tm/unsteady\tTest"},
		{"ends", 0, 1, "FAIL\tm/ends"},
		{"many", 0, 4, "FAIL\tm/many"},
		{"skips", 2, 1, "skipped, where everything must run: m/skips.TestRest/sub"},
		{"dies", 0, 1, "FAIL\tm/dies"},
		{"nothing", 0, 1, "m/nothing"},
		{"typo", 0, 1, "undefined: x"},
		{"file", 1, 1, "left behind: temporary file"},
		{"process", 1, 1, "(sleep 612)"},
		{"mount", 1, 1, "left behind: mount"},
		{"cgroup", 1, 1, "left behind: cgroup"},
	} {
		s, out := newSuite(t)
		left := filepath.Join(cgroupRoot(t), "sallyport-left-"+filepath.Base(s.tmp))
		t.Setenv("LEAVE", left)
		_, err := s.stage(t.Context(), &stage{name: "x", tests: true, run: func(ctx context.Context, s *suite) error {
			return s.gotest(ctx, nil, "./"+c.name)
		}})
		if s.passed != c.passed || s.failed != c.failed || (err == nil) != (c.failed == 0) || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %d passed, %d failed, %v, want %d, %d and %q:\n%s", c.name, s.passed, s.failed, err, c.passed, c.failed, c.want, out)
		}
		if steady := len(s.unsteady) == 0; steady == (c.name == "unsteady") {
			t.Errorf("%s: unsteady are %v", c.name, s.unsteady)
		}
		if (c.name == "many" || c.name == "ends") && strings.Contains(out.String(), "again") {
			t.Errorf("many failures were tried again:\n%s", out)
		}
		// What would be in the way of what comes next is told and taken away.
		if err := os.Remove(left); err == nil {
			t.Errorf("%s: the cgroup stayed", c.name)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), s.tmp) {
			t.Errorf("%s: the mount stayed, %v", c.name, err)
		}
	}
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSuiteFuzzes(t *testing.T) {
	writeModule(t)
	s, out := newSuite(t)
	_, err := s.stage(t.Context(), &stage{name: "x", run: fuzz})
	if err == nil || s.passed != 1 || s.failed != 1 || !strings.Contains(out.String(), "panic: found") || !strings.Contains(out.String(), "FuzzFine\telapsed") {
		t.Errorf("%d passed, %d failed, %v:\n%s", s.passed, s.failed, err, out)
	}
}
