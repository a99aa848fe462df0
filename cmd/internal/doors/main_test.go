package doors_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/doors"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

var (
	update   = flag.Bool("update", false, "write rows.jsonl and docs/doors.md from what is measured")
	from     = flag.String("from", "", "take the rows of other kernels from a file of JSON lines, instead of measuring")
	rowsOnly = flag.Bool("rows", false, "print the rows as JSON lines, and hold them against nothing")
)

const (
	rowsFile = "rows.jsonl"
	page     = "../../../docs/doors.md"
	// attempts names a folder with the attempts, built already.
	attempts = "DOORS_ATTEMPTS"
	// inside marks the process that measures, in namespaces of its own.
	inside = "DOORS_INSIDE"
)

// roles are what the test binary does when it is started again as another
// process.
var roles = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if role := os.Getenv("DOORS_ROLE"); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Every door leads where docs/doors.md says.
func TestDoors(t *testing.T) {
	if os.Getenv(inside) != "" {
		measure(t, os.NewFile(3, "rows"))
		return
	}
	if os.Geteuid() != 0 {
		redirecttest.Lock(t) // tells that it needs root
	}
	var fresh []doors.Row
	if *from != "" {
		fresh = readRows(t, *from)
	} else {
		fresh = measured(t)
	}
	if *rowsOnly {
		if err := doors.WriteRows(os.Stdout, fresh); err != nil {
			t.Fatal(err)
		}
		return
	}
	rows := readRows(t, rowsFile)
	if *update {
		write(t, doors.Merge(rows, fresh))
		return
	}
	if diff := doors.Differ(rows, fresh); len(diff) > 0 {
		t.Errorf("%s is not what this kernel does:\n%s\nIf that is meant, run `make doors`, and review what it changes.",
			filepath.Base(page), strings.Join(diff, "\n"))
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != doors.Document(groups(), rows) {
		t.Errorf("docs/doors.md is not what %s and the table of doors make (%v): run `make doors`, and review what it changes", rowsFile, err)
	}
}

func groups() (out []doors.Group) {
	for _, g := range table {
		group := doors.Group{Title: g.title}
		for _, d := range g.doors {
			group.Doors = append(group.Doors, d.Door)
		}
		out = append(out, group)
	}
	return out
}

func readRows(t *testing.T, name string) []doors.Row {
	t.Helper()
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := doors.ReadRows(f)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func write(t *testing.T, rows []doors.Row) {
	t.Helper()
	var b bytes.Buffer
	if err := doors.WriteRows(&b, rows); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{rowsFile: b.String(), page: doors.Document(groups(), rows)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// measured runs this test again in a network and a mount namespace of its
// own, which take all that it makes with them, and returns its rows.
func measured(t *testing.T) []doors.Row {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestDoors$", fmt.Sprintf("-test.v=%v", testing.Verbose()))
	cmd.Env = append(os.Environ(), inside+"=1", attempts+"="+programs(t))
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	rows, rerr := doors.ReadRows(r)
	if err := errors.Join(cmd.Wait(), rerr); err != nil {
		t.Fatalf("measuring failed: %v", err)
	}
	if len(rows) == 0 {
		t.Fatal("nothing was measured")
	}
	return rows
}

// programs returns a folder with the attempts. It builds them where the
// environment names none.
func programs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(attempts); dir != "" {
		return dir
	}
	dir := t.TempDir()
	sources, err := filepath.Glob("attempt/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no attempts: %v", err)
	}
	for _, src := range sources {
		bin := filepath.Join(dir, strings.TrimSuffix(filepath.Base(src), ".c"))
		if out, err := exec.Command("cc", "-static", "-O1", "-Wall", "-Werror", "-o", bin, src).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", src, err, out)
		}
	}
	return dir
}

// The names of doors are the keys of rows.
func TestNames(t *testing.T) {
	var seen []string
	for _, g := range groups() {
		for _, d := range g.Doors {
			if slices.Contains(seen, d.Name) || d.Name == "" || d.How == "" || strings.ContainsAny(d.Name+d.How, "|\n") {
				t.Errorf("door %q: names are unique, doors have a How, and neither breaks a table", d.Name)
			}
			seen = append(seen, d.Name)
		}
	}
}

// answer is what a role prints.
func answer(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
