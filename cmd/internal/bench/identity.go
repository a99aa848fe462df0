package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// identity prints what it takes to prove whose a connection is, once the caches
// are warm: by the daemon's own histogram, over new connections of one workload.
func (b *bench) identity(ctx context.Context) error {
	run := func(seconds string) error {
		cmd := b.stand.Guarded(ctx, b.stand.Agents["agent-b"], "pgbench", "-n", "-S", "-C", "-c", "1", "-j", "1", "-T", seconds)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("pgbench: %w: %s", err, out)
		}
		return nil
	}
	if err := run("1"); err != nil {
		return err
	}
	before, err := b.bound(ctx)
	if err != nil {
		return err
	}
	if err := run(strconv.Itoa(b.o.rounds * b.o.seconds)); err != nil {
		return err
	}
	after, err := b.bound(ctx)
	if err != nil {
		return err
	}
	for i := range after {
		after[i].count -= before[i].count
	}
	fmt.Printf("### identity at connect\n\n%.0f connections of one workload, one after another: the median took %.0f µs, 99 %% took less than %.0f µs.\n\n",
		after[len(after)-1].count, 1e6*quantile(after, .5), 1e6*quantile(after, .99))
	return nil
}

// bucket counts what took at most so long, in seconds.
type bucket struct{ most, count float64 }

// bound reads the daemon's histogram.
func (b *bench) bound(ctx context.Context) (out []bucket, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.stand.Cfg.Metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	s := bufio.NewScanner(io.LimitReader(res.Body, 1<<20))
	for s.Scan() {
		line, ok := strings.CutPrefix(s.Text(), `sallyport_bind_seconds_bucket{le="`)
		most, count, cut := strings.Cut(line, `"} `)
		if !ok || !cut || most == "+Inf" {
			continue
		}
		var x bucket
		if x.most, err = strconv.ParseFloat(most, 64); err == nil {
			x.count, err = strconv.ParseFloat(count, 64)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the daemon's metrics have no sallyport_bind_seconds (%v)", s.Err())
	}
	return out, nil
}

// quantile is taken for linear between the bounds of a bucket.
func quantile(all []bucket, q float64) float64 {
	want := q * all[len(all)-1].count
	low := bucket{}
	for _, x := range all {
		if x.count >= want && x.count > low.count {
			return low.most + (x.most-low.most)*(want-low.count)/(x.count-low.count)
		}
		low = x
	}
	return low.most
}
