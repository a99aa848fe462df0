package redirect_test

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/redirect"
)

// A guard that observes turns what it can, reports what it would refuse, and
// stands in nobody's way: not in that of what it can't turn, of older
// connections, or of all when there is no daemon.
func TestObserve(t *testing.T) {
	dst := server(t, "127.0.0.1:0")
	older, err := net.Dial("tcp", dst.String())
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	cfg := config(t, dst)
	cfg.Mode, cfg.Observe = "host", true
	p := open(t, cfg)
	if swept, err := p.Swept(); err != nil || len(swept) > 0 {
		t.Errorf("ended %v, %v", swept, err)
	}
	seen := attempts(t, p.Guard)

	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Errno != "" || d.Line == "direct" || d.Peername != dst.String() {
		t.Errorf("not turned: %+v", d)
	}
	alias := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), dst.Port()).String()
	for _, c := range []struct {
		kind, to string
		reason   redirect.Reason
	}{
		{"udp", dst.String(), 0},
		{"udp-send", dst.String(), redirect.ReasonDatagram},
	} {
		// Nobody listens there: what comes back is the kernel's own answer.
		if d := ask[dialled](t, guarded, "dial", c.kind, c.to); d.refused() {
			t.Errorf("%s: %+v", c.kind, d)
		}
		if c.reason != 0 {
			expect(t, seen, c.reason)
		}
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", alias); d.Errno != unix.ECONNREFUSED.Error() {
		t.Errorf("another local address, where nobody listens: %+v", d)
	}
	expect(t, seen, redirect.ReasonAlias)
	if e := ask[string](t, guarded, "socket", "2", "3", "6"); e != "" {
		t.Errorf("raw socket: %s", e)
	}
	expect(t, seen, redirect.ReasonSocket)

	// It is older than the guard, and its packets are only told of.
	older.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := older.Write([]byte("more")); err != nil {
		t.Error(err)
	}
	expect(t, seen, redirect.ReasonPacket)
	if b, err := io.ReadAll(io.LimitReader(older, int64(len("direct\n")))); string(b) != "direct\n" {
		t.Errorf("an older connection: %q, %v", b, err)
	}

	// The passage's own port stays the loader's, and is no service.
	if e := ask[string](t, guarded, "bind", "127.0.0.1:"+strconv.Itoa(int(p.port))); e == "" {
		t.Error("the passage's port can be bound")
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", "127.0.0.1:"+strconv.Itoa(int(p.port))); !d.refused() {
		t.Errorf("the passage dialled: %+v", d)
	}

	p.daemon.Process.Kill()
	p.daemon.Wait()
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Line != "direct" {
		t.Errorf("without a daemon: %+v", d)
	}
	expect(t, seen, redirect.ReasonNoListener)
	if err := p.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); d.Line != "direct" {
		t.Errorf("without a passage: %+v", d)
	}
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || !s.Observes {
		t.Errorf("status %+v, %v", s, err)
	}

	// The same guard, once it enforces.
	cfg.Observe = false
	g := up(t, cfg)
	if swept, err := g.Swept(); err != nil || len(swept) == 0 {
		t.Errorf("the older connection is still there: %v, %v", swept, err)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", dst.String()); !d.refused() {
		t.Errorf("enforcing, without a daemon: %+v", d)
	}
	if s, err := redirect.GetStatus(cfg.Pins); err != nil || s.Observes {
		t.Errorf("status %+v, %v", s, err)
	}
}
