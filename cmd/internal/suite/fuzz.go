package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

var (
	fuzzFunc  = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzBegun = regexp.MustCompile(`now fuzzing with|starting with empty corpus`)
	fuzzStats = regexp.MustCompile(`elapsed: .*execs: .*`)
)

// target is a fuzz target: a function, and the program that was built of its
// package's tests.
type target struct{ dir, name, bin string }

// fuzz builds each package that has targets once, and runs two targets at a
// time.
func fuzz(ctx context.Context, s *suite) error {
	bins, err := os.MkdirTemp(s.tmp, "fuzz")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bins)
	targets, err := s.targets(ctx, bins)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(2)
	for _, t := range targets {
		g.Go(func() error {
			out, err := s.fuzzOne(ctx, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.add(0, 1)
				fmt.Fprintf(s.out, "%sFAIL\t%s\t%s: %v\n", out, t.dir, t.name, err)
				return fmt.Errorf("%s: %w", t.name, err)
			}
			s.add(1, 0)
			stats := append([][]byte{nil}, fuzzStats.FindAll(out, -1)...)
			fmt.Fprintf(s.out, "ok  \t%s\t%s\t%s\n", t.dir, t.name, stats[len(stats)-1])
			return nil
		})
	}
	return g.Wait()
}

// targets finds the fuzz functions and builds their programs.
func (s *suite) targets(ctx context.Context, bins string) (out []target, err error) {
	built := map[string]string{}
	err = walk(func(path string) error {
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzFunc.FindAllSubmatch(b, -1) {
			dir := filepath.Dir(path)
			if built[dir] == "" {
				bin := filepath.Join(bins, strings.ReplaceAll(dir, "/", "."))
				if err := s.show(s.command(ctx, ".", "go", "test", "-c", "-fuzz=.", "-o", bin, "./"+dir)); err != nil {
					return err
				}
				built[dir] = bin
			}
			out = append(out, target{dir, string(m[1]), built[dir]})
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no fuzz target found")
	}
	return out, err
}

// fuzzOne runs a target for a while. It is ended by an interrupt, because the
// end of -fuzztime is now and then taken for a failure (go.dev/issue/75804),
// and its time begins when the inputs that are known have been run.
func (s *suite) fuzzOne(ctx context.Context, t target) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.fuzztime+2*time.Minute)
	defer cancel()
	corpus := s.corpus
	if corpus == "" {
		corpus = filepath.Join(filepath.Dir(t.bin), "corpus")
	}
	cmd := s.command(ctx, t.dir, t.bin, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.parallel=1", "-test.fuzzminimizetime=50x", "-test.fuzzcachedir="+filepath.Join(corpus, t.dir))
	said := &transcript{begun: func() {
		time.AfterFunc(s.fuzztime, func() { _ = cmd.Process.Signal(os.Interrupt) })
	}}
	cmd.Stdout, cmd.Stderr = said, said
	if err := s.children.run(cmd); err != nil {
		return said.all.Bytes(), errors.Join(err, ctx.Err())
	}
	return said.all.Bytes(), nil
}

// transcript is what a target says. It calls begun when the fuzzing begins.
type transcript struct {
	all   bytes.Buffer
	begun func()
}

func (t *transcript) Write(b []byte) (int, error) {
	t.all.Write(b)
	if t.begun != nil && fuzzBegun.Match(t.all.Bytes()) {
		t.begun()
		t.begun = nil
	}
	return len(b), nil
}
