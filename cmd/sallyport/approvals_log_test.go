package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// logOf is a log with these records.
func logOf(records ...string) []byte {
	b, sum := []byte(approvalsHead), uint32(0)
	for _, r := range records {
		b, sum = appendRecord(b, []byte(r), sum)
	}
	return b
}

// A log that was cut short says that it was, one that is damaged in its middle gives
// nothing: whatever byte it is, nothing is read that was not written.
func TestApprovalsLog(t *testing.T) {
	dir := t.TempDir()
	l, records, torn, err := openApprovals(dir)
	if err != nil || records != nil || torn {
		t.Fatal(records, torn, err)
	}
	if err := l.Replace([][]byte{[]byte("one")}); err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("two")); err != nil {
		t.Fatal(err)
	}
	l.close()
	path := filepath.Join(dir, approvalsFile)
	whole, err := os.ReadFile(path)
	if err != nil || string(whole) != string(logOf("one", "two")) {
		t.Fatalf("%q %v", whole, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	between := len(logOf("one"))
	for n := range len(whole) {
		records, torn, err := parseApprovals(whole[:n])
		if n < len(approvalsHead) {
			if err == nil {
				t.Errorf("%d bytes are a log", n)
			}
			continue
		}
		if err != nil || len(records) > 1 || len(records) == 1 && string(records[0]) != "one" || torn != (n != between && n != len(approvalsHead)) {
			t.Errorf("%d bytes: %q %v %v", n, records, torn, err)
		}
	}
	for i := range whole {
		for bit := range 8 {
			bad := slices.Clone(whole)
			bad[i] ^= 1 << bit
			if records, torn, err := parseApprovals(bad); err == nil && (!torn || len(records) > 1) {
				t.Errorf("byte %d is damaged, and nobody noticed: %q", i, records)
			}
		}
	}
	if records, torn, err := parseApprovals(whole); err != nil || torn || len(records) != 2 {
		t.Error(records, torn, err)
	}
	// Records that are missing, twice, or in another order.
	one, two := logOf("one")[len(approvalsHead):], whole[between:]
	three := logOf("one", "two", "three")[len(whole):]
	for _, all := range [][][]byte{{two, three}, {one, three}, {one, one, two}, {two, one, three}} {
		if records, torn, err := parseApprovals(append([]byte(approvalsHead), slices.Concat(all...)...)); err == nil && !torn {
			t.Errorf("%q are the records", records)
		}
	}
	// As it was written before.
	old := []byte(approvalsHead1)
	for _, r := range []string{"one", "two"} {
		old = fmt.Appendf(old, "%08x %s\n", crc32.Checksum([]byte(r), castagnoli), r)
	}
	if records, torn, err := parseApprovals(old); err != nil || torn || len(records) != 2 {
		t.Error(records, torn, err)
	}
	// What may be there or not is not gone on with, until all is written anew.
	l, _, _, _ = openApprovals(dir)
	_ = l.Replace(nil)
	l.f.Close()
	if l.Append([]byte("x")) == nil || l.Append([]byte("y")) == nil {
		t.Error("it goes on behind a failed write")
	}
	if err := errors.Join(l.Replace([][]byte{[]byte("one")}), l.Append([]byte("two"))); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != string(whole) {
		t.Errorf("%q %v", b, err)
	}
}

// smallDisk mounts a small disk.
func smallDisk(t *testing.T) string {
	t.Helper()
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
	return state
}

// fillUp leaves no room on it.
func fillUp(t *testing.T, state string) (free func()) {
	t.Helper()
	other := filepath.Join(state, "other")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is full at the start costs nothing of what was approved.
func TestApprovalsLogOnFullDisk(t *testing.T) {
	state := smallDisk(t)
	path := filepath.Join(state, approvalsFile)
	if err := os.WriteFile(path, []byte(approvalsHead), 0o600); err != nil {
		t.Fatal(err)
	}
	fillUp(t, state)
	d := &daemon{}
	if err := d.openApprovals(state, "db-1"); !errors.Is(err, syscall.ENOSPC) || !has(err.Error(), "make room") {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != approvalsHead {
		t.Errorf("the log is set aside: %v", err)
	}
}

// One that is full later is gone on with once there is room, and holds what counted.
func TestApprovalsLogOnDiskThatFills(t *testing.T) {
	state := smallDisk(t)
	l, _, _, err := openApprovals(state)
	if err == nil {
		err = l.Replace([][]byte{[]byte("one")})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	free := fillUp(t, state)
	large := make([]byte, 8<<10)
	for i := range large {
		large[i] = 'x'
	}
	for range 2 {
		if err := l.Append(large); !errors.Is(err, syscall.ENOSPC) || !has(err.Error(), "make room") {
			t.Fatal(err)
		}
	}
	if err := l.Replace([][]byte{[]byte("one")}); err == nil {
		t.Error("there is room")
	}
	free()
	if err := errors.Join(l.Replace([][]byte{[]byte("one")}), l.Append([]byte("two"))); err != nil {
		t.Fatal(err)
	}
	_, records, torn, err := openApprovals(state)
	if err != nil || torn || len(records) != 2 || string(records[1]) != "two" {
		t.Errorf("%q %v %v", records, torn, err)
	}
	if left, err := filepath.Glob(filepath.Join(state, ".approvals-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}
