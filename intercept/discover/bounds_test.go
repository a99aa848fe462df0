package discover

import (
	"fmt"
	"os"
	"testing"
)

// What a process can make without end is kept in bounds, a database is not lost
// for it, and what has ended is let go.
func TestReachesAreBounded(t *testing.T) {
	c := newCollector("")
	self := uint32(os.Getpid())
	gone := uint32(1 << 30)
	c.reach(gone, "192.0.2.1:1", Service{})
	c.open[[2]uint64{uint64(gone), 1}] = true
	for i := range 100_000 {
		c.reach(self, fmt.Sprintf("192.0.2.1:%d", i), Service{})
		c.problem(fmt.Sprint("of namespace ", i))
	}
	c.reach(self, "192.0.2.7:5432", byPort(5432))
	for i := range 100_000 {
		c.reach(self, fmt.Sprintf("192.0.2.%d:5432", i), byPort(5432))
	}
	if n := len(c.reaches[self]); n > 4*mostTargets || !c.reaches[self]["192.0.2.7:5432"].Database() {
		t.Errorf("%d targets are kept", n)
	}
	if len(c.inv.Problems) > mostProblems {
		t.Errorf("%d problems are kept", len(c.inv.Problems))
	}
	if err := c.look(false); err != nil {
		t.Fatal(err)
	}
	if c.reaches[gone] != nil || len(c.open) > 0 && c.open[[2]uint64{uint64(gone), 1}] {
		t.Error("a process that has ended is kept")
	}
}
