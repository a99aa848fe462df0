// Command suite runs what `make test` and `make check` are made of: stages, one
// after another, each timed, and all of them even when one fails. Its last line
// counts what passed and what failed; it exits with 0 only if nothing failed,
// nothing was skipped and nothing was left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A stage is one part of the suite. Its error says why it failed; what it ran
// has been printed by then.
type stage struct {
	name  string
	what  string
	root  bool // it loads programs into the kernel
	tests bool // it runs the repository's own code: looked at for leftovers
	run   func(context.Context, *suite) error
}

var stages = []stage{
	{name: "format", what: "formatting of Go and C", run: format},
	{name: "vet", what: "go vet, in every module", run: vet},
	{name: "staticcheck", what: "staticcheck, in every module", run: staticcheck},
	{name: "modules", what: "go.mod and go.sum are tidy", run: tidy},
	{name: "guards", what: "file sizes, package docs, rooms, loose ends", run: guards},
	{name: "vagrant", what: "the Vagrantfile is valid, and the scripts are sound", run: vagrantfile},
	{name: "systemd", what: "the systemd units are valid, and as exposed as the manual says", run: units},
	{name: "generated", what: "the BPF objects are those of their sources", run: generated},
	{name: "unit", what: "tests that need no kernel programs, with -race", tests: true, run: unit},
	{name: "kernel", what: "tests with the kernel and end to end", root: true, tests: true, run: kernel},
	{name: "race", what: "the same, with -race: an hour and more where system calls are slow", root: true, tests: true, run: race},
	{name: "tests", what: "unit and kernel at once", root: true, tests: true, run: tests},
	{name: "allocs", what: "tests that count allocations, without -race", tests: true, run: allocs},
	{name: "fuzz", what: "every fuzz target for a moment", tests: true, run: fuzz},
	{name: "versions", what: "the PostgreSQL session's tests with servers 13 to 18", tests: true, run: versions},
	{name: "demo", what: "make demo", root: true, tests: true, run: demo},
}

// suite is what the stages share.
type suite struct {
	out      io.Writer
	tmp      string // TMPDIR of what the stages run
	fuzztime time.Duration
	corpus   string // what fuzzing found, kept; "" keeps nothing
	count    int    // how often tests are repeated

	children *children

	mu             sync.Mutex
	passed, failed int
	unsteady       []event
}

func (s *suite) unsteadily(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsteady = append(s.unsteady, e)
}

func (s *suite) add(passed, failed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed += passed
	s.failed += failed
}

func main() {
	fuzztime := flag.Duration("fuzztime", 3*time.Second, "for each fuzz target")
	corpus := flag.String("corpus", "", "absolute folder that keeps what fuzzing found; default: none")
	count := flag.Int("count", 1, "run each test so often")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &suite{out: os.Stdout, fuzztime: *fuzztime, corpus: *corpus, count: *count, children: &children{}}
	err := s.run(ctx, flag.Args())
	if err == nil {
		return
	}
	if err != errFailed {
		fmt.Fprintln(os.Stderr, "suite:", err)
	}
	os.Exit(1)
}

// errFailed: why has been printed.
var errFailed = errors.New("failed")

func usage() {
	fmt.Fprintln(os.Stderr, "usage: suite [flags] stage...")
	for _, st := range stages {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", st.name, st.what)
	}
	flag.PrintDefaults()
}

// run runs the named stages in the order in which they are listed above.
func (s *suite) run(ctx context.Context, names []string) (err error) {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if err := s.children.adopt(); err != nil {
		return err
	}
	if err := s.makeTemp(); err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(s.tmp); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}()
	begin := time.Now()
	var times, bad []string
	for _, st := range chosen {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		took, err := s.stage(ctx, &st)
		times = append(times, fmt.Sprintf("%-12s %7.1f s  %s", st.name, took.Seconds(), st.what))
		if err != nil {
			bad = append(bad, st.name)
		}
	}
	fmt.Fprintf(s.out, "\n%s\n%-12s %7.1f s\n", strings.Join(times, "\n"), "all", time.Since(begin).Seconds())
	if len(bad) > 0 {
		fmt.Fprintf(s.out, "failed: %s\n", strings.Join(bad, ", "))
	}
	for _, e := range s.unsteady {
		fmt.Fprintf(s.out, "unsteady: %s in %s failed, and passed when it ran again\n", e.Test, e.Package)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed\n", s.passed, s.failed)
	if s.failed > 0 {
		return errFailed
	}
	return nil
}

// stage runs one stage between two looks at the host.
func (s *suite) stage(ctx context.Context, st *stage) (took time.Duration, err error) {
	fmt.Fprintf(s.out, "\n== %s: %s\n", st.name, st.what)
	begin := time.Now()
	passed, failed := s.passed, s.failed
	var before host
	if st.tests {
		if before, err = s.look(); err != nil {
			return 0, s.report(st, err, failed)
		}
	}
	err = st.run(ctx, s)
	if st.tests {
		err = errors.Join(err, s.leftovers(before))
	}
	took = time.Since(begin)
	if err == nil && s.passed == passed {
		s.passed++ // a stage without tests of its own counts as one
	}
	return took, s.report(st, err, failed)
}

// report prints why a stage failed and sees to it that a failure is counted.
func (s *suite) report(st *stage, err error, failed int) error {
	if err != nil {
		fmt.Fprintf(s.out, "FAIL %s: %v\n", st.name, err)
		if s.failed == failed {
			s.failed++
		}
	}
	return err
}

func choose(names []string) (out []stage, err error) {
	for _, name := range names {
		if !slices.ContainsFunc(stages, func(st stage) bool { return st.name == name }) {
			return nil, fmt.Errorf("no stage %q: see -help", name)
		}
	}
	for _, st := range stages {
		if !slices.Contains(names, st.name) {
			continue
		}
		if st.root && os.Geteuid() != 0 {
			return nil, fmt.Errorf("stage %s puts programs into the kernel: run it as root (sudo make test)", st.name)
		}
		out = append(out, st)
	}
	if len(out) == 0 {
		return nil, errors.New("name the stages to run: see -help")
	}
	return out, nil
}
