package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// command is what a stage runs, in a folder of the repository. It ends with
// ctx: first it is asked to.
func (s *suite) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "TMPDIR="+s.tmp, "SALLYPORT_TEST_ALL=1", "MAKEFLAGS=", "MAKELEVEL=")
	cmd.Stdout, cmd.Stderr = s.out, s.out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// show runs a command that prints only what is wrong.
func (s *suite) show(cmd *exec.Cmd) error {
	if err := s.children.run(cmd); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// output runs a command and returns what it printed.
func (s *suite) output(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	err := s.show(cmd)
	return out.String(), err
}

// children are the processes that this one has started, and the orphans among
// their descendants, which the kernel gives to it.
type children struct {
	mu  sync.Mutex
	own map[int]bool
}

// adopt makes this process the parent of orphans, so that a process which
// outlives its test is found, and buries those that have ended.
func (c *children) adopt() error {
	c.own = map[int]bool{}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	go func() {
		for range dead {
			c.orphans()
		}
	}()
	return nil
}

// run is cmd.Run.
func (c *children) run(cmd *exec.Cmd) error {
	if err := c.start(cmd); err != nil {
		return err
	}
	return c.wait(cmd)
}

func (c *children) start(cmd *exec.Cmd) error {
	c.mu.Lock() // orphans must not take it for one of its own
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	c.own[cmd.Process.Pid] = true
	return nil
}

func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own, cmd.Process.Pid)
	return err
}

// orphans returns those that live, by pid, and what they are.
func (c *children) orphans() map[int]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive := map[int]string{}
	self := []byte(" " + strconv.Itoa(os.Getpid()) + " ")
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || c.own[pid] {
			continue
		}
		// The name may hold anything; state and parent follow it.
		stat, _ := os.ReadFile(filepath.Join(p, "stat"))
		if i := bytes.LastIndexByte(stat, ')'); i < 0 || !bytes.HasPrefix(stat[min(i+3, len(stat)):], self) {
			continue
		}
		if got, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == 0 {
			line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
			alive[pid] = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return alive
}

// left waits a moment for orphans to end, kills what stays and tells it.
func (c *children) left() error {
	var errs []error
	alive := c.orphans()
	for range 150 {
		if len(alive) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
		alive = c.orphans()
	}
	for pid, line := range alive {
		errs = append(errs, fmt.Errorf("left behind: process %d (%s)", pid, line))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return errors.Join(errs...)
}

// lines calls f for each line that r has, however long.
func lines(r io.Reader, f func([]byte)) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			f(bytes.TrimSuffix(line, []byte("\n")))
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
