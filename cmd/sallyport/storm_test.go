package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// stormCommand makes the test binary a client: ADDRESS RATE COUNT EACH. It
// connects COUNT times, RATE times a second or as fast as the host lets it. Each
// EACH-th is a session: login, a statement, its end. The others ask the
// passage whether it speaks TLS, which it answers once it knows whose they are.
const stormCommand = "storm"

// So many are under way at most. A slow host does not get more before it than
// it can answer in the time that a take-over gives: that would fail for the host.
const (
	stormProbes   = 200
	stormSessions = 16
)

// stormed is what it prints.
type stormed struct {
	Started, Probes, Sessions int
	Seconds                   float64 // from the first connect to the last one's begin
	Slowest                   float64 // seconds to a connection's end
	Failed                    int
	Errors                    []string // some of them
}

func storm(args []string) int {
	addr := args[0]
	rate, _ := strconv.Atoi(args[1])
	count, _ := strconv.Atoi(args[2])
	each, _ := strconv.Atoi(args[3])
	var s stormed
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	probes, sessions := make(chan struct{}, stormProbes), make(chan struct{}, stormSessions)
	for n := range count {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		session, under := n%each == 0, probes
		if session {
			under = sessions
		}
		under <- struct{}{}
		s.Started++
		wg.Go(func() {
			defer func() { <-under }()
			start := time.Now()
			err := once(addr, session)
			took := time.Since(start).Seconds()
			mu.Lock()
			defer mu.Unlock()
			s.Slowest = max(s.Slowest, took)
			switch {
			case err != nil:
				if s.Failed++; len(s.Errors) < 10 {
					s.Errors = append(s.Errors, fmt.Sprintf("after %.3f s: %v", took, err))
				}
			case session:
				s.Sessions++
			default:
				s.Probes++
			}
		})
	}
	s.Seconds = time.Since(began).Seconds()
	wg.Wait()
	_ = json.NewEncoder(os.Stdout).Encode(s)
	return 0
}

func once(addr string, session bool) error {
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if session {
		return converse(c)
	}
	b := []byte{0, 0, 0, 8, 4, 210, 22, 47} // SSLRequest
	if _, err := c.Write(b); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return err
	}
	if b[0] != 'N' && b[0] != 'S' {
		return fmt.Errorf("answer %q to a question about TLS", b[0])
	}
	_ = c.(*net.TCPConn).SetLinger(0) // no port is kept waiting
	return nil
}

// converse logs in, asks once, and leaves.
func converse(c net.Conn) error {
	hello := append(binary.BigEndian.AppendUint32(nil, 3<<16), "user\x00postgres\x00database\x00postgres\x00\x00"...)
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(hello)+4)), hello...)); err != nil {
		return err
	}
	if _, err := untilReady(c); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	q := "select 40+2\x00"
	if _, err := c.Write(append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(q)+4)), q...)); err != nil {
		return err
	}
	row, err := untilReady(c)
	if err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if row != "42" {
		return fmt.Errorf("the answer is %q", row)
	}
	if _, err := c.Write([]byte{'X', 0, 0, 0, 4}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

// untilReady reads up to ReadyForQuery, and returns the only column of a row.
func untilReady(c net.Conn) (row string, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return "", err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(c, body); err != nil {
			return "", err
		}
		switch head[0] {
		case 'Z':
			return row, nil
		case 'E':
			return "", errors.New(string(body))
		case 'D':
			row = string(body[6:])
		}
	}
}

// stormer is a copy of the test binary that an agent's account may run.
func (h *host) stormer() string {
	h.t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		h.t.Fatal(err)
	}
	path := h.dir + "/storm"
	if err := os.WriteFile(path, b, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// storming starts a storm at the guarded server; its end is told to the channel.
func (h *host) storming(token string, rate, count, each int) <-chan stormed {
	h.t.Helper()
	cmd := h.agent(token, h.stormer(), stormCommand, h.server, strconv.Itoa(rate), strconv.Itoa(count), strconv.Itoa(each))
	var errs syncBuffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	c := make(chan stormed, 1)
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func(t *testing.T) {
		defer close(c)
		var s stormed
		err := json.NewDecoder(out).Decode(&s)
		if werr := cmd.Wait(); err != nil || werr != nil {
			t.Errorf("storm: %v, %v: %s", err, werr, &errs)
			return
		}
		c <- s
	}(h.t)
	return c
}
