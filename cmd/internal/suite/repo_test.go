package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// These tests guard the repository as a whole.

func TestMain(m *testing.M) {
	if err := os.Chdir("../../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const maxLines = 800

var (
	generatedCode = regexp.MustCompile(`(?m)^(//|#|/\*) .*(Code )?generated .*DO NOT EDIT`)
	looseEnd      = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
)

// sources calls f for each file that people write.
func sources(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	n := 0
	err := walk(func(path string) error {
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".md", ".sh", ".yaml", "":
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && !generatedCode.Match(text) {
			n++
			f(path, text)
		}
		return err
	})
	if err != nil || n < 100 {
		t.Fatalf("%d files found: %v", n, err)
	}
}

func TestRepoFileSizes(t *testing.T) {
	sources(t, func(path string, text []byte) {
		if filepath.Ext(path) == ".md" {
			return // a reference is read by looking things up
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, %d at most: split it by what it is about", path, n, maxLines)
		}
	})
}

func TestRepoLooseEnds(t *testing.T) {
	sources(t, func(path string, text []byte) {
		for i, line := range bytes.Split(text, []byte("\n")) {
			if looseEnd.Match(line) {
				t.Errorf("%s:%d: %s: finish it, or file an issue", path, i+1, bytes.TrimSpace(line))
			}
		}
	})
}

// Each package has one package comment, which begins as Go's conventions say.
func TestRepoPackageDocs(t *testing.T) {
	type pkg struct {
		name string
		docs []string
	}
	pkgs := map[string]*pkg{}
	sources(t, func(path string, text []byte) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		if pkgs[dir] == nil {
			pkgs[dir] = &pkg{name: f.Name.Name}
		}
		if doc := f.Doc.Text(); doc != "" {
			pkgs[dir].docs = append(pkgs[dir].docs, doc)
		}
	})
	for dir, p := range pkgs {
		want := "Package " + p.name + " "
		if p.name == "main" {
			want = "Command " + filepath.Base(dir) + " "
		}
		switch {
		case len(p.docs) == 0:
			t.Errorf("%s: no package comment: say what it is, beginning with %q", dir, want)
		case len(p.docs) > 1:
			t.Errorf("%s: %d package comments: keep one", dir, len(p.docs))
		case !strings.HasPrefix(p.docs[0], want):
			t.Errorf("%s: the package comment does not begin with %q: %.40q", dir, want, p.docs[0])
		}
	}
}

// The targets that people know are explained by `make help`.
func TestRepoMakeHelp(t *testing.T) {
	out, err := exec.Command("make", "--no-print-directory", "help").CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v\n%s", err, out)
	}
	for _, target := range strings.Fields("help deps build demo test bench check generate clean") {
		if !regexp.MustCompile(`(?m)^  ` + target + ` +\S`).Match(out) {
			t.Errorf("make help does not tell what %s does:\n%s", target, out)
		}
	}
}

// A dependency is named in docs/architecture.md, with what it is for.
func TestRepoDependencies(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, named, ok := strings.Cut(string(doc), "\n## Dependencies\n")
	if !ok {
		t.Fatal("docs/architecture.md has no part \"Dependencies\"")
	}
	n := 0
	for line := range strings.Lines(string(mod)) {
		m := regexp.MustCompile(`^(?:\t|require )(\S+) v\S+\n`).FindStringSubmatch(line)
		if m == nil {
			continue // indirect ones have a comment
		}
		n++
		if !strings.Contains(named, m[1]) {
			t.Errorf("docs/architecture.md does not say what %s is for", m[1])
		}
	}
	if n == 0 {
		t.Fatal("no dependency found in go.mod")
	}
}
