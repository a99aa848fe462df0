package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// privateState makes the folder of the record where there is none, and refuses
// one in which anybody else can write, or could have: its keys and its counts are
// believed.
func privateState(state string) error {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	if err := private(state); err != nil {
		return err
	}
	if err := private(filepath.Join(state, "journal")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// private checks that a path is a folder of the caller's alone.
func private(folder string) error {
	i, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	why := ""
	switch st := i.Sys().(*syscall.Stat_t); {
	case !i.IsDir():
		why = "is not a folder"
	case int64(st.Uid) != int64(os.Geteuid()):
		why = fmt.Sprintf("is of user %d", st.Uid)
	case i.Mode().Perm()&0o077 != 0:
		why = fmt.Sprintf("is open to others (mode %04o)", i.Mode().Perm())
	default:
		return nil
	}
	return &exitError{
		code: 1, err: fmt.Errorf("state: %s %s: the keys in it may be somebody else's", folder, why),
		hint: `give --state a new folder of your own, below $HOME say, or "$(mktemp -d)"`,
	}
}
