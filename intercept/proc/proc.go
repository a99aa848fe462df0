// Package proc reads what the kernel tells of a process: its files below /proc,
// its pidfd. How these are opened, and whether the process is still the same one,
// is the caller's business.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Tick is the resolution of start times in /proc/PID/stat, in ns: USER_HZ is 100
// on every architecture that the programs are built for.
const Tick = 10_000_000

// errCut: a file has less in it than every kernel writes.
var errCut = errors.New("cut short")

// Start returns when a process started, in ticks since boot, out of its stat.
func Start(stat []byte) (uint64, error) {
	f, err := behindName(stat)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}

// State returns the letter that stands for a process's state, out of its stat: Z
// for one that has ended.
func State(stat []byte) (byte, error) {
	f, err := behindName(stat)
	if err != nil {
		return 0, err
	}
	return f[0][0], nil
}

// behindName returns the fields of a stat from the third on, 20 at least. The
// name before them, in parentheses, may hold anything.
func behindName(stat []byte) ([][]byte, error) {
	i := bytes.LastIndexByte(stat, ')')
	f := bytes.Fields(stat[i+1:])
	if i < 0 || len(f) < 20 {
		return nil, fmt.Errorf("stat: %w", errCut)
	}
	return f, nil
}

// UIDs are the users that a process acts as.
type UIDs struct{ Real, Effective uint32 }

// Users returns those of a process, out of its status.
func Users(status []byte) (u UIDs, err error) {
	for line := range bytes.Lines(status) {
		f := bytes.Fields(line)
		if len(f) != 5 || string(f[0]) != "Uid:" {
			continue
		}
		for i, to := range []*uint32{&u.Real, &u.Effective} {
			n, err := strconv.ParseUint(string(f[1+i]), 10, 32)
			if err != nil {
				return UIDs{}, fmt.Errorf("status: %w", err)
			}
			*to = uint32(n)
		}
		return u, nil
	}
	return UIDs{}, fmt.Errorf("status: no Uid: %w", errCut)
}

// Cgroup returns the path of a process's cgroup below the cgroup2 root, out of
// its cgroup file; "" where it has none. It may be one that was removed, whose
// name the kernel then completes by " (deleted)".
func Cgroup(cgroup []byte) string {
	for line := range bytes.Lines(cgroup) {
		if path, ok := strings.CutPrefix(string(bytes.TrimSuffix(line, []byte("\n"))), "0::"); ok {
			return path
		}
	}
	return ""
}
