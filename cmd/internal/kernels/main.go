// Command kernels boots Debian's kernels, the oldest that is supported, the one
// of the current release and the newest, in virtual machines whose first process
// runs the tests of the interception, and judges what they print. Its last line
// counts what passed and what failed; the exit code is 0 only if nothing failed.
//
// The machines share nothing with the host: neither disk nor network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const cache = ".cache/kernels"

// Times are for an emulated machine on a busy host.
const (
	machineLimit = 25 * time.Minute
	firstReport  = time.Minute
)

func main() {
	if os.Args[0] == initPath {
		if os.Getpid() == 1 { // the kernel may add arguments of its own
			asInit()
		}
		if err := asWorker(); err != nil {
			fmt.Println(err)
		}
		return
	}
	var d driver
	pin := flag.Bool("pin", false, "rewrite pinned.txt with the newest kernel of each suite")
	flag.BoolVar(&d.emulate, "emulate", false, "do not use KVM, even if it is there")
	flag.BoolVar(&d.update, "update", false, "write the kernels' rows of docs/doors.md, instead of holding them against it")
	flag.StringVar(&d.only, "only", "", "one series, 6.1 for example")
	flag.StringVar(&d.test, "run", everything, "only the tests that match; then not every part must have been shown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var err error
	if *pin {
		err = repin(ctx)
	} else {
		err = d.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func repin(ctx context.Context) error {
	qemu, all, err := parsePins(pinned)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	for i, k := range all {
		if all[i], err = newest(ctx, cache, k.suite); err != nil {
			return err
		}
		fmt.Println(all[i].suite, all[i].packages)
	}
	return os.WriteFile("cmd/internal/kernels/pinned.txt", []byte(writePins(append(all, qemu))), 0o644)
}

// A driver runs the kernels, all at once: they wait more than they work.
type driver struct {
	emulate, update bool
	only, test      string

	tmp   string
	qemu  qemu
	init  string            // this program, static
	bins  map[string]string // in the machine: on the host
	runs  []run
	tests map[string][]string // by run

	mu             sync.Mutex
	rows           []byte // that the doors gave, of all kernels
	passed, failed int
}

const (
	atOnce     = 3
	everything = "^Test"
)

func (d *driver) run(ctx context.Context) (err error) {
	pin, all, err := parsePins(pinned)
	if err != nil {
		return err
	}
	if d.only != "" {
		all = slices.DeleteFunc(all, func(k kernel) bool { return k.series != d.only })
	}
	if len(all) == 0 {
		return fmt.Errorf("no kernel %q in pinned.txt", d.only)
	}
	if d.tmp, err = os.MkdirTemp("", "kernels"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.tmp)) }()
	begin := time.Now()
	if d.qemu, err = findQEMU(ctx, pin); err != nil {
		return err
	}
	if err := d.build(ctx); err != nil {
		return err
	}
	fmt.Printf("%-28s %6.1f s\n", "test binaries built", time.Since(begin).Seconds())
	roots := make([]string, len(all))
	for i, k := range all {
		if roots[i], err = fetch(ctx, cache, k); err != nil {
			return fmt.Errorf("kernel %s: %w", k.series, err)
		}
	}
	if !d.emulate && !d.kvm(ctx, roots[0]) {
		fmt.Println("KVM does not work here: the machines are emulated")
		d.emulate = true
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, k := range all {
		g.Go(func() error {
			if err := d.kernel(gctx, k, roots[i]); err != nil {
				return fmt.Errorf("kernel %s: %w", k.series, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := d.doors(ctx); err != nil {
		fmt.Println("FAIL doors:", err)
		d.failed++
	}
	fmt.Printf("%-28s %6.1f s\n%d passed, %d failed\n", "all", time.Since(begin).Seconds(), d.passed, d.failed)
	if d.failed > 0 {
		return errors.New("failed")
	}
	return nil
}

// machine prepares one in a folder of its own.
func (d *driver) machine(name, root string, mods []module, runs []run) (m machine, err error) {
	dir := filepath.Join(d.tmp, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return m, err
	}
	m = machine{
		qemu: d.qemu, initramfs: filepath.Join(dir, "initramfs"), console: filepath.Join(dir, "console"),
		limit: machineLimit, first: firstReport,
	}
	if m.kernel, err = vmlinuz(root); err != nil {
		return m, err
	}
	return m, writeInitramfs(m.initramfs, d.init, mods, d.bins, runs)
}

// kvm reports whether a kernel boots with it: that the device is there is not
// enough, where this host is a virtual machine too.
func (d *driver) kvm(ctx context.Context, root string) bool {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return false
	} else if err := f.Close(); err != nil {
		return false
	}
	m, err := d.machine("kvm", root, nil, nil)
	if err != nil {
		return false
	}
	m.kvm, m.limit = true, 10*time.Second
	return m.boot(ctx, func(report) {}) == nil
}

// kernel boots one, and judges it. Its error is about what is not the kernel's.
func (d *driver) kernel(ctx context.Context, k kernel, root string) error {
	mods, err := loadModules(ctx, root)
	if err != nil {
		return err
	}
	m, err := d.machine(k.series, root, mods, d.runs)
	if err != nil {
		return err
	}
	m.kvm = !d.emulate
	begin := time.Now()
	v := newVerdict()
	err = m.boot(ctx, v.take)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var passed int
	var wrong []string
	if v.release != "" {
		passed, wrong = v.judge(k.series, d.tests)
		if d.test == everything {
			wrong = append(wrong, v.missing()...)
		}
	}
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range wrong {
		fmt.Printf("FAIL %s: %s\n", k.series, w)
	}
	fmt.Printf("%-28s %6.1f s  %d passed, %d failed\n", v.release, time.Since(begin).Seconds(), passed, len(wrong))
	d.passed += passed
	d.failed += len(wrong)
	d.rows = append(d.rows, v.rows...)
	return nil
}
