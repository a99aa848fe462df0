package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

// kernelBench measures the programs alone: every process of the host is
// covered, this one too, and who accepts closes at once. Nothing is decoded.
type kernelBench struct {
	rounds int
	length time.Duration
	pins   string
	guard  *redirect.Guard
	open   *redirect.Listeners
	port   uint16
}

// far are destinations that nobody dials, so that the table is as large as a
// large site's.
func far(n int) (all []intercept.Destination) {
	for i := range n {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		all = append(all, intercept.Endpoint(netip.AddrPortFrom(a, 5432)))
	}
	return all
}

func runKernel(ctx context.Context, rounds int) (err error) {
	unlock, err := stand.Lock(ctx, func() { fmt.Fprintln(os.Stderr, "waiting for another stand on this host") })
	if err != nil {
		return err
	}
	defer unlock()
	dir, err := os.MkdirTemp("", "sallyport-bench")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=700"); err != nil {
		return err
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	k := &kernelBench{rounds: rounds, length: time.Second, pins: filepath.Join(dir, "sallyport"), port: 15499}
	defer func() { err = errors.Join(err, k.down()) }()
	for _, step := range []func(context.Context) error{k.connecting, k.sending, k.many, k.spaces} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernelBench) up(dst ...intercept.Destination) (err error) {
	if k.guard, err = redirect.Up(redirect.Config{Mode: "host", Port: k.port, Pins: k.pins, Destinations: dst}); err != nil {
		return err
	}
	if k.open, err = k.guard.Listen(); err != nil {
		return err
	}
	for _, l := range k.open.TCP {
		go closeAll(l)
	}
	return nil
}

func (k *kernelBench) down() error {
	if k.open != nil {
		k.open.Close()
		k.open = nil
	}
	if k.guard != nil {
		k.guard.Close()
		k.guard = nil
	}
	return redirect.Down(k.pins)
}

// closeAll accepts and closes.
func closeAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // reset meanwhile, most often
			c.Close()
		}
	}
}

// connects returns connections per second, of two clients.
func (k *kernelBench) connects(ctx context.Context, to netip.AddrPort) (float64, error) {
	var n atomic.Int64
	var failed atomic.Pointer[error]
	start := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			sa := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
			// Reset at once: no port is kept waiting.
			reset := &unix.Linger{Onoff: 1}
			for ctx.Err() == nil && time.Since(start) < k.length {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err == nil {
					err = errors.Join(unix.Connect(fd, sa), unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, reset))
					unix.Close(fd)
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", to, *err)
	}
	return float64(n.Load()) / time.Since(start).Seconds(), ctx.Err()
}

// connecting compares connections with and without the programs.
func (k *kernelBench) connecting(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go closeAll(l)
	to := l.Addr().(*net.TCPAddr).AddrPort()
	other := intercept.Endpoint(netip.MustParseAddrPort("198.18.0.1:5432"))
	return k.compare(ctx, "Connecting, programs only", "connections/s", []arrangement{
		{"direct, no programs", nil},
		{"programs there, destination free", []intercept.Destination{other}},
		{"turned, 1 destination", []intercept.Destination{intercept.Endpoint(to)}},
		{"turned, 5,000 destinations", append(far(4999), intercept.Endpoint(to))},
	}, func() (float64, error) { return k.connects(ctx, to) })
}

type arrangement struct {
	name string
	dst  []intercept.Destination
}

// compare measures in turn, and prints each arrangement's share of the first.
func (k *kernelBench) compare(ctx context.Context, title, unit string, all []arrangement, measure func() (float64, error)) error {
	got := make([][]float64, len(all))
	for range k.rounds {
		for i, a := range all {
			if err := k.down(); err != nil {
				return err
			}
			if a.dst != nil {
				if err := k.up(a.dst...); err != nil {
					return err
				}
			}
			v, err := measure()
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			got[i] = append(got[i], v)
		}
	}
	fmt.Printf("### %s\n\n| way | %s | of the first |\n|---|---:|---:|\n", title, unit)
	for i, a := range all {
		var ratios []float64
		for r, v := range got[i] {
			ratios = append(ratios, v/got[0][r])
		}
		fmt.Printf("| %s | %s | %.2f |\n", a.name, figure(median(got[i])), median(ratios))
	}
	fmt.Println()
	return ctx.Err()
}

// sending measures datagrams to a free address, and the backstop's own time
// as the kernel keeps it.
func (k *kernelBench) sending(ctx context.Context) error {
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer sink.Close()
	to := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	sa := &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	var egress []string
	send := func(length time.Duration) (float64, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		n, start := 0, time.Now()
		for time.Since(start) < length {
			for range 64 {
				if err := unix.Sendto(fd, []byte("x"), 0, sa); err != nil {
					return 0, err
				}
			}
			n += 64
		}
		return float64(n) / time.Since(start).Seconds(), nil
	}
	err = k.compare(ctx, "Sending datagrams to a free address, programs only", "datagrams/s", []arrangement{
		{"no programs", nil},
		{"programs there, 1 destination", far(1)},
		{"programs there, 5,000 destinations", far(5000)},
	}, func() (float64, error) {
		v, err := send(k.length)
		if err != nil || k.guard == nil {
			return v, err
		}
		// Apart from the timing: the statistics cost something themselves.
		one, err := k.egressTime(func() error { _, err := send(k.length / 4); return err })
		egress = append(egress, one)
		return v, err
	})
	fmt.Printf("The backstop's own time per packet, by the kernel's statistics (with their overhead), over these runs: %s.\n\n", strings.Join(egress, ", "))
	return err
}

// egressTime returns what a run of the backstop took while f ran.
func (k *kernelBench) egressTime(f func() error) (string, error) {
	l, err := link.LoadPinnedLink(filepath.Join(k.guard.Pins(), "link_egress"), nil)
	if err != nil {
		return "", err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return "", err
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return "", err
	}
	defer p.Close()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return "", err
	}
	defer stats.Close()
	before, err := p.Stats()
	if err != nil {
		return "", err
	}
	if err := f(); err != nil {
		return "", err
	}
	after, err := p.Stats()
	if err != nil || after.RunCount == before.RunCount {
		return "", errors.Join(err, errors.New("the backstop saw no packet"))
	}
	return fmt.Sprintf("%d ns", int64(after.Runtime-before.Runtime)/int64(after.RunCount-before.RunCount)), nil
}

// many keeps 10,000 turned connections open at once.
func (k *kernelBench) many(ctx context.Context) error {
	const connections = 10_000
	if err := k.down(); err != nil {
		return err
	}
	to := netip.MustParseAddrPort("198.18.0.1:5432")
	var err error
	if k.guard, err = redirect.Up(redirect.Config{Mode: "host", Port: k.port, Pins: k.pins, Destinations: far(5000)}); err != nil {
		return err
	}
	if k.open, err = k.guard.Listen(); err != nil {
		return err
	}
	var mu sync.Mutex
	var held []io.Closer
	for _, l := range k.open.TCP {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
			}
		}()
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// The other ends are in a process of their own: one has not descriptors
	// enough for both.
	client := exec.CommandContext(ctx, exe, "hold", strconv.Itoa(connections), to.String())
	client.Stderr = os.Stderr
	in, err := client.StdinPipe()
	if err != nil {
		return err
	}
	out, err := client.StdoutPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := client.Start(); err != nil {
		return err
	}
	defer func() {
		in.Close()
		_ = client.Wait()
	}()
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		return fmt.Errorf("%d connections at once: %w", connections, err)
	}
	took := time.Since(start)
	c, err := k.guard.Counters()
	if err != nil {
		return err
	}
	memory, err := k.memory()
	if err != nil {
		return err
	}
	fmt.Printf("### At once\n\n%d turned connections open at once, made in %.1f s: %d turned, %d handed over with their record. "+
		"The maps take %.1f MiB of kernel memory with 5,000 destinations (what the kernel says of each map; records of connections come besides, %d bytes each).\n\n",
		connections, took.Seconds(), c.Turned, c.Handed, float64(memory)/(1<<20), redirect.RecordSize)
	mu.Lock()
	defer mu.Unlock()
	for _, c := range held {
		c.Close()
	}
	return nil
}

// hold opens connections, says so, and keeps them until its input ends.
func hold(count, to string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range n {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// memory adds up what the kernel says of the pinned maps.
func (k *kernelBench) memory() (total uint64, err error) {
	entries, err := os.ReadDir(k.guard.Pins())
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		m, err := ebpf.LoadPinnedMap(filepath.Join(k.guard.Pins(), e.Name()), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			continue // a link
		}
		info, err := m.Info()
		if err == nil {
			if n, ok := info.Memlock(); ok {
				total += n
			}
		}
		m.Close()
	}
	return total, nil
}

// spaces opens the passage in 200 network namespaces.
func (k *kernelBench) spaces(ctx context.Context) error {
	const namespaces = 200
	var all []*os.File
	defer func() {
		for _, f := range all {
			f.Close()
		}
	}()
	for range namespaces {
		f, err := newSpace()
		if err != nil {
			return err
		}
		all = append(all, f)
	}
	start := time.Now()
	for _, ns := range all {
		p, err := k.guard.ListenIn(ns)
		if err != nil {
			return err
		}
		defer p.Close()
	}
	took := time.Since(start)
	start = time.Now()
	if _, err := k.guard.Sweep(); err != nil {
		return err
	}
	fmt.Printf("### Namespaces\n\nThe passage opened in %d network namespaces in %.0f ms, %.2f ms each; a sweep of all of them for older connections takes %.0f ms.\n\n",
		namespaces, float64(took.Milliseconds()), float64(took.Microseconds())/1000/namespaces, float64(time.Since(start).Milliseconds()))
	return ctx.Err()
}

// newSpace makes a network namespace that lasts as long as the file is open.
func newSpace() (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with its namespace
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
	}()
	<-done
	return f, err
}
