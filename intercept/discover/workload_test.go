package discover_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/discover"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// What runs in a container is told by the name that its runtime has, although
// that came later.
func TestWorkloadsAreNamed(t *testing.T) {
	redirecttest.Lock(t)
	cgroup := redirecttest.Cgroup(t) + "/docker-" + strings.Repeat("ab", 32) + ".scope"
	dir := cgroupRoot(t) + cgroup
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	addr := as(t, "postgres", "serve", "tcp", "127.0.0.1:0").start(t)
	holder := as(t, "agent", "hold", "tcp", addr)
	holder.cmd.SysProcAttr.UseCgroupFD, holder.cmd.SysProcAttr.CgroupFD = true, int(f.Fd())
	holder.start(t)
	asked := 0
	inv := takeWhile(t, func() {}, func(path string) string {
		if path != cgroup {
			return ""
		}
		if asked++; asked == 1 {
			return "" // its state comes later
		}
		return "billing"
	})
	i := slices.IndexFunc(inv.Contacts, func(c discover.Contact) bool { return c.Exe == holder.exe })
	if i < 0 || inv.Contacts[i].Container == "" || inv.Contacts[i].Workload != "billing" {
		t.Errorf("%d of %+v", i, inv.Contacts)
	}
}
