package main

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// account is somebody as the kernel's permission checks see them.
type account struct {
	name string // for people
	uid  uint32
	gids []uint32
	pid  int // a process of theirs, 0 for none: whose view of the file system counts
}

// Permissions, as in a mode.
const (
	mayWrite  = 2
	maySearch = 1
)

// reaches reports whether the account may connect to the unix socket at a path
// below a root, "" for our own: that needs search on every folder on the way,
// and write on the socket (unix(7)). The path holds no symbolic links.
func (a *account) reaches(root, path string) (bool, error) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		// With the slash, since a process's root is a link itself.
		if ok, err := a.may(root+strings.TrimSuffix(dir, "/")+"/", maySearch); err != nil || !ok {
			return false, err
		}
		if dir == "/" {
			return a.may(root+path, mayWrite)
		}
	}
}

// may decides as acl(5) says.
func (a *account) may(path string, want uint16) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, err
	}
	if a.uid == 0 {
		return true, nil
	}
	acl, err := readACL(path)
	if err != nil {
		return false, err
	}
	if acl == nil {
		acl = []aclEntry{
			{aclUserObj, uint16(st.Mode>>6) & 7, 0}, {aclGroupObj, uint16(st.Mode>>3) & 7, 0}, {aclOther, uint16(st.Mode) & 7, 0},
		}
	}
	return a.allowed(acl, st.Uid, st.Gid, want), nil
}

// Tags of an access control list's entries (linux/posix_acl.h).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

func (a *account) allowed(acl []aclEntry, owner, group uint32, want uint16) bool {
	mask := uint16(7)
	for _, e := range acl {
		if e.tag == aclMask {
			mask = e.perm
		}
	}
	granted := func(e aclEntry) bool {
		p := e.perm
		if e.tag == aclUser || e.tag == aclGroupObj || e.tag == aclGroup {
			p &= mask
		}
		return p&want == want
	}
	for _, e := range acl {
		if e.tag == aclUserObj && a.uid == owner || e.tag == aclUser && e.id == a.uid {
			return granted(e)
		}
	}
	member := false
	for _, e := range acl {
		if e.tag == aclGroupObj && slices.Contains(a.gids, group) || e.tag == aclGroup && slices.Contains(a.gids, e.id) {
			member = true
			if granted(e) {
				return true
			}
		}
	}
	if member {
		return false
	}
	return slices.ContainsFunc(acl, func(e aclEntry) bool { return e.tag == aclOther && granted(e) })
}

// readACL returns the access control list of a file, nil where there is none
// besides the mode.
func readACL(path string) ([]aclEntry, error) {
	b := make([]byte, 4096)
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", b)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// linux/posix_acl_xattr.h: a version, then entries, little endian.
	const head, size = 4, 8
	if n < head || (n-head)%size != 0 || binary.LittleEndian.Uint32(b) != 2 {
		return nil, errors.New("its access control list is of an unknown form")
	}
	var acl []aclEntry
	for b := b[head:n]; len(b) > 0; b = b[size:] {
		acl = append(acl, aclEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])})
	}
	return acl, nil
}
