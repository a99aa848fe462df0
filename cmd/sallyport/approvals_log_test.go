package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/policy/approval"
)

// A record that was torn at the end was never taken for written: the rest holds. One
// in the middle gives nothing.
func TestApprovalsLogTorn(t *testing.T) {
	whole := appendRecord(appendRecord([]byte(approvalsHead), []byte("one")), []byte("two"))
	torn := append([]byte{}, whole...)
	torn[len(torn)-3] = 0
	if records, err := parseApprovals(torn); err != nil || len(records) != 1 || string(records[0]) != "one" {
		t.Errorf("%q %v", records, err)
	}
	torn[len(approvalsHead)] ^= 1
	if _, err := parseApprovals(torn); !errors.Is(err, approval.ErrDamaged) {
		t.Error(err)
	}
}

// A disk that is full at the start costs nothing of what was approved.
func TestApprovalsLogOnFullDisk(t *testing.T) {
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
	path := filepath.Join(state, approvalsFile)
	if err := os.WriteFile(path, []byte(approvalsHead), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "other"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	d := &daemon{}
	if err := d.openApprovals(state); !errors.Is(err, syscall.ENOSPC) || !has(err.Error(), "make room") {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != approvalsHead {
		t.Errorf("the log is set aside: %v", err)
	}
}
