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
	"syscall"
	"time"
)

const cache = ".cache/kernels"

// Times are for an emulated machine on a busy host.
const (
	machineLimit = 6 * time.Minute
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

// A driver runs the kernels, one after another: each has all the cores.
type driver struct {
	emulate, update bool
	only            string

	tmp            string
	qemu           qemu
	init           string            // this program, static
	bins           map[string]string // in the machine: on the host
	runs           []run
	tests          map[string][]string // by run
	rows           []byte              // that the doors gave, of all kernels
	passed, failed int
}

func (d *driver) run(ctx context.Context) (err error) {
	pin, all, err := parsePins(pinned)
	if err != nil {
		return err
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
	fmt.Printf("%-34s %6.1f s\n", "test binaries built", time.Since(begin).Seconds())
	if d.emulate = d.emulate || !openable("/dev/kvm"); d.emulate {
		fmt.Println("no KVM: the machines are emulated")
	}
	ran := 0
	for _, k := range all {
		if d.only != "" && d.only != k.series {
			continue
		}
		ran++
		if err := d.kernel(ctx, k); err != nil {
			return fmt.Errorf("kernel %s: %w", k.series, err)
		}
	}
	if ran == 0 {
		return fmt.Errorf("no kernel %q in pinned.txt", d.only)
	}
	if err := d.doors(ctx); err != nil {
		fmt.Println("FAIL doors:", err)
		d.failed++
	}
	fmt.Printf("%-34s %6.1f s\n%d passed, %d failed\n", "all", time.Since(begin).Seconds(), d.passed, d.failed)
	if d.failed > 0 {
		return errors.New("failed")
	}
	return nil
}

// kernel boots one, and judges it. Its error is about what is not the kernel's.
func (d *driver) kernel(ctx context.Context, k kernel) error {
	root, err := fetch(ctx, cache, k)
	if err != nil {
		return err
	}
	mods, err := loadModules(ctx, root)
	if err != nil {
		return err
	}
	m := machine{qemu: d.qemu, initramfs: filepath.Join(d.tmp, "initramfs"), console: filepath.Join(d.tmp, "console"), limit: machineLimit, first: firstReport}
	if m.kernel, err = vmlinuz(root); err != nil {
		return err
	}
	if err := writeInitramfs(m.initramfs, d.init, mods, d.bins, d.runs); err != nil {
		return err
	}
	begin := time.Now()
	v := newVerdict()
	err = nil
	if !d.emulate {
		m.kvm, m.first = true, 15*time.Second
		err = m.boot(ctx, v.take)
		if never := (errNoReport{}); errors.As(err, &never) && ctx.Err() == nil {
			fmt.Println("KVM does not work here: the machines are emulated")
			d.emulate, m.kvm, m.first = true, false, firstReport
		}
	}
	if d.emulate {
		begin = time.Now()
		err = m.boot(ctx, v.take)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var passed int
	var wrong []string
	if v.release != "" {
		passed, wrong = v.judge(k.series, d.tests)
	}
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, w := range wrong {
		fmt.Printf("FAIL %s: %s\n", k.series, w)
	}
	fmt.Printf("%-34s %6.1f s  %d passed, %d failed\n", v.release, time.Since(begin).Seconds(), passed, len(wrong))
	d.passed += passed
	d.failed += len(wrong)
	d.rows = append(d.rows, v.rows...)
	return nil
}

func openable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}
