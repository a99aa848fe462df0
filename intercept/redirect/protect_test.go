package redirect_test

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"testing"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

// What a guard protects changes without another Up: what is new is protected,
// with connections that are older, and what is gone is not.
func TestProtect(t *testing.T) {
	one, two := server(t, "127.0.0.1:0"), server(t, "127.0.0.1:0")
	g := up(t, config(t, one))
	if d := ask[dialled](t, guarded, "dial", "tcp", one.String()); !d.refused() {
		t.Fatalf("the first is not protected: %+v", d)
	}
	cmd := start(t, guarded, "hold", nil, two.String())
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(out)
	var before, after dialled
	if err := dec.Decode(&before); err != nil || before.Line != "direct" {
		t.Fatalf("before: %+v, %v", before, err)
	}
	swept, err := g.Protect(endpoints(one, two))
	if err != nil || len(swept) != 1 || swept[0].Destination != two {
		t.Fatalf("swept %+v, %v", swept, err)
	}
	in.Close()
	if err := dec.Decode(&after); err != nil || after.Errno == "" {
		t.Errorf("the older connection still works: %+v, %v", after, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, a := range []netip.AddrPort{one, two} {
		if d := ask[dialled](t, guarded, "dial", "tcp", a.String()); !d.refused() {
			t.Errorf("%s is not protected: %+v", a, d)
		}
	}
	// What the kernel's table can't hold changes nothing.
	var many []intercept.Destination
	for p := range uint16(100) {
		many = append(many, intercept.Endpoint(netip.AddrPortFrom(two.Addr(), 1000+2*p)))
	}
	if _, err := g.Protect(many); err == nil {
		t.Error("100 ranges of ports fit")
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", one.String()); !d.refused() {
		t.Errorf("after what was refused: %+v", d)
	}
	if _, err := g.Protect(endpoints(two)); err != nil {
		t.Fatal(err)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", one.String()); d.Line != "direct" {
		t.Errorf("what is not protected any more: %+v", d)
	}
	if d := ask[dialled](t, guarded, "dial", "tcp", two.String()); !d.refused() {
		t.Errorf("what still is: %+v", d)
	}
}

func TestRemotes(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		to := server(t, address)
		seen := func() bool {
			t.Helper()
			var all []netip.AddrPort
			if err := redirect.Remotes(func(a netip.AddrPort) { all = append(all, a) }); err != nil {
				t.Fatal(err)
			}
			return slices.Contains(all, to)
		}
		if seen() {
			t.Errorf("%s: a connection that is not there", to)
		}
		c, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		if !seen() {
			t.Errorf("%s: the connection is not seen", to)
		}
		c.Close()
		eventually(t, "the connection is gone", func() bool { return !seen() })
	}
}
