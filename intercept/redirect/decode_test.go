package redirect

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"sallyport.dev/sallyport/bpf"
)

func head(t testing.TB, r bpf.GuardReport) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodePacket(t *testing.T) {
	ip4 := []byte{0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x15, 0x38, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0}
	r := bpf.GuardReport{Reason: 1, Proto: 6, Length: 44, Captured: uint32(len(ip4))}
	copy(r.Head[:], ip4)
	got, err := parseReport(head(t, r))
	if err != nil {
		t.Fatal(err)
	}
	b := bypassOf(&got, time.Now())
	if b.Source != netip.MustParseAddrPort("10.0.0.1:12345") || b.Destination != netip.MustParseAddrPort("10.0.0.2:5432") ||
		b.Transport != "tcp" || b.Process != nil || b.Bytes != 44 {
		t.Errorf("%+v", b)
	}
	if _, err := parseReport(make([]byte, 10)); err == nil {
		t.Error("a short report: no error")
	}
}

// The head of a packet is the agent's to choose.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39}, uint32(128))
	f.Add([]byte{0x60, 0, 0, 0, 0, 8, 17, 64}, uint32(8))
	f.Add([]byte{}, uint32(1<<31))
	f.Fuzz(func(t *testing.T, packet []byte, captured uint32) {
		r := bpf.GuardReport{Proto: 6, Captured: captured}
		copy(r.Head[:], packet)
		got, err := parseReport(head(t, r))
		if err != nil {
			t.Fatal(err)
		}
		_ = bypassOf(&got, time.Now())
	})
}

// Netlink's answers come from the kernel, but their lengths are believed nowhere.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(make([]byte, 120))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = answers(b, func(*diagMsg) {})
	})
}

func TestAddressesKeepTheirForm(t *testing.T) {
	for _, s := range []string{"127.0.0.1:5432", "[::1]:5432", "[2001:db8::1]:1", "10.1.2.3:65535"} {
		a := netip.MustParseAddrPort(s)
		if got := addrPort(endpoint(a)); got != a {
			t.Errorf("%s became %s", a, got)
		}
	}
}
