package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of linux/pkt_sched.h, linux/rtnetlink.h and linux/pkt_cls.h. Kernels before
// 6.6 have no tcx: there a filter at the interface does the same. It has no
// pin, and stays until it is taken away.
const (
	clsactParent = 0xffff_fff1 // TC_H_CLSACT
	clsactHandle = 0xffff_0000
	atIngress    = 0xffff_fff2
	atEgress     = 0xffff_fff3

	tcaKind      = 1
	tcaOptions   = 2
	tcaBPFFD     = 6
	tcaBPFName   = 7
	tcaBPFFlags  = 8
	tcaBPFID     = 11
	directAction = 1

	filterName     = "sallyport"
	filterHandle   = 0x5350 // others at this priority have other ones
	filterPriority = 1
)

var errForeign = errors.New("a filter of somebody else stands in its place (tc filter show)")

// tcMessage is a request about what stands at an interface.
func tcMessage(kind netlink.HeaderType, flags netlink.HeaderFlags, index int, handle, parent, info uint32, with func(*netlink.AttributeEncoder)) (netlink.Message, error) {
	b := make([]byte, 20) // struct tcmsg
	for i, v := range []uint32{uint32(index), handle, parent, info} {
		binary.NativeEndian.PutUint32(b[4+4*i:], v)
	}
	e := netlink.NewAttributeEncoder()
	if with != nil {
		with(e)
	}
	attributes, err := e.Encode()
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append(b, attributes...)}, err
}

func tc(kind netlink.HeaderType, flags netlink.HeaderFlags, index int, handle, parent, info uint32, with func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	m, err := tcMessage(kind, flags, index, handle, parent, info, with)
	if err != nil {
		return nil, err
	}
	c, err := route()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Execute(m)
}

// ours is the priority and protocol (all, in network order) of our filter.
func ours() uint32 {
	return filterPriority<<16 | uint32(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
}

// installFilter has prog look at an interface's frames; true if it did not.
func installFilter(index int, prog *ebpf.Program) (fresh bool, err error) {
	info, err := prog.Info()
	if err != nil {
		return false, err
	}
	id, _ := info.ID()
	at, err := filterAt(index)
	switch {
	case err == nil && at == id:
		return false, nil
	case err != nil && !errors.Is(err, errDetached):
		return false, err
	}
	fresh = err != nil
	_, err = tc(unix.RTM_NEWQDISC, netlink.Acknowledge|netlink.Create|netlink.Excl, index, clsactHandle, clsactParent, 0,
		func(e *netlink.AttributeEncoder) { e.String(tcaKind, "clsact") })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("make its clsact: %w", err)
	}
	_, err = tc(unix.RTM_NEWTFILTER, netlink.Acknowledge|netlink.Create, index, filterHandle, atIngress, ours(),
		func(e *netlink.AttributeEncoder) {
			e.String(tcaKind, "bpf")
			e.Nested(tcaOptions, func(e *netlink.AttributeEncoder) error {
				e.Uint32(tcaBPFFD, uint32(prog.FD()))
				e.String(tcaBPFName, filterName)
				e.Uint32(tcaBPFFlags, directAction)
				return nil
			})
		})
	if err != nil {
		return false, fmt.Errorf("make its filter: %w", err)
	}
	return fresh, nil
}

// filterAt returns the program of our filter at an interface; errDetached where
// there is none.
func filterAt(index int) (id ebpf.ProgramID, err error) {
	answers, err := tc(unix.RTM_GETTFILTER, 0, index, filterHandle, atIngress, ours(), nil)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // no such filter, no clsact
		return 0, errDetached
	case err != nil:
		return 0, err
	}
	name := ""
	for _, m := range answers {
		if len(m.Data) < 20 {
			return 0, errors.New("an answer is cut short")
		}
		d, err := netlink.NewAttributeDecoder(m.Data[20:])
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if d.Type() != tcaOptions {
				continue
			}
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					switch d.Type() {
					case tcaBPFName:
						name = d.String()
					case tcaBPFID:
						id = ebpf.ProgramID(d.Uint32())
					}
				}
				return nil
			})
		}
		if err := d.Err(); err != nil {
			return 0, err
		}
	}
	if name != filterName {
		return 0, errForeign
	}
	return id, nil
}

// removeFilter takes it away, and the interface's clsact where nobody else has
// a filter there.
func removeFilter(index int) error {
	if _, err := filterAt(index); errors.Is(err, errDetached) || errors.Is(err, errForeign) || errors.Is(err, unix.ENODEV) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := tc(unix.RTM_DELTFILTER, netlink.Acknowledge, index, filterHandle, atIngress, ours(), nil); err != nil {
		return fmt.Errorf("remove its filter: %w", err)
	}
	for _, parent := range []uint32{atIngress, atEgress} {
		rest, err := tc(unix.RTM_GETTFILTER, netlink.Dump, index, 0, parent, 0, nil)
		if err != nil || len(rest) > 0 {
			return err
		}
	}
	_, err := tc(unix.RTM_DELQDISC, netlink.Acknowledge, index, clsactHandle, clsactParent, 0, nil)
	return err
}
