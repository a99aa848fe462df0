package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Mountinfo is where the kernel says what is mounted, proc(5).
const Mountinfo = "/proc/self/mountinfo"

// Root returns where the cgroup2 hierarchy is mounted, out of a mountinfo. It is
// found by its type: it may be anywhere, beside version 1 hierarchies.
func Root(mountinfo string) (string, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		// id parent dev root mountpoint options [optional...] - type ...
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) >= 5 && fields[3] == "/" {
			return unescape(fields[4]), nil
		}
	}
	if err := s.Err(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s names none", mountinfo)
}

// unescape undoes mountinfo's octal escapes of blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
