// Package docs holds documents against what they speak of.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// A name of a test, of a story, or of a file, as the threat model writes it.
var (
	testName  = regexp.MustCompile(`^(\w[\w-]*)\.((?:Test|Fuzz)\w+)$`)
	storyName = regexp.MustCompile(`^\w+/\w+\.txtar$`)
	fileName  = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)+\.(go|c|h|sql|md|yaml)$`)
	loose     = regexp.MustCompile(`\b(Test|Fuzz)[A-Z]|\.txtar|\.go\b`)
	code      = regexp.MustCompile("`[^`\n]+`")
)

// What docs/threat-model.md names is there, and each of its claims names a
// test: a table whose last column is "held by" is one of claims.
func TestThreatModel(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testsByFolder(t)
	claims := 0
	last := "" // header of the last column of the table that we are in
	for i, line := range strings.Split(string(text), "\n") {
		held := false
		for _, name := range code.FindAllString(line, -1) {
			name = strings.Trim(name, "`")
			problem := ""
			switch m := testName.FindStringSubmatch(name); {
			case m != nil:
				held = true
				if folders := tests[m[1]]; len(folders) == 0 {
					problem = "no folder of that name has tests"
				} else if n := having(folders, m[2]); n != 1 {
					problem = "not one test of that name there"
				}
			case storyName.MatchString(name):
				held = true
				problem = missing("cmd/internal/e2e/testdata/" + name)
			case fileName.MatchString(name):
				problem = missing(name)
			case loose.MatchString(name):
				problem = "write folder.TestName, folder/story.txtar or a file's whole path"
			}
			if problem != "" {
				t.Errorf("docs/threat-model.md:%d: %s: %s", i+1, name, problem)
			}
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			last = ""
		case last == "":
			last = strings.TrimSpace(cells[len(cells)-1])
		case last == "held by" && strings.Trim(line, "|- ") != "":
			claims++
			if !held || len(cells) != 3 {
				t.Errorf("docs/threat-model.md:%d: a claim without a test, or without the code that holds it", i+1)
			}
		}
	}
	if claims < 40 {
		t.Errorf("only %d claims were found", claims)
	}
}

func missing(path string) string {
	if _, err := os.Stat(filepath.Join(root, path)); err != nil {
		return "there is no such file"
	}
	return ""
}

func having(folders []map[string]bool, test string) (n int) {
	for _, f := range folders {
		if f[test] {
			n++
		}
	}
	return n
}

// testsByFolder finds the tests and fuzz targets of each folder, by the last
// part of its path.
func testsByFolder(t *testing.T) map[string][]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		if all[dir] == nil {
			all[dir] = map[string]bool{}
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				all[dir][fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("%d folders with tests: %v", len(all), err)
	}
	out := map[string][]map[string]bool{}
	for dir, tests := range all {
		out[filepath.Base(dir)] = append(out[filepath.Base(dir)], tests)
	}
	return out
}
