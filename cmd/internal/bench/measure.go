package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// measurement is one kind of work, done each way.
type measurement struct {
	name   string
	unit   string
	per    string // what the processor time is divided by
	higher bool   // is better
	run    func(ctx context.Context, w way) (value, count float64, err error)
}

// sample is one run.
type sample struct{ value, cpu float64 }

// rounds runs a measurement in turn over all ways, and prints its table.
func (b *bench) rounds(ctx context.Context, m *measurement) error {
	ways := b.ways()
	got := make([][]sample, len(ways))
	for range b.o.rounds {
		for i, w := range ways {
			s, err := b.once(ctx, m, w)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			got[i] = append(got[i], s)
		}
	}
	fmt.Printf("### %s\n\n| way | %s | of direct | CPU between, µs per %s |\n|---|---:|---:|---:|\n", m.name, m.unit, m.per)
	for i, w := range ways {
		var values, ratios, cpus []float64
		for k, s := range got[i] {
			values = append(values, s.value)
			ratio := s.value / got[0][k].value
			if !m.higher {
				ratio = got[0][k].value / s.value
			}
			ratios = append(ratios, ratio)
			cpus = append(cpus, s.cpu)
		}
		between := "-"
		if w.pid != nil {
			between = fmt.Sprintf("%.1f", median(cpus))
		}
		fmt.Printf("| %s | %s | %.2f | %s |\n", w.name, figure(median(values)), median(ratios), between)
	}
	fmt.Println()
	return nil
}

func (b *bench) once(ctx context.Context, m *measurement, w way) (sample, error) {
	var before time.Duration
	var pid int
	var err error
	if w.pid != nil {
		if pid, err = w.pid(); err != nil {
			return sample{}, err
		}
		if before, err = cpu(pid); err != nil {
			return sample{}, err
		}
	}
	value, count, err := m.run(ctx, w)
	if err != nil {
		return sample{}, err
	}
	s := sample{value: value}
	if w.pid != nil {
		after, err := cpu(pid)
		if err != nil {
			return s, err
		}
		s.cpu = float64((after - before).Microseconds()) / count
	}
	return s, nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (b *bench) measurements() []measurement {
	var out []measurement
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, clients := range []int{1, 8, 32} {
			out = append(out, b.pgbench(fmt.Sprintf("pgbench -S, %s, %d clients", mode, clients), "transactions/s", "transaction",
				"-S", "-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2))))
		}
	}
	out = append(out,
		b.script("a statement never seen before, 63 bytes", neverSeen(63)),
		b.script("a statement never seen before, 2 KB", neverSeen(2048)),
		b.script("1,000 rows of patients", "SELECT id, name, ssn, birth_date, city FROM clinic.patients WHERE id <= 1000"),
		b.bulk(fmt.Sprintf("%d rows, SELECT", b.o.rows), "SELECT * FROM public.wide"),
		b.bulk(fmt.Sprintf("%d rows, COPY", b.o.rows), "COPY public.wide TO STDOUT"),
		b.pgbench("new connections", "connections/s", "connection", "-S", "-C", "-c", "8", "-j", "2"),
	)
	return out
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench measures transactions per second.
func (b *bench) pgbench(name, unit, per string, args ...string) measurement {
	return measurement{name: name, unit: unit, per: per, higher: true, run: func(ctx context.Context, w way) (float64, float64, error) {
		argv := append([]string{"pgbench", "-n", "-T", strconv.Itoa(b.o.seconds)}, args...)
		out, err := b.output(ctx, w, argv...)
		if err != nil {
			return 0, 0, err
		}
		m := tps.FindSubmatch(out)
		if m == nil || bytes.Contains(out, []byte("aborted")) {
			return 0, 0, fmt.Errorf("pgbench: %s", out)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		n := regexp.MustCompile(`actually processed: (\d+)`).FindSubmatch(out)
		if err != nil || n == nil {
			return 0, 0, fmt.Errorf("pgbench: %s", out)
		}
		count, err := strconv.ParseFloat(string(n[1]), 64)
		return v, count, err
	}}
}

// neverSeen is a statement of about so many bytes that is another each time, also
// without its literals.
func neverSeen(size int) string {
	list := ""
	for i := 0; len(list) < size-63; i++ {
		list += fmt.Sprintf(", abalance + %d AS c%d", i, i)
	}
	return "\\set x random(1, 1000000000)\nSELECT abalance AS a:x" + list + " FROM pgbench_accounts WHERE aid = 1"
}

// script measures one statement over and over, by one client.
func (b *bench) script(name, sql string) measurement {
	file := filepath.Join(b.stand.Dir, "script.sql")
	m := b.pgbench(name, "statements/s", "statement", "-f", file, "-c", "1")
	inner := m.run
	m.run = func(ctx context.Context, w way) (float64, float64, error) {
		if err := os.WriteFile(file, []byte(sql+";\n"), 0o644); err != nil {
			return 0, 0, err
		}
		return inner(ctx, w)
	}
	return m
}

// bulk measures one large result by a client that only reads.
func (b *bench) bulk(name, sql string) measurement {
	return measurement{name: name, unit: "MB/s", per: "MB", higher: true, run: func(ctx context.Context, w way) (float64, float64, error) {
		out, err := b.output(ctx, w, "bench", "drain", sql)
		if err != nil {
			return 0, 0, err
		}
		var n, seconds float64
		if _, err := fmt.Sscan(string(out), &n, &seconds); err != nil {
			return 0, 0, fmt.Errorf("%w: %s", err, out)
		}
		return n / 1e6 / seconds, n / 1e6, nil
	}}
}

func (b *bench) output(ctx context.Context, w way, argv ...string) ([]byte, error) {
	cmd, err := w.command(ctx, argv...)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := stand.Run(cmd); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
