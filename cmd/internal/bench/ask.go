package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// ask has clients send so many statements a second together, each at its time
// whether or not those before it were slow, and prints how many were answered and
// the seconds that it took.
func ask(ctx context.Context, rate, clients, seconds string) error {
	var n [3]int
	for i, s := range []string{rate, clients, seconds} {
		var err error
		if n[i], err = strconv.Atoi(s); err != nil || n[i] <= 0 {
			return fmt.Errorf("%q must be a number above 0", s)
		}
	}
	conns := make([]*pgx.Conn, n[1])
	for i := range conns {
		c, err := pgx.Connect(ctx, "sslmode=disable")
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		// Prepared, so that what is measured has nothing but the statements in it.
		if _, err := c.Prepare(ctx, siemMark, "SELECT abalance AS "+siemMark+" FROM pgbench_accounts WHERE aid = $1"); err != nil {
			return err
		}
		conns[i] = c
	}
	began := time.Now()
	total, between := n[0]*n[2], time.Second/time.Duration(n[0])
	var next, answered atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() {
			for {
				k := next.Add(1) - 1
				if k >= int64(total) {
					return
				}
				time.Sleep(time.Until(began.Add(time.Duration(k) * between)))
				var balance int
				if errs[i] = c.QueryRow(ctx, siemMark, k%100_000+1).Scan(&balance); errs[i] != nil {
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println(answered.Load(), time.Since(began).Seconds())
	return nil
}
