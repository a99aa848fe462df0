//go:build conformance

package conformance

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sources is where .ci/deps conformance has put the server's regression tests,
// and regress.so, which they call.
const sources = ".cache/conformance/regress"

const nobody = 65534

// The server's own regression tests: what psql prints is the same both ways,
// line by line, whatever it was expected to be.
func TestRegress(t *testing.T) {
	var direct map[string]string // by test
	compare(t, "", func(t *testing.T, host, port string) results {
		out, files := regress(t, host, port)
		if strings.Contains(t.Name(), "/direct") {
			direct = files
			return out
		}
		for name, text := range files {
			if text != direct[name] {
				out[name] = "other output"
				keepDifference(t, name, direct[name], text)
			}
		}
		return out
	})
}

// placed replaces what is of one run: its folder, and its port where psql names it.
// The digits alone also stand in what tests compute: a factorial has ten numbers
// of five digits in it that a port may be.
func placed(text, dir, port string) string {
	named := regexp.MustCompile(`(port[ =]"?|:)` + port + `\b`)
	return named.ReplaceAllString(strings.ReplaceAll(text, dir, "DIR"), "${1}PORT")
}

// keepDifference writes what psql printed of a test both ways, and how that
// differs, to where keep writes.
func keepDifference(t *testing.T, name, direct, through string) {
	t.Helper()
	said, dir := keepIn(t), t.TempDir()
	was, is := filepath.Join(dir, "direct"), filepath.Join(dir, "through")
	if err := errors.Join(os.WriteFile(was, []byte(direct), 0o644), os.WriteFile(is, []byte(through), 0o644)); err != nil {
		t.Fatal(err)
	}
	b, _ := exec.Command("diff", "-u", was, is).Output() // 1 where they differ
	file := filepath.Join(said, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name+".diff")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Error(err)
	}
	t.Logf("%s: %d lines differ, see %s", name, bytes.Count(b, []byte("\n")), file)
}

var verdict = regexp.MustCompile(`(?m)^(?:test|\s*)\s*(\w+)\s+\.\.\. (ok|FAILED|failed \(ignored\))`)

// placeSources copies the regression tests to where the server can read and write.
func placeSources(t *testing.T) string {
	t.Helper()
	from, dir := filepath.Join(root(t), sources), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatalf("%v: run .ci/deps conformance", err)
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(p, nobody, nobody)
	})
	for p := dir; len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		err = errors.Join(err, os.Chmod(p, 0o755)) // the server writes there
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func regress(t *testing.T, host, port string) (results, map[string]string) {
	dir := placeSources(t)
	cmd := exec.Command("/usr/lib/postgresql/15/lib/pgxs/src/test/regress/pg_regress",
		"--inputdir="+dir, "--outputdir="+dir, "--bindir=/usr/lib/postgresql/15/bin", "--dlpath="+dir, "--schedule="+dir+"/parallel_schedule",
		"--host="+host, "--port="+port, "--user=postgres", "--max-concurrent-tests=20")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	b, err := cmd.CombinedOutput()
	diffs, _ := os.ReadFile(filepath.Join(dir, "regression.diffs"))
	keep(t, slices.Concat(b, diffs))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	out, files := results{}, map[string]string{}
	for _, m := range verdict.FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = "fail"
		if m[2] == "ok" {
			out[m[1]] = "pass"
		}
	}
	// Of a test that fails it is what it printed that counts.
	for name := range out {
		text, err := os.ReadFile(filepath.Join(dir, "results", name+".out"))
		if err != nil {
			t.Error(err)
		}
		files[name] = placed(string(text), dir, port)
	}
	return out, files
}

func TestPlaced(t *testing.T) {
	const said = "connection to server at \"127.0.0.1\", port 33239 failed\n 620448401733239439360000\n 33239\nDIR/x:33239"
	if got := placed(strings.Replace(said, "DIR", "/tmp/d", 1), "/tmp/d", "33239"); got != "connection to server at \"127.0.0.1\", port PORT failed\n 620448401733239439360000\n 33239\nDIR/x:PORT" {
		t.Error(got)
	}
}
