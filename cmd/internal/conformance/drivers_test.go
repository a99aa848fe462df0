//go:build conformance

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pgx's own tests, as its testsetup has the database.
func TestPgx(t *testing.T) {
	dir := module(t, "github.com/jackc/pgx/v5")
	setup, err := os.ReadFile(filepath.Join(dir, "testsetup", "postgresql_setup.sql"))
	if err != nil {
		t.Fatal(err)
	}
	const database = "CREATE DATABASE pgx_test;\n\\c pgx_test\nSET client_min_messages = error;\n"
	compare(t, database+string(setup), func(t *testing.T, host, port string) results {
		dsn := "host=" + host + " port=" + port + " user=pgx_md5 password=secret dbname=pgx_test sslmode=disable"
		return goTest(t, dir, "PGX_TEST_DATABASE="+dsn, "PGX_TEST_TCP_CONN_STRING="+dsn, "PGX_TEST_MD5_PASSWORD_CONN_STRING="+dsn)
	})
}

// lib/pq's own tests. They wait 100 ms for a connection or a notification, and
// panic where a busy machine takes longer: here they wait longer too.
func TestPq(t *testing.T) {
	dir := module(t, "github.com/lib/pq")
	notify := filepath.Join(dir, "notify_test.go")
	b, err := os.ReadFile(notify)
	if err == nil {
		err = os.WriteFile(notify, bytes.ReplaceAll(b, []byte("time.After(100 * time.Millisecond)"), []byte("time.After(20 * time.Second)")), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	const setup = "CREATE ROLE pqgo SUPERUSER LOGIN PASSWORD 'wordpass'; CREATE DATABASE pqgo OWNER pqgo;\n\\c pqgo\nCREATE EXTENSION hstore;\n"
	compare(t, setup, func(t *testing.T, host, port string) results {
		return goTest(t, dir, "PGHOST="+host, "PGPORT="+port, "PGUSER=pqgo", "PGDATABASE=pqgo", "PGSSLMODE=disable")
	})
}

// module copies a module that this one needs, at the version that it needs, to
// where its tests can be built.
func module(t *testing.T, path string) string {
	t.Helper()
	b, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(b)))); err != nil {
		t.Fatal(err)
	}
	// Another user's servers are not looked into; the copy is ours to write.
	err = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o755)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// temporary finds a folder of a test, which some name their sub-tests after.
var temporary = regexp.MustCompile(`/tmp/\w+/\d+`)

// goTest runs all tests of a module, one package after another: they share a
// database.
func goTest(t *testing.T, dir string, env ...string) results {
	cmd := exec.Command("go", "test", "-json", "-count=1", "-p=1", "-parallel=1", "-timeout=15m", "./...")
	cmd.Dir = dir
	cmd.Env = append(append(cmd.Environ(), "GOFLAGS=-mod=mod"), env...)
	b, err := cmd.Output()
	keep(t, b)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	out := results{}
	for line := range bytes.Lines(b) {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(line, &e) == nil && e.Test != "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			out[e.Package+"."+temporary.ReplaceAllString(e.Test, "TMP")] = e.Action
		}
	}
	return out
}
