// Command bench measures what the passage costs: the same work done directly,
// through a plain TCP relay, pgbouncer, haproxy and sallyport, in turn, round after round,
// everything on (interception, identity, policy, evidence with fsync). It prints
// medians and ratios as Markdown. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch sub := ""; {
	case len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-"):
		sub = os.Args[1]
		err = helper(ctx, sub, os.Args[2:])
	default:
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// helper is what bench starts of itself.
func helper(ctx context.Context, name string, args []string) error {
	switch {
	case name == "relay" && len(args) == 2:
		return relay(ctx, args[0], args[1])
	case name == "drain" && len(args) == 1:
		return drain(ctx, args[0])
	case name == "hold" && len(args) == 2:
		return hold(args[0], args[1])
	case name == "record" && len(args) == 3:
		return record(ctx, args[0], args[1], args[2])
	case name == "ask" && len(args) == 3:
		return ask(ctx, args[0], args[1], args[2])
	case name == "fill" && len(args) == 4:
		return fill(ctx, args[0], args[1], args[2], args[3])
	case name == "slow":
		return runSlow(ctx, args)
	case name == "idle" && len(args) == 1:
		return idle(ctx, args[0])
	}
	return errors.New("unknown command: bench is started by make bench")
}

type options struct {
	rounds  int
	seconds int
	idle    int
	rows    int
	only    string
	alone   bool
}

func run(ctx context.Context) error {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; each measures every way once")
	flag.IntVar(&o.seconds, "seconds", 2, "length of one pgbench run")
	flag.IntVar(&o.idle, "idle", 300, "idle connections whose memory is measured")
	flag.IntVar(&o.rows, "rows", 1_000_000, "rows of the large results")
	flag.StringVar(&o.only, "only", "", "only the measurements whose name contains this; kernel for the programs alone, siem for the age of events, detectors, evidence, catalog or approvals for those (need no root)")
	flag.BoolVar(&o.alone, "no-recorder", false, "without the recorder, which else runs on the same machine")
	flag.Parse()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Printf("Measured on %s, %d processors, kernel %s, %s. Medians of %d rounds, all ways in turn.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), kernel(), runtime.Version(), o.rounds)
	if strings.Contains("detectors", o.only) {
		if runDetectors(o.rounds); o.only != "" {
			return nil
		}
	}
	if strings.Contains("kernel", o.only) {
		if err := runKernel(ctx, o.rounds); err != nil || o.only != "" {
			return err
		}
	}
	if strings.Contains("evidence", o.only) {
		if err := runEvidence(ctx, o.rounds); err != nil || o.only != "" {
			return err
		}
	}
	if strings.Contains("catalog", o.only) {
		if err := runCatalog(ctx, o.rounds); err != nil || o.only != "" {
			return err
		}
	}
	if strings.Contains("approvals", o.only) {
		if err := runApprovals(ctx, o.rounds); err != nil || o.only != "" {
			return err
		}
	}
	b := &bench{o: o}
	st, err := stand.Start(ctx, stand.Options{
		Bin: filepath.Dir(exe), Policy: []byte(benchPolicy), Patients: 20_000, MaxConnections: o.idle + 100, NoRecorder: o.alone,
		Configure: configure, Prepare: b.prepare,
		Waiting: func() { fmt.Fprintln(os.Stderr, "waiting for another stand on this host") },
	})
	if err != nil {
		return err
	}
	b.stand = st
	err = b.measure(ctx)
	return errors.Join(err, st.Stop())
}

func (b *bench) measure(ctx context.Context) error {
	for _, m := range b.measurements() {
		if !strings.Contains(m.name, b.o.only) {
			continue
		}
		if err := b.rounds(ctx, &m); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if strings.Contains("identity at connect", b.o.only) {
		if err := b.identity(ctx); err != nil {
			return err
		}
	}
	if strings.Contains("siem", b.o.only) {
		if err := b.siem(ctx); err != nil {
			return fmt.Errorf("siem: %w", err)
		}
	}
	if strings.Contains("idle connections", b.o.only) {
		return b.idle(ctx)
	}
	return nil
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	return version
}
