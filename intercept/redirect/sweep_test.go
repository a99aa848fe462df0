package redirect_test

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"sallyport.dev/sallyport/intercept/redirect"
)

// A connection to another local address of a protected one is dropped by the
// backstop, and so it is ended with the others.
func TestOlderConnectionToAnAliasIsSwept(t *testing.T) {
	for _, dialled := range []string{"127.0.0.2", "::1"} {
		t.Run(dialled, func(t *testing.T) {
			port := server(t, "[::]:0").Port()
			dst := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
			alias := netip.AddrPortFrom(netip.MustParseAddr(dialled), port)
			cfg := config(t, dst)
			g := up(t, redirect.Config{Mode: "cgroup", Port: cfg.Port, Pins: cfg.Pins, Covered: cfg.Covered})
			cmd := start(t, guarded, "hold-tcp", nil, alias.String())
			in, _ := cmd.StdinPipe()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
			dec := json.NewDecoder(out)
			var before, after string
			if err := dec.Decode(&before); err != nil || before != "direct\n" {
				t.Fatalf("before: %q, %v", before, err)
			}
			if s, err := g.Swept(); err != nil || len(s) != 0 {
				t.Fatalf("swept without destinations: %v, %v", s, err)
			}
			swept, err := up(t, cfg).Swept()
			if err != nil || len(swept) != 1 || swept[0].Destination != alias || swept[0].Process == nil {
				t.Errorf("swept %+v, %v", swept, err)
			}
			in.Close()
			if err := dec.Decode(&after); err != nil || after == "" {
				t.Errorf("its end: %q, %v", after, err)
			}
		})
	}
}

func init() {
	// hold-tcp ADDRESS: connects, tells what it reads, and when its input has
	// ended why it can't write.
	roles["hold-tcp"] = func(args []string) any {
		drop()
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		b := make([]byte, 64)
		n, err := c.Read(b)
		if err != nil {
			return err.Error()
		}
		_ = json.NewEncoder(os.Stdout).Encode(string(b[:n]))
		_, _ = io.Copy(io.Discard, os.Stdin)
		if _, err := c.Write([]byte("SELECT ssn FROM patients")); err != nil {
			return err.Error()
		}
		return ""
	}
}

// A connection that has ended, and whose number the kernel keeps for a while,
// is nobody's: it is not taken for one that goes round the guard.
func TestEndedConnectionIsNotSwept(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	cfg := config(t, dst)
	cfg.Mode = "host"
	c, err := net.Dial("tcp", dst.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	// The client ends first, and so the kernel keeps its side.
	c.Close()
	kept := func() (found bool) {
		if err := redirect.Remotes(func(a netip.AddrPort) { found = found || a == dst }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if !kept() {
		t.Fatal("the kernel keeps nothing of the connection")
	}
	swept, err := up(t, cfg).Swept()
	if err != nil {
		t.Error(err)
	}
	for _, b := range swept {
		if b.Destination == dst {
			t.Errorf("told as destroyed: %+v", b)
		}
	}
}
