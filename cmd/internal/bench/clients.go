package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// relay is what any TCP relay in Go costs: io.Copy both ways.
func relay(ctx context.Context, listen, to string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer c.Close()
			s, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer s.Close()
			var wg sync.WaitGroup
			pipe := func(dst, src net.Conn) {
				_, _ = io.Copy(dst, src)
				_ = dst.(*net.TCPConn).CloseWrite()
			}
			wg.Go(func() { pipe(s, c) })
			wg.Go(func() { pipe(c, s) })
			wg.Wait()
		}()
	}
}

// drain runs one statement and reads its answer without looking at it. It
// prints the bytes and the seconds.
func drain(ctx context.Context, sql string) error {
	c, err := pgconn.Connect(ctx, "sslmode=disable")
	if err != nil {
		return err
	}
	h, err := c.Hijack()
	if err != nil {
		return err
	}
	defer h.Conn.Close()
	b := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(sql)+5))
	began := time.Now()
	if _, err := h.Conn.Write(append(append(b, sql...), 0)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(h.Conn, 256<<10)
	total := 0
	for {
		head, err := r.Peek(5)
		if err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[1:])) + 1
		typ := head[0]
		if typ == 'E' {
			body, _ := r.Peek(min(n, 300))
			return errors.New(strings.ReplaceAll(string(body), "\x00", " "))
		}
		if _, err := r.Discard(n); err != nil {
			return err
		}
		total += n
		if typ == 'Z' {
			fmt.Println(total, time.Since(began).Seconds())
			return nil
		}
	}
}

// idle holds so many connections open until its input ends.
func idle(ctx context.Context, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for range n {
		c, err := pgconn.Connect(ctx, "sslmode=disable")
		if err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
			return err
		}
		defer c.Close(ctx)
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// idle measures what a connection that does nothing costs between.
func (b *bench) idle(ctx context.Context) error {
	fmt.Printf("### idle connections\n\n| way | KiB of memory per connection (%d open) |\n|---|---:|\n", b.o.idle)
	for _, w := range b.ways()[1:] {
		pid, err := w.pid()
		if err != nil {
			return err
		}
		cmd, err := w.command(ctx, "bench", "idle", strconv.Itoa(b.o.idle))
		if err != nil {
			return err
		}
		before, err := rss(pid)
		if err != nil {
			return err
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		cmd.Stderr = os.Stderr
		if err := stand.Launch(cmd); err != nil {
			return err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "open\n" {
			return fmt.Errorf("%s: %q: %w", w.name, line, err)
		}
		time.Sleep(3 * time.Second)
		after, err := rss(pid)
		if err != nil {
			return err
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f |\n", w.name, float64(after-before)/float64(b.o.idle))
		time.Sleep(time.Second)
	}
	fmt.Println()
	return nil
}

// rss returns a process's resident memory in KiB.
func rss(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.Fields(v)[0])
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}
