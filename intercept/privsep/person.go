package privsep

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// personAttr holds, on a cgroup, for whom its processes act: the owner's user
// id and the path of the person's token file. It stands beside tokenAttr and
// lives as long.
const personAttr = "trusted.sallyport.person"

// personOf is a person's token file, as the caller of Enter has opened it.
func personOf(path string, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("token file %s: %w", path, err)
	}
	return strconv.FormatUint(uint64(st.Uid), 10) + " " + path, nil
}

// execPerson reads the token of the person that a cgroup made by sallyport exec
// acts for, nil where it acts for nobody. The file must still be of root or of
// the person who owned it then.
func (p *Prover) execPerson(cgroup string) ([]byte, error) {
	fd, err := p.openCgroup(cgroup)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", cgroup, err)
	}
	defer unix.Close(fd)
	b := make([]byte, maxString)
	n, err := unix.Fgetxattr(fd, personAttr, b)
	if errors.Is(err, unix.ENODATA) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: for whom it acts: %w", cgroup, err)
	}
	uid, path, ok := strings.Cut(string(b[:n]), " ")
	owner, err := strconv.ParseUint(uid, 10, 32)
	if !ok || err != nil {
		return nil, fmt.Errorf("cgroup %s: for whom it acts is not understood", cgroup)
	}
	token, err := readHost(path, uint32(owner))
	if err != nil {
		return nil, fmt.Errorf("for whom it acts: %w", err)
	}
	return token, nil
}
