package redirect

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NetnsCookie returns the cookie of the network namespace that a file names.
func NetnsCookie(ns *os.File) (cookie uint64, err error) {
	err = inNetns(ns, func() (err error) {
		cookie, err = thisNetns()
		return err
	})
	return cookie, err
}

// Sweep destroys and returns covered connections to protected destinations
// that did not come through the passage: those of a cgroup that was covered
// after them. Up does it on its own.
func (g *Guard) Sweep() ([]Bypass, error) {
	unlock, err := lock(g.dir)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer unlock()
	return g.sweep()
}

// Passages are the names that listeners of a network namespace can have.
func Passages(cookie uint64) (all []Passage) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		all = append(all, Passage{Netns: cookie, Family: family})
	}
	return all
}
