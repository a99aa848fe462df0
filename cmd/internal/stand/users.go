package stand

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// User is an account by its numbers.
type User struct{ UID, GID uint32 }

// String returns uid:gid, as sallyport's own flags take it.
func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// freeUsers returns n accounts that the system does not know and that no
// process runs as.
func freeUsers(n int) ([]User, error) {
	busy := map[uint32]bool{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		var st syscall.Stat_t
		if syscall.Stat(p, &st) == nil {
			busy[st.Uid] = true
		}
	}
	var out []User
	for id := uint32(64100); id < 65000 && len(out) < n; id++ {
		if _, err := user.LookupId(strconv.Itoa(int(id))); err == nil || busy[id] {
			continue
		}
		out = append(out, User{id, id})
	}
	if len(out) < n {
		return nil, errors.New("no free user ids between 64100 and 65000")
	}
	return out, nil
}

// account finds an account that the system knows: initdb insists on a name.
func account(names ...string) (User, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uerr, gerr); err != nil {
			return User{}, fmt.Errorf("account %s: %w", name, err)
		}
		return User{uint32(uid), uint32(gid)}, nil
	}
	return User{}, fmt.Errorf("none of the accounts %q is there: PostgreSQL does not run as root", names)
}

// freePort returns a port that is free on loopback and that the kernel does
// not give to clients.
func freePort() (uint16, error) {
	var b [2]byte
	for range 200 {
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		port := 15000 + int(binary.BigEndian.Uint16(b[:]))%16000
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err == nil {
			l.Close()
			return uint16(port), nil
		}
	}
	return 0, errors.New("no free port between 15000 and 31000")
}

// folder makes a folder of an account's.
func folder(path string, of User, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chown(path, int(of.UID), int(of.GID))
}

// give writes a file for an account alone.
func give(path string, of User, b []byte) error {
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	return os.Chown(path, int(of.UID), int(of.GID))
}
