package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// unnumbered is what namespaces are that have no number in another.
const unnumbered = unix.NETNSA_NSID_NOT_ASSIGNED

// skipFigures is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const skipFigures = 1 << 3

// iface is an interface of this network namespace.
type iface struct {
	index    int
	name     string
	kind     string // "veth", ...; "" for a device
	loopback bool
	link     int   // index of the other end, or of what is below
	in       int32 // the namespace that has it, by its number in this one; unnumbered: this one
}

func route() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	return c, nil
}

// interfaces lists those of a kind, "" for all.
func interfaces(c *netlink.Conn, kind string) (all []iface, err error) {
	// The kernel leaves out what it is told to: other kinds, and figures.
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_EXT_MASK, skipFigures)
	if kind != "" {
		e.Nested(unix.IFLA_LINKINFO, func(e *netlink.AttributeEncoder) error {
			e.String(unix.IFLA_INFO_KIND, kind)
			return nil
		})
	}
	attributes, err := e.Encode()
	if err != nil {
		return nil, err
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   append(make([]byte, unix.SizeofIfInfomsg), attributes...),
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, m := range answers {
		i, err := ifaceOf(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		if kind == "" || i.kind == kind {
			all = append(all, i)
		}
	}
	return all, nil
}

func ifaceOf(b []byte) (i iface, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return i, errors.New("an answer is cut short")
	}
	i.index, i.in = int(int32(binary.NativeEndian.Uint32(b[4:]))), unnumbered
	i.loopback = binary.NativeEndian.Uint16(b[2:]) == unix.ARPHRD_LOOPBACK
	d, err := netlink.NewAttributeDecoder(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return i, err
	}
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_IFNAME:
			i.name = d.String()
		case unix.IFLA_LINK:
			i.link = int(d.Uint32())
		case unix.IFLA_LINK_NETNSID:
			i.in = d.Int32()
		case unix.IFLA_LINKINFO:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					if d.Type() == unix.IFLA_INFO_KIND {
						i.kind = d.String()
					}
				}
				return nil
			})
		}
	}
	return i, d.Err()
}

// namespaceID returns the number that this network namespace has for another,
// which is given one if it has none. It is the other's as long as that lives.
func namespaceID(ns *os.File) (int32, error) {
	c, err := route()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	id, err := numberOf(c, ns)
	if err != nil || id != unnumbered {
		return id, err
	}
	err = ask(c, unix.RTM_NEWNSID, netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NETNSA_FD, uint32(ns.Fd()))
		e.Int32(unix.NETNSA_NSID, unnumbered) // any
	}, nil)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("number a network namespace: %w", err)
	}
	if id, err = numberOf(c, ns); err == nil && id == unnumbered {
		err = errors.New("a network namespace could not be numbered")
	}
	return id, err
}

func numberOf(c *netlink.Conn, ns *os.File) (id int32, err error) {
	id = unnumbered
	err = ask(c, unix.RTM_GETNSID, 0, func(e *netlink.AttributeEncoder) { e.Uint32(unix.NETNSA_FD, uint32(ns.Fd())) },
		func(kind uint16, d *netlink.AttributeDecoder) {
			if kind == unix.NETNSA_NSID {
				id = d.Int32()
			}
		})
	if err != nil {
		return id, fmt.Errorf("number of a network namespace: %w", err)
	}
	return id, nil
}

// ask sends a request about namespaces, and reads the attributes of its answer.
func ask(c *netlink.Conn, kind netlink.HeaderType, flags netlink.HeaderFlags, with func(*netlink.AttributeEncoder), each func(uint16, *netlink.AttributeDecoder)) error {
	const generic = 4 // struct rtgenmsg, padded
	e := netlink.NewAttributeEncoder()
	with(e)
	b, err := e.Encode()
	if err != nil {
		return err
	}
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append(make([]byte, generic), b...),
	})
	if err != nil || each == nil {
		return err
	}
	for _, m := range answers {
		if len(m.Data) < generic {
			return errors.New("an answer is cut short")
		}
		d, err := netlink.NewAttributeDecoder(m.Data[generic:])
		if err != nil {
			return err
		}
		for d.Next() {
			each(d.Type(), d)
		}
		if err := d.Err(); err != nil {
			return err
		}
	}
	return nil
}

// LinkReader tells that interfaces of this network namespace have changed.
type LinkReader struct{ c *netlink.Conn }

// Links returns a reader of changes from now on.
func Links() (*LinkReader, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return nil, fmt.Errorf("follow interfaces: %w", err)
	}
	return &LinkReader{c}, nil
}

// Read waits for changes. What they are must be looked up: some may be lost
// where they are many. After Close it returns os.ErrClosed.
func (r *LinkReader) Read() error {
	_, err := r.c.Receive()
	switch {
	case err == nil, errors.Is(err, unix.ENOBUFS):
		return nil
	case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF):
		return os.ErrClosed
	}
	return fmt.Errorf("follow interfaces: %w", err)
}

// Close ends Read.
func (r *LinkReader) Close() error { return r.c.Close() }
