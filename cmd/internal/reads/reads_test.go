package reads_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/reads"
)

// What root puts on the record of somebody's store is theirs to go on with, and nothing
// else becomes theirs that they put there.
func TestRootGivesTheRecordToTheStoresOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run the tests as root")
	}
	const owner = 54321
	dir := t.TempDir()
	store, other := filepath.Join(dir, "store"), filepath.Join(dir, "other")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(store, owner, owner); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	note := func() {
		t.Helper()
		if err := reads.Note(t.Context(), store, "", "a test"); err != nil {
			t.Fatal(err)
		}
	}
	note()
	folder := filepath.Join(store, "reads")
	if err := os.Symlink(other, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(other, filepath.Join(folder, "hard")); err != nil {
		t.Fatal(err)
	}
	note()
	uid := func(name string) uint32 {
		t.Helper()
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Sys().(*syscall.Stat_t).Uid
	}
	if uid(other) != 0 {
		t.Error("a file that was linked there was given away")
	}
	for _, name := range []string{folder, filepath.Join(folder, "host.key"), filepath.Join(folder, "chain")} {
		if uid(name) != owner {
			t.Errorf("%s is not the owner's", name)
		}
	}
}
