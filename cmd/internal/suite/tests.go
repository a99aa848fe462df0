package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// These, and tests that import them, take turns by the kernel's lock.
var needKernel = []string{
	"sallyport.dev/sallyport/cmd/internal/stand",
	"sallyport.dev/sallyport/cmd/internal/suite",
	"sallyport.dev/sallyport/intercept/redirect/redirecttest",
}

// packages splits those that have tests by whether they need the kernel.
func (s *suite) packages(ctx context.Context) (plain, kernel []string, err error) {
	const form = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}{{end}}`
	list, err := s.output(s.command(ctx, ".", "go", "list", "-f", form, "./..."))
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if slices.ContainsFunc(f, func(p string) bool { return slices.Contains(needKernel, p) }) {
			kernel = append(kernel, f[0])
		} else {
			plain = append(plain, f[0])
		}
	}
	return plain, kernel, err
}

func unit(ctx context.Context, s *suite) error {
	plain, _, err := s.packages(ctx)
	if err != nil {
		return err
	}
	slices.Reverse(plain) // the longest are of protocols: nothing should wait for them at the end
	return s.gotest(ctx, []string{"-race"}, plain...)
}

// kernel runs one package at a time: they would wait for each other anyway. The
// daemons that they start hundreds of take more than twice as long with -race.
func kernel(ctx context.Context, s *suite) error {
	return s.withKernel(ctx)
}

func race(ctx context.Context, s *suite) error {
	return s.withKernel(ctx, "-race")
}

func (s *suite) withKernel(ctx context.Context, flags ...string) error {
	_, kernel, err := s.packages(ctx)
	if err != nil {
		return err
	}
	return s.gotest(ctx, append(flags, "-p", "1"), kernel...)
}

// allocs runs the tests that count allocations as they are meant: the race
// detector makes some of its own.
func allocs(ctx context.Context, s *suite) error {
	var names, dirs []string
	err := walk(func(path string) error {
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, f := range testFunc.FindAllSubmatch(text, -1) {
			if countsAllocs.Match(f[0]) {
				names, dirs = append(names, string(f[1])), append(dirs, "./"+filepath.Dir(path))
			}
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = errors.New("no test that counts allocations found")
	}
	if err != nil {
		return err
	}
	slices.Sort(dirs)
	run := "^(" + strings.Join(names, "|") + ")$"
	return s.gotest(ctx, []string{"-run", run}, slices.Compact(dirs)...)
}

var (
	testFunc     = regexp.MustCompile(`(?ms)^func (Test\w+)\(.*?^}$`)
	countsAllocs = regexp.MustCompile(`AllocsPerRun\(|\.Mallocs\b`)
)

// tests runs both at once: those with the kernel wait most of the time.
func tests(ctx context.Context, s *suite) error {
	var wg sync.WaitGroup
	var uerr error
	wg.Go(func() { uerr = unit(ctx, s) })
	kerr := kernel(ctx, s)
	wg.Wait()
	return errors.Join(uerr, kerr)
}

func guards(ctx context.Context, s *suite) error {
	return s.gotest(ctx, []string{"-run", "^TestRepo"}, "./cmd/internal/suite")
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// few are so many failed tests of a run that one may blame what ran beside them.
const few = 3

// gotest runs the tests of packages. Few that failed are run once more, without
// the others beside them: what passes then had too little of a busy host, and is
// told of at the end. A data race stays one.
func (s *suite) gotest(ctx context.Context, flags []string, packages ...string) error {
	t, err := s.try(ctx, flags, packages...)
	if err == nil || t.cut || len(t.bad) == 0 || len(t.bad) > few || len(t.skipped) > 0 {
		s.add(t.passed, t.failed+len(t.skipped))
		return err
	}
	s.add(t.passed, 0)
	var again error
	for _, f := range t.bad {
		fmt.Fprintf(s.out, "again\t%s\t%s\n", f.Package, f.Test)
		a, aerr := s.try(ctx, slices.Concat(flags, []string{"-run", "^" + f.Test + "$"}), f.Package)
		s.add(a.passed, a.failed+len(a.skipped))
		if aerr == nil {
			s.unsteadily(f)
		} else {
			again = err
		}
	}
	return again
}

// try runs go test. It prints a line for each package, and all that a failed
// test or package has said.
func (s *suite) try(ctx context.Context, flags []string, packages ...string) (*tally, error) {
	t := &tally{out: s.out, said: map[string]map[string][]string{}, ran: map[string]count{}}
	limit := time.Duration(s.count) * time.Hour // of a package
	cmd := s.command(ctx, ".", "go", slices.Concat([]string{"test", "-json", "-timeout", limit.String(), fmt.Sprintf("-count=%d", s.count)}, flags, packages)...)
	r, w, err := os.Pipe()
	if err != nil {
		return t, err
	}
	defer r.Close()
	cmd.Stdout = w
	err = s.children.start(cmd)
	w.Close()
	if err != nil {
		return t, err
	}
	rerr := lines(r, t.line)
	err = s.children.wait(cmd)
	var exit *exec.ExitError
	delete(t.said, "") // of builds
	t.cut = t.cut || rerr != nil || len(t.said) > 0 || err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1)
	if len(t.skipped) > 0 {
		err = errors.Join(err, fmt.Errorf("skipped, where everything must run: %s", strings.Join(t.skipped, ", ")))
	}
	if err == nil && t.passed == 0 {
		err = errors.New("no test ran")
	}
	return t, errors.Join(err, rerr)
}

// tally counts top-level tests.
type tally struct {
	out io.Writer
	count
	bad     []event // tests that failed
	skipped []string

	said map[string]map[string][]string // by package and test, until they pass
	ran  map[string]count               // by package
	cut  bool                           // it did not go on to its end, or there was a race
}

type count struct {
	passed, failed int
	whole          bool // it told its verdict itself
}

func (t *tally) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(t.out, "%s\n", line) // not from the tests
		return
	}
	said := t.said[e.Package]
	if said == nil {
		said = map[string][]string{}
		t.said[e.Package] = said
	}
	switch e.Action {
	case "output", "build-output":
		if e.Package == "" {
			fmt.Fprint(t.out, e.Output)
			return
		}
		t.cut = t.cut || strings.Contains(e.Output, "WARNING: DATA RACE")
		if e.Test == "" && e.Output == "FAIL\n" {
			n := t.ran[e.Package]
			n.whole = true
			t.ran[e.Package] = n
		}
		if verdict := strings.HasPrefix(e.Output, "FAIL") || strings.HasPrefix(e.Output, "ok "); e.Test != "" || !verdict {
			said[e.Test] = append(said[e.Test], e.Output)
		}
	case "pass", "fail":
		if e.Test == "" {
			t.end(e, said)
			return
		}
		if e.Action == "pass" {
			delete(said, e.Test)
		}
		if !strings.Contains(e.Test, "/") {
			t.test(e)
		}
	case "skip":
		if e.Test != "" {
			t.skipped = append(t.skipped, e.Package+"."+e.Test)
		}
	}
}

func (t *tally) test(e event) {
	n := t.ran[e.Package]
	if e.Action == "pass" {
		t.passed++
		n.passed++
	} else {
		t.failed++
		n.failed++
		t.bad = append(t.bad, e)
	}
	t.ran[e.Package] = n
}

// end prints what became of a package, and if it failed, what it said that did
// not pass.
func (t *tally) end(e event, said map[string][]string) {
	delete(t.said, e.Package)
	n := t.ran[e.Package]
	if e.Action == "pass" {
		if n.passed == 0 {
			t.skipped = append(t.skipped, e.Package)
		}
		fmt.Fprintf(t.out, "ok  \t%s\t%.3fs\t%d tests\n", e.Package, e.Elapsed, n.passed)
		return
	}
	var all strings.Builder
	for _, test := range slices.Sorted(maps.Keys(said)) {
		all.WriteString(strings.Join(said[test], ""))
	}
	if n.failed == 0 {
		t.failed++ // it was no test that failed, but the package
	}
	t.cut = t.cut || !n.whole
	fmt.Fprintf(t.out, "%sFAIL\t%s\t%.3fs\n", all.String(), e.Package, e.Elapsed)
}
