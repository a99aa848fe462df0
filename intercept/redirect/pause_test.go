package redirect_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/redirect"
)

// handed is what became of connections that one Listener accepted and another
// was given.
type handed struct {
	Listeners []string
	Paused    int      // accepted, and nobody's
	Beyond    bool     // a paused one gave out a flow
	Adopted   []uint32 // who connected, as the other one knows it
	Resumed   []uint32 // and the first one, when it goes on
	Err       string
}

func init() {
	// handing N: a daemon that accepts N connections, hands them to another
	// Listener by descriptor, and goes on itself.
	roles["handing"] = func(args []string) any {
		drop()
		n, _ := strconv.Atoi(args[0])
		h, err := handing(n)
		if err != nil {
			h.Err = err.Error()
		}
		return h
	}
}

func handing(n int) (h handed, err error) {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return h, err
	}
	one := redirect.NewListener(nil, nil)
	defer one.Close()
	if err := one.Add("a/4", ln); err != nil {
		return h, err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil { // all have connected
		return h, err
	}
	lns, flows := one.Pause()
	for name := range lns {
		h.Listeners = append(h.Listeners, name)
	}
	h.Paused = len(flows)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := one.Accept(short); !errors.Is(err, context.DeadlineExceeded) {
		h.Beyond = true
	}
	two := redirect.NewListener(nil, nil)
	defer two.Close()
	for _, f := range flows {
		file, err := f.Conn.(*net.TCPConn).File()
		if err != nil {
			return h, err
		}
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return h, err
		}
		two.Adopt(c)
	}
	one.Resume()
	for range n {
		for l, pids := range map[*redirect.Listener]*[]uint32{one: &h.Resumed, two: &h.Adopted} {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			f, err := l.Accept(ctx)
			cancel()
			if err != nil {
				return h, err
			}
			*pids = append(*pids, f.Peer.TGID)
		}
	}
	return h, nil
}

// What was accepted and is nobody's yet is handed over with the kernel's
// record, and not lost where the hand-over comes to nothing.
func TestPauseHandsOver(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	g := up(t, config(t, dst))
	lns, err := g.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer lns.Close()
	files, err := lns.Files()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	const n = 5
	path, _ := g.DaemonCgroup()
	cmd := start(t, path, "handing", files[:1], strconv.Itoa(n))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	want := map[uint32]bool{}
	for range n {
		c := start(t, guarded, "dial", nil, "tcp", dst.String())
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		want[uint32(c.Process.Pid)] = true
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
	eventually(t, "all have connected", func() bool {
		c, err := g.Counters()
		return err == nil && c.Handed == n
	})
	time.Sleep(100 * time.Millisecond) // and are accepted
	fmt.Fprintln(in)
	var h handed
	if err := json.NewDecoder(r).Decode(&h); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if h.Err != "" || h.Paused != n || h.Beyond || len(h.Listeners) != 1 || h.Listeners[0] != "a/4" {
		t.Errorf("%+v", h)
	}
	for _, pids := range [][]uint32{h.Adopted, h.Resumed} {
		got := map[uint32]bool{}
		for _, pid := range pids {
			got[pid] = true
		}
		if len(pids) != n || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
