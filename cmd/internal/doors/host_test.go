package doors_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Ports that the host forwards to the server, and why they may not be.
const (
	dnatPort     = 7001
	redirectPort = 7002
)

// setUp makes the host: its loopback, a server in every protocol, a far
// namespace with another at the end of a wire, and forwarded ports.
func (h *host) setUp(t *testing.T) {
	t.Helper()
	var err error
	if h.dir, err = os.MkdirTemp("", "doors"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.dir) })
	h.programs = filepath.Join(h.dir, "attempts")
	err = errors.Join(
		os.Chmod(h.dir, 0o777), // agents make links in it
		os.Mkdir(filepath.Join(h.dir, "server"), 0o755),
		os.Mkdir(filepath.Join(h.dir, "allowed"), 0o777),
		os.CopyFS(filepath.Join(h.dir, "attempts"), os.DirFS(os.Getenv(attempts))), // where agents can enter
		os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("1543"), 0),         // with data in a first SYN, by all
		linkUp("lo"),
	)
	if err != nil {
		t.Fatal(err)
	}
	for i, ns := range []**os.File{&h.far, &h.served} {
		if *ns, err = newNamespace(func() error { return errors.Join(linkUp("lo"), serve(&h.ledger)) }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*ns).Close() })
		net := []int{0, 9}[i]
		if err := wire([]string{"near", "near9"}[i], prefix("10.77.%d.1/24", net), "away", prefix("10.77.%d.2/24", net), *ns); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{host: h}
	if err := errors.Join(serve(&h.ledger), serveLocally(&h.ledger, w.socketPath(), abstract, plainPort)); err != nil {
		t.Fatal(err)
	}
	if err := forward(); err != nil {
		t.Logf("no forwarded ports: %v", err) // their doors are then unverified
	}
}

// newNamespace makes a network namespace, and calls f in it.
func newNamespace(f func() error) (ns *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with this goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err == nil {
			err = f()
		}
	}()
	<-done
	return ns, err
}

// control calls f with a socket to configure interfaces by.
func control(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func linkUp(name string) error {
	return control(func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
			return fmt.Errorf("%s up: %w", name, err)
		}
		return nil
	})
}

func address(name string, at netip.Prefix) error {
	return control(func(fd int) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		err = errors.Join(r.SetInet4Addr(at.Addr().AsSlice()), unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r))
		err = errors.Join(err, r.SetInet4Addr(net.CIDRMask(at.Bits(), 32)), unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, r))
		if err != nil {
			return fmt.Errorf("address %s of %s: %w", at, name, err)
		}
		return linkUp(name)
	})
}

// Of linux/veth.h.
const vethInfoPeer = 1

// wire connects this network namespace with another by a veth pair.
func wire(near string, nearAt netip.Prefix, far string, farAt netip.Prefix, ns *os.File) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	info := make([]byte, unix.SizeofIfInfomsg)
	e := netlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, near)
	e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
		e.String(unix.IFLA_INFO_KIND, "veth")
		e.Nested(unix.IFLA_INFO_DATA, func(e *netlink.AttributeEncoder) error {
			e.Do(vethInfoPeer, func() ([]byte, error) {
				peer := netlink.NewAttributeEncoder()
				peer.String(unix.IFLA_IFNAME, far)
				peer.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
				b, err := peer.Encode()
				return append(info, b...), err
			})
			return nil
		})
		return nil
	})
	attrs, err := e.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl},
		Data:   append(append([]byte(nil), info...), attrs...),
	})
	if err != nil {
		return fmt.Errorf("wire %s to %s: %w", near, far, err)
	}
	return errors.Join(address(near, nearAt), within(ns, func() error { return address(far, farAt) }))
}

// forward has the host send two of its ports on to the server, as a container
// engine's published ports are.
func forward() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "doors", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	to := netip.MustParseAddrPort(near)
	for port, nat := range map[uint16][]expr.Any{
		dnatPort: {
			&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(to.Port())},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		},
		redirectPort: {
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(serverPort)},
			&expr.Redir{RegisterProtoMin: 1},
		},
	} {
		match := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(match, nat...)})
	}
	return c.Flush()
}

// unwire removes a wire, at both ends.
func unwire(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil // gone with its namespace
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], uint32(i.Index))
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELLINK, Flags: netlink.Request | netlink.Acknowledge}, Data: info,
	})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

func prefix(form string, n int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf(form, n)) }
