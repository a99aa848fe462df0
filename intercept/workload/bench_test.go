package workload_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/workload"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A host with 1,000 cgroups of one process each, 200 of them in network
// namespaces of their own: what it costs to follow them all at rest, and how
// long a new one waits.
func BenchmarkFollow(b *testing.B) {
	base := top(b)
	for i := range 1000 {
		path := fmt.Sprintf("%s/%d", base, i)
		mkdir(b, path)
		var flags uintptr
		if i%5 == 0 {
			flags = syscall.CLONE_NEWNET
		}
		sleeper(b, path, flags)
	}
	f := follow(b, workload.Options{HostMode: true, Selectors: []selector{{Container: &container{Name: "exempt"}}, {Cgroup: base + "/new"}}})
	spaces := 0
	for _, e := range f.seen {
		if _, ok := e.(workload.NetnsAppeared); ok {
			spaces++
		}
	}
	if spaces < 200 {
		b.Fatalf("%d namespaces", spaces)
	}
	time.Sleep(time.Second)
	began, used := time.Now(), cpu(b)
	time.Sleep(11 * time.Second) // with one look at the whole hierarchy
	rest := 100 * float64(cpu(b)-used) / float64(time.Since(began))
	for b.Loop() {
		mkdir(b, base+"/new")
		now := id(b, base+"/new")
		until(f, "the new one", func(e workload.CgroupMatched) bool { return e.ID == now })
		f.seen = nil
		if err := unix.Rmdir(cgroupRoot(b) + base + "/new"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rest, "%cpu-at-rest")
}
