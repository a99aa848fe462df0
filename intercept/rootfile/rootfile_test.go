package rootfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/rootfile"
)

func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "own")
	if err := rootfile.Folder(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWrittenWholeAndReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "own")
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two"} {
		if err := rootfile.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := rootfile.Read(path, 3); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
	}
	names, err := rootfile.List(dir)
	if fi, serr := os.Stat(dir); err != nil || serr != nil || len(names) != 1 || fi.Mode().Perm() != 0o700 {
		t.Errorf("%q, %v, %v", names, err, fi)
	}
	if err := rootfile.Rename(path, "g"); err != nil {
		t.Error(err)
	}
	if err := rootfile.Remove(filepath.Join(dir, "g")); err != nil {
		t.Error(err)
	}
	if _, err := rootfile.Read(path, 3); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if names, err := rootfile.List(filepath.Join(dir, "none")); names != nil || err != nil {
		t.Error(names, err)
	}
}

// What somebody else may have made is not read, and holds nobody up.
func TestUnsafeFilesAreNotRead(t *testing.T) {
	file := func(path string, mode os.FileMode) error {
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	}
	for name, make := range map[string]func(path string) error{
		"link": func(path string) error {
			if err := file(path+"-real", 0o600); err != nil {
				return err
			}
			return os.Symlink(path+"-real", path)
		},
		"fifo":        func(path string) error { return unix.Mkfifo(path, 0o600) },
		"device":      func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, 1<<8|5) }, // zero
		"folder":      func(path string) error { return os.Mkdir(path, 0o700) },
		"group's too": func(path string) error { return file(path, 0o620) },
		"everybody's": func(path string) error { return file(path, 0o602) },
		"another's":   func(path string) error { return errors.Join(file(path, 0o600), os.Chown(path, 65534, -1)) },
		"large":       func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("x", 101)), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder(t), "f")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			done := time.AfterFunc(2*time.Minute, func() { panic("it waits") })
			defer done.Stop()
			if b, err := rootfile.Read(path, 100); !errors.Is(err, rootfile.ErrUnsafe) {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

// Nor is anything in a folder that is not root's alone.
func TestUnsafeFolders(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"others may look": func(dir string) error { return os.Chmod(dir, 0o750) },
		"another's":       func(dir string) error { return os.Chown(dir, 65534, -1) },
		"link": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"-real"), os.Symlink(dir+"-real", dir))
		},
		"file": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := make(dir); err != nil {
				t.Fatal(err)
			}
			_, rerr := rootfile.Read(path, 100)
			_, lerr := rootfile.List(dir)
			for what, err := range map[string]error{"read": rerr, "list": lerr, "folder": rootfile.Folder(dir), "write": rootfile.Write(path, nil)} {
				if err == nil || !strings.Contains(err.Error(), "mode 0700") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}
